"""Names chosen by a guest: shown without harm, and never a way out of the folder that files are saved in."""

from __future__ import annotations

import json
import os
import resource
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.errors import StorageError
from bichat.files import save_files
from bichat.names import display_name, printable, safe_file_name

HOSTILE_NAMES = [
    "../../etc/passwd",
    "..",
    "/etc/passwd",
    "....//x",
    "a/../../x",
    "..\\..\\x",
    "C:\\Windows\\x.ini",
    "line\nbreak.csv",
    "\x1b]0;owned\x07.txt",
    "\u202egnp.exe",
    "CON",
    "nul.txt",
    "com1.tar.gz",
    "LPT¹",
    "trailing. . ",
    " ",
    ".",
    "",
    ".bashrc",
    ".git/hooks/post-commit",
    "é" * 300 + ".csv",
    "x" * 250 + ".parquet",
    "/".join(["deep" * 50] * 32),
    "NUL /x",
    'a:b?c*d|e<f>g"h',
]


def _files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def test_a_name_that_is_not_utf8_is_shown_with_its_bytes_and_survives_json():
    name = display_name(b"r\xe9sum\xe9.csv")

    assert name == "r\\xe9sum\\xe9.csv"
    assert json.loads(json.dumps(name)) == name


@given(st.binary(max_size=300))
def test_any_path_becomes_valid_unicode(path: bytes):
    assert json.loads(json.dumps(display_name(path)).encode("utf-8")) == display_name(path)


def test_a_terminal_never_sees_escapes_or_reordering_from_a_name():
    assert printable("\x1b[31mred\x07\u202egnp.\n") == "\\x1b[31mred\\x07\\u202egnp.\\n"


def test_names_in_every_script_are_shown_as_they_are():
    names = "отчёт.csv 売上.png تقرير.pdf बिक्री.xlsx می‌خواهم 👩‍💻"

    assert printable(names) == names


def test_line_breaks_stay_where_the_caller_keeps_them():
    assert printable("a\tb\nc\x1b", keep="\n\t") == "a\tb\nc\\x1b"


@given(st.text())
def test_nothing_that_is_made_printable_can_steer_a_terminal(text: str):
    shown = printable(text)

    assert not {unicodedata.category(char) for char in shown if char not in "\u200c\u200d"} & {"Cc", "Cf", "Cs"}


def _assert_harmless(path: str) -> None:
    for part in path.split("/"):
        assert part not in ("", ".", "..")
        assert len(part.encode()) <= 255
        assert not set(part) & set('\\:*?"<>|')
        assert not any(unicodedata.category(char) in {"Cc", "Cs"} for char in part)
        assert not part.startswith((".", " "))
        assert not part.endswith((".", " "))
        assert part.split(".")[0].rstrip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "LPT¹"}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_becomes_a_harmless_one(name: str):
    safe = safe_file_name(name)

    assert not safe.is_absolute()
    _assert_harmless(str(safe))


@given(st.text(st.characters(codec=None) | st.sampled_from("./\\ :\n"), max_size=600))
def test_any_text_becomes_a_harmless_relative_path(name: str):
    _assert_harmless(str(safe_file_name(name)))


def test_ordinary_names_keep_their_folders_and_spelling():
    assert str(safe_file_name("plots/Umsatz Süd (2024).tar.gz")) == "plots/Umsatz Süd (2024).tar.gz"


def test_a_cut_name_keeps_its_extension_and_differs_from_its_neighbour():
    first, second = safe_file_name("x" * 254 + "1.csv"), safe_file_name("x" * 254 + "2.csv")

    assert first.suffix == second.suffix == ".csv"
    assert first != second


def test_hostile_names_are_all_written_and_nothing_lands_outside_the_folder(tmp_path: Path):
    out = tmp_path / "a" / "out"

    saved = save_files([(name, [name.encode("utf-8", "replace")]) for name in HOSTILE_NAMES], out)

    assert _files_below(tmp_path) == set(saved)
    assert len(set(saved)) == len(HOSTILE_NAMES)
    assert all(path.is_relative_to(out) for path in saved)
    assert [path.read_bytes() for path in saved] == [name.encode("utf-8", "replace") for name in HOSTILE_NAMES]


def test_names_that_a_disk_without_case_would_mix_up_are_kept_apart(tmp_path: Path):
    names = ["Plot.png", "plot.PNG", "PLOT.png", "é.csv", "e\u0301.csv", "a", "A/b", "a/B", "x:y", "x?y"]

    saved = save_files([(name, [b"."]) for name in names], tmp_path)

    folded = {unicodedata.normalize("NFC", str(path)).casefold() for path in saved}
    assert len(folded) == len(names)
    assert saved[1] == tmp_path / "plot (2).PNG"
    assert saved[6:8] == (tmp_path / "A (2)" / "b", tmp_path / "A (2)" / "B (2)")


def test_a_symlink_in_the_place_of_a_file_is_replaced_and_its_target_kept(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    out = tmp_path / "out"
    out.mkdir()
    (out / "chart.png").symlink_to(secret)

    save_files([("chart.png", [b"chart"])], out)

    assert secret.read_text() == "untouched"
    assert not (out / "chart.png").is_symlink()
    assert (out / "chart.png").read_bytes() == b"chart"


def test_a_symlink_in_the_place_of_a_subfolder_is_an_error_and_not_followed(tmp_path: Path):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / "plots").symlink_to(elsewhere)

    with pytest.raises(StorageError) as caught:
        save_files([("plots/a.png", [b"a"])], out)

    assert caught.value.stage == "save"
    assert list(elsewhere.iterdir()) == []


def test_a_file_from_the_run_before_is_replaced(tmp_path: Path):
    save_files([("a.csv", [b"long before"])], tmp_path)

    save_files([("a.csv", [b"now"])], tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.csv": b"now"}


def test_files_get_the_permissions_that_the_umask_leaves(tmp_path: Path):
    before = os.umask(0o027)
    try:
        (saved,) = save_files([("a.csv", [b"."])], tmp_path / "out")
    finally:
        os.umask(before)

    assert stat.S_IMODE(saved.stat().st_mode) == 0o640
    assert stat.S_IMODE(saved.parent.stat().st_mode) == 0o750


def test_a_disk_that_is_full_leaves_no_half_written_file_and_keeps_the_old_one(tmp_path: Path):
    (tmp_path / "a.csv").write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError) as caught:
            save_files([("a.csv", [b"x" * 4096, b"x" * 4096])], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "File too large" in caught.value.message
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "old"}


def test_an_interrupted_copy_leaves_nothing_behind(tmp_path: Path):
    def interrupted() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_files([("a.csv", interrupted())], tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_a_file_is_named_in_the_error(tmp_path: Path):
    (tmp_path / "out").write_text("")

    with pytest.raises(StorageError) as caught:
        save_files([("a.csv", [b"."])], tmp_path / "out")

    assert str(tmp_path / "out") in caught.value.message


def test_saving_leaves_no_descriptor_open(tmp_path: Path, open_descriptors):
    before = open_descriptors()

    save_files([(f"{folder}/x/y.csv", [b"."]) for folder in "abc"], tmp_path)

    assert open_descriptors() == before
