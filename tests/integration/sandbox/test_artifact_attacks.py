"""Files made to mislead whoever collects them: regular ones come out as data, all others are refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bichat.domain import Status
from bichat.sizes import MIB


@pytest.mark.parametrize(
    "make",
    [
        "os.symlink('/etc/passwd', 'x')",
        "os.symlink('/proc/self/environ', 'x')",
        "os.symlink('/', 'x')",
        "os.symlink('x', 'x')",
        "os.symlink('/dev/zero', 'x')",
        "os.mkfifo('x')",
        "os.mkdir('x'); os.rmdir('x'); os.symlink('../../../../etc', 'x')",
    ],
)
def test_what_is_no_regular_file_is_refused_and_never_opened(run_code, make):
    outcome = run_code(make)

    assert outcome.status is Status.COMPLETED
    assert outcome.files == {}
    assert list(outcome.refused) == ["x"]


def test_a_folder_behind_a_link_is_not_entered(run_code):
    outcome = run_code("os.symlink('/usr/lib', 'folder')")

    assert outcome.files == {}
    assert list(outcome.refused) == ["folder"]


def test_a_hard_link_is_a_file_of_the_own_disk(run_code):
    outcome = run_code(
        """
        open("real", "w").write("text")
        os.link("real", "again")
        answer([attempt(os.link, path, "stolen") for path in ("/etc/passwd", "/usr/bin/env", "/dev/null")])
        """
    )

    assert set(outcome.files) == {"real", "again"}
    assert set(outcome.answer) <= {"EXDEV", "EACCES", "EPERM", "EROFS"}


def test_names_are_data(run_code):
    outcome = run_code(
        r"""
        for name in (b"a\nb", rb"..\x", b"\xff.bin", b"n" * 255, b"-rf", b" ", b"CON", b"\x1b[31m"):
            open(name, "wb").close()
        """
    )

    assert outcome.refused == {}
    assert len(outcome.files) == 8
    assert "\\xff.bin" in outcome.files


def test_closed_folders_and_files_do_not_stop_the_others(run_code):
    outcome = run_code(
        """
        os.mkdir("closed")
        open("closed/inside", "w").write("x")
        os.chmod("closed", 0)
        open("shut", "w").write("y")
        os.chmod("shut", 0)
        open("open", "w").write("z")
        """
    )

    assert outcome.files["open"].read_bytes() == b"z"
    assert set(outcome.files) | set(outcome.refused) >= {"open", "shut"}


def test_folders_nested_without_end_are_refused_and_the_rest_comes_out(run_code):
    outcome = run_code(
        """
        open("top", "w").write("x")
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
        open("deep", "w").write("y")
        """
    )

    assert list(outcome.files) == ["top"]
    assert outcome.refused


def test_a_file_above_the_size_limit_is_refused_before_it_is_read(run_code, limits):
    outcome = run_code(
        "open('sparse', 'wb').truncate(32 << 20); open('small', 'w').write('x')",
        limits=replace(limits, artifact_bytes=MIB),
    )

    assert list(outcome.files) == ["small"]
    assert list(outcome.refused) == ["sparse"]


def test_more_files_than_may_come_out_are_refused_by_name(run_code, limits):
    outcome = run_code(
        "for number in range(60): open(f'{number:02}', 'w').write('x')", limits=replace(limits, artifacts=50)
    )

    assert len(outcome.files) == 50
    assert len(outcome.refused) == 10


def test_files_that_change_while_they_are_collected_harm_nobody(run_code, limits):
    outcome = run_code(
        """
        if os.fork() == 0:
            while True:
                for name in ("a", "b", "c"):
                    attempt(os.unlink, name)
                    attempt(os.symlink, "/etc/passwd", name)
                    attempt(os.unlink, name)
                    attempt(os.mkfifo, name)
                    attempt(os.rename, name, "d")
                    attempt(lambda: open(name, "wb").truncate(1 << 20))
        """,
        limits=limits,
    )

    assert outcome.status is Status.COMPLETED
    assert all(b"root:" not in artifact.read_bytes() for artifact in outcome.files.values())


def test_a_folder_replaced_by_a_link_while_it_is_entered_leads_nowhere(run_code):
    outcome = run_code(
        """
        os.mkdir("folder")
        if os.fork() == 0:
            while True:
                attempt(os.rename, "folder", "other")
                attempt(os.symlink, "/etc", "folder")
                attempt(os.unlink, "folder")
                attempt(os.rename, "other", "folder")
        """
    )

    assert outcome.files == {}


def test_files_survive_the_death_of_their_maker(run_code, limits):
    outcome = run_code(
        "open('kept', 'w').write('x')\nwhile True: pass",
        limits=replace(limits, timeout_s=1),
    )

    assert outcome.status is Status.TIMEOUT
    assert outcome.files["kept"].read_bytes() == b"x"
