"""Environments really built with uv, from wheels made here: no network, and a few seconds each."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bichat.errors import EnvironmentBuildError, NotFoundError, StorageError, UserInputError
from bichat.sandbox.environments import Environment, EnvironmentStore, recipe

#: Builds what the arguments say and prints each stage, then the folder, each on a line of its own.
BUILD = textwrap.dedent("""
    import signal, sys
    from pathlib import Path
    from bichat.errors import BichatError
    from bichat.sandbox.environments import EnvironmentStore

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
    data_dir, name, requirements = sys.argv[1:]
    say = lambda stage, detail: print("stage", stage, "|", detail, flush=True)
    try:
        built = EnvironmentStore(Path(data_dir)).build(name, requirements=Path(requirements), progress=say)
        print("built", built.path, built.created_at.isoformat(), flush=True)
    except BichatError as error:
        print("failed", type(error).__name__, error.message, "|", error.remedy, flush=True)
""")
#: No wait of these tests may be longer, whatever becomes of what is waited for.
BOUND_MS = 60_000


class Index:
    """A folder of wheels that uv is told to take everything from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, version: str = "1.0", code: str = "", *, module: str = "", padding: int = 0) -> None:
        """Make the wheel of a distribution with one module in it."""
        module = module or name.replace("-", "_")
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        files = {
            f"{module}.py": code.encode(),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        if padding:
            files[f"{module}_padding.bin"] = os.urandom(padding)
        record = "".join(f"{path},{_digest(content)},{len(content)}\n" for path, content in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
        path = self._folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for file, content in files.items():
                wheel.writestr(file, content)


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture(name="index")
def _index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    folder = tmp_path / "wheels"
    folder.mkdir()
    # Offline with a cache of its own: a name that a stranger has taken on a public index must never be fetched, built
    # and run here.
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return Index(folder)


@pytest.fixture(name="data_folder")
def _data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


Build = Callable[..., Environment]


@pytest.fixture(name="build")
def _build(data_folder: Path, tmp_path: Path) -> Build:
    """`build("greeting", "parting")` builds the environment `mine` of these."""

    def build(*requirements: str, name: str = "mine", **options: object) -> Environment:
        wanted = _wanted(tmp_path, *requirements)
        return EnvironmentStore(data_folder).build(name, requirements=wanted, **options)  # pyright: ignore[reportArgumentType]

    return build


def _wanted(folder: Path, *requirements: str) -> Path:
    path = folder / "wanted.txt"
    path.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    return path


def _ask(environment: Environment, code: str) -> str:
    command = [environment.python, "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _left(data_folder: Path, name: str = "mine") -> set[str]:
    """What lies in an environment's folder besides finished builds."""
    folder = data_folder / "environments" / name
    entries = os.listdir(folder) if folder.exists() else []
    return {entry for entry in entries if not (folder / entry / "environment.json").exists()} - {".lock"}


def test_an_environment_holds_what_was_asked_for_and_nothing_of_the_server(index: Index, build: Build):
    index.add("greeting", code="text = 'hello'")

    environment = build("greeting")

    assert _ask(environment, "import greeting; print(greeting.text)") == "hello"
    assert environment.packages == {"greeting": "1.0"}
    found = _ask(environment, "import importlib.util as u; print(u.find_spec('typer'), u.find_spec('bichat'))")
    assert found == "None None"


def test_an_environment_works_where_it_came_to_stand(index: Index, build: Build):
    index.add("greeting", code="def where():\n    return where.__code__.co_filename")

    environment = build("greeting")

    assert _ask(environment, "import sys; print(sys.prefix)") == str(environment.path)
    assert _ask(environment, "import greeting; print(greeting.where())").startswith(str(environment.path))
    assert Path(_ask(environment, "import sys; print(sys.base_prefix)")).resolve() == environment.base_prefix


def test_byte_code_is_made_at_build_time(index: Index, build: Build):
    index.add("greeting", code="text = 'hello'")

    site_packages = next(build("greeting").path.glob("lib/python3*/site-packages"))

    assert list(site_packages.glob("__pycache__/greeting.*.pyc"))
    assert list(site_packages.glob("bichat_site/__pycache__/hooks.*.pyc"))


def test_every_account_may_read_an_environment_and_none_may_change_it(index: Index, build: Build):
    index.add("greeting")
    umask = os.umask(0o077)
    try:
        environment = build("greeting")
    finally:
        os.umask(umask)

    modes = {path: path.lstat().st_mode for path in environment.path.rglob("*") if not path.is_symlink()}
    modes[environment.path] = environment.path.stat().st_mode

    assert [path for path, mode in modes.items() if not mode & 0o004 or (path.is_dir() and not mode & 0o001)] == []
    assert [path for path, mode in modes.items() if mode & 0o022] == []


def test_modules_that_a_fork_would_break_are_not_preloaded_and_the_reason_is_kept(index: Index, build: Build):
    index.add("calm", code="print('hello from an import')")
    index.add("waiting", code="import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()")
    index.add("raising", code="raise RuntimeError('no licence')")
    index.add("leaving", code="import os\nos._exit(3)")

    environment = build("calm", "waiting", "raising", "leaving")

    assert environment.preload == ("calm",)
    assert {candidate.module: candidate.refused.partition(":")[0] for candidate in environment.refused} == {
        "waiting": "leaves threads behind that a fork would lose",
        "raising": "RuntimeError",
        "leaving": "ended the interpreter",
    }


def test_a_module_is_preloaded_by_its_own_name_not_by_that_of_its_distribution(index: Index, build: Build):
    index.add("py-greeting", module="hallo")

    assert build("Py_Greeting").preload == ("hallo",)


def test_these_tests_take_nothing_from_a_public_index(index: Index, build: Build):
    with pytest.raises(EnvironmentBuildError) as error:
        build("requests")

    assert "requests" in error.value.message


def test_the_same_requirements_are_built_once(index: Index, build: Build):
    index.add("greeting")
    first = build("greeting")
    stages: list[str] = []

    second = build("greeting", progress=lambda stage, _: stages.append(stage))

    assert second == first
    assert "installing" not in stages


def test_other_requirements_are_built_beside_and_then_used(index: Index, build: Build, data_folder: Path):
    index.add("greeting", "1.0")
    index.add("greeting", "2.0")
    old = build("greeting==1.0")

    new = build("greeting==2.0")

    assert EnvironmentStore(data_folder).get("mine") == new
    assert old.path.exists()
    assert new.packages == {"greeting": "2.0"}


def test_requirements_that_were_built_before_are_used_again_without_a_build(
    index: Index, build: Build, data_folder: Path
):
    index.add("greeting")
    index.add("parting")
    first = build("greeting")
    build("parting")

    again = build("greeting", progress=_never_installing)

    assert again.path == first.path
    assert EnvironmentStore(data_folder).get("mine") == again


def _never_installing(stage: str, detail: str) -> None:
    assert stage not in ("installing", "built"), detail


def test_what_another_builder_made_is_built_again_from_its_own_lock(
    index: Index, build: Build, data_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    index.add("greeting", code="text = 'hello'")
    old = build("greeting")
    index.add("greeting", "2.0", code="text = 'hi'")
    monkeypatch.setattr(recipe, "BUILDER_VERSION", recipe.BUILDER_VERSION + 1)
    store = EnvironmentStore(data_folder)

    assert store.find("mine") is None
    assert store.buildable() == ("data", "mine")
    renewed = store.build("mine")
    assert renewed.path != old.path
    assert old.path.exists()
    assert (renewed.packages, renewed.preload) == ({"greeting": "1.0"}, ("greeting",))
    assert store.find("mine") == renewed


def test_old_builds_can_be_removed_without_the_one_in_use(index: Index, build: Build, data_folder: Path):
    index.add("greeting")
    index.add("parting")
    old = build("greeting")
    kept = build("parting")
    store = EnvironmentStore(data_folder)

    assert store.remove("mine", old_only=True) == 1
    assert not old.path.exists()
    assert store.get("mine") == kept


@pytest.mark.parametrize("requirement", ["{}", "-e {}"])
def test_a_folder_of_sources_has_no_hash_and_is_refused(
    index: Index, data_folder: Path, tmp_path: Path, requirement: str
):
    project = tmp_path / "package" / "pyproject.toml"
    project.parent.mkdir()
    project.write_text('[project]\nname = "package"\nversion = "1"\n', encoding="utf-8")

    with pytest.raises(UserInputError, match=r"no hash to check it by: .*package"):
        EnvironmentStore(data_folder).build("mine", requirements=_wanted(tmp_path, requirement.format(project.parent)))

    assert _left(data_folder) == set()


def test_a_wheel_may_be_named_by_its_file(index: Index, build: Build, tmp_path: Path):
    index.add("greeting")

    environment = build(f"{tmp_path}/wheels/greeting-1.0-py3-none-any.whl")

    assert environment.packages == {"greeting": "1.0"}


def test_requirements_may_be_split_over_files(index: Index, build: Build, tmp_path: Path):
    index.add("greeting")
    index.add("greeting", "2.0")
    (tmp_path / "more.txt").write_text("greeting  # said first\n", encoding="utf-8")
    (tmp_path / "limits.txt").write_text("greeting<2\n", encoding="utf-8")

    environment = build("# ours", "-r more.txt", "-c limits.txt")

    assert environment.packages == {"greeting": "1.0"}


def test_modules_that_are_harmless_only_alone_are_left_out_by_name(index: Index, build: Build):
    index.add("first", code="taken = True")
    index.add("second", code="import sys\nif 'first' in sys.modules: raise ImportError('first was here')")

    environment = build("first", "second")

    assert environment.preload == ("first",)
    assert [(left.module, left.refused) for left in environment.refused] == [
        ("second", "together with the modules before it: ImportError: first was here")
    ]


def test_faces_are_made_once_for_all_environments_of_the_same_font_packages(index: Index, build: Build):
    index.add("greeting")
    index.add("parting")
    _plant_face(build("greeting"))

    assert _has_face(build("parting", name="other"))


def test_a_build_by_force_takes_nothing_from_what_may_be_damaged(index: Index, build: Build):
    index.add("greeting")
    _plant_face(build("greeting"))

    assert not _has_face(build("greeting", force=True))


def _plant_face(environment: Environment) -> None:
    fonts = next(environment.path.glob("lib/python3*/site-packages/bichat_site/fonts"))
    (fonts / "Face.ttf").write_bytes(b"a face")


def _has_face(environment: Environment) -> bool:
    return any(environment.path.rglob("bichat_site/fonts/Face.ttf"))


def test_what_sandboxes_are_using_stays_when_it_is_built_anew(index: Index, build: Build):
    index.add("greeting")
    first = build("greeting")
    handle = os.open(first.path, os.O_DIRECTORY)

    second = build("greeting", force=True)

    assert second.created_at > first.created_at
    assert os.stat("bin/python", dir_fd=handle)
    os.close(handle)


def test_two_processes_that_build_the_same_share_one_build(index: Index, data_folder: Path, tmp_path: Path):
    index.add("greeting")
    command = [sys.executable, "-c", BUILD, str(data_folder), "mine", str(_wanted(tmp_path, "greeting"))]

    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [builder.communicate(timeout=BOUND_MS / 1000)[0].splitlines()[-1] for builder in builders]

    assert ends[0] == ends[1]
    assert ends[0].startswith("built ")
    assert _left(data_folder) == set()


@pytest.fixture(name="stuck")
def _stuck(index: Index, data_folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A builder that waits for the import of a module that never ends, and the process that imports it."""
    index.add(
        "sticky",
        code="import os, threading\n"
        "with open(os.path.join(os.environ['TMPDIR'], 'pid'), 'w') as file:\n    file.write(str(os.getpid()))\n"
        "os.mkfifo(os.path.join(os.environ['TMPDIR'], 'fifo'))\n"
        "open(os.path.join(os.environ['TMPDIR'], 'fifo')).read()\n",
    )
    requirements = str(_wanted(tmp_path, "sticky"))
    command = [sys.executable, "-c", BUILD, str(data_folder), "mine", requirements]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as builder:
        try:
            yield builder, _importing(builder, data_folder)
        finally:
            builder.kill()


def _importing(builder: subprocess.Popen[str], data_folder: Path) -> int:
    assert builder.stdout is not None
    for line in builder.stdout:
        if line.startswith("stage trying imports | sticky"):
            break
    home = data_folder / "environments" / "mine" / f".building-{builder.pid}" / ".home"
    # The module's process says who it is in a file: opened again and again, for it may not have come that far.
    for _ in range(BOUND_MS // 10):
        if (home / "fifo").exists():
            return int((home / "pid").read_text(encoding="utf-8"))
        select.select([], [], [], 0.01)
    raise AssertionError("the module was never imported")


def test_a_killed_builder_leaves_no_process_and_nothing_that_is_used(
    index: Index, build: Build, data_folder: Path, stuck: tuple[subprocess.Popen[str], int]
):
    builder, importer = stuck
    gone = os.pidfd_open(importer)

    builder.kill()

    poll = select.poll()
    poll.register(gone, select.POLLIN)
    assert poll.poll(BOUND_MS)
    os.close(gone)
    assert EnvironmentStore(data_folder).list() == []
    index.add("greeting")
    assert build("greeting").packages == {"greeting": "1.0"}
    assert _left(data_folder) == set()


def test_an_interrupted_build_leaves_nothing(data_folder: Path, stuck: tuple[subprocess.Popen[str], int]):
    builder, importer = stuck
    gone = os.pidfd_open(importer)

    builder.send_signal(signal.SIGINT)
    builder.communicate(timeout=BOUND_MS / 1000)

    poll = select.poll()
    poll.register(gone, select.POLLIN)
    assert poll.poll(BOUND_MS)
    os.close(gone)
    assert _left(data_folder) == set()
    assert EnvironmentStore(data_folder).list() == []


def test_whoever_waits_for_a_build_that_is_removed_builds_for_itself(index: Index, build: Build, data_folder: Path):
    index.add("greeting")
    build("greeting")
    stages: list[str] = []
    EnvironmentStore(data_folder).remove("mine")

    environment = build("greeting", progress=lambda stage, _: stages.append(stage))

    assert environment.path.is_dir()
    assert "installing" in stages


def test_without_network_and_cache_the_error_names_what_could_not_be_fetched(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))

    with pytest.raises(EnvironmentBuildError) as error:
        EnvironmentStore(data_folder).build("data")

    assert error.value.stage == "environment: installing"
    assert "altair" in error.value.message
    assert "UV_DEFAULT_INDEX" in error.value.remedy
    assert _left(data_folder, "data") == set()
    assert EnvironmentStore(data_folder).find("data") is None


def test_a_package_that_no_index_has_is_named(index: Index, build: Build, data_folder: Path):
    with pytest.raises(EnvironmentBuildError, match="no-such-package"):
        build("no-such-package")

    assert _left(data_folder) == set()


def test_requirements_against_the_versions_of_the_base_are_refused_with_both_named(build: Build, index: Index):
    index.add("pandas", "1.5")

    with pytest.raises(EnvironmentBuildError, match="pandas"):
        build("pandas==1.5", base="data")


def test_an_unknown_base_is_answered_with_those_that_there_are(build: Build, index: Index):
    with pytest.raises(NotFoundError) as error:
        build("greeting", base="finance")

    assert "data" in error.value.remedy


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_requirements_file_is_the_callers_mistake(
    data_folder: Path, tmp_path: Path, content: bytes | None
):
    if content is not None:
        (tmp_path / "r.txt").write_bytes(content)

    with pytest.raises(UserInputError, match=r"r\.txt"):
        EnvironmentStore(data_folder).build("mine", requirements=tmp_path / "r.txt")


def test_a_wheel_that_is_not_the_locked_one_is_not_installed(
    index: Index, build: Build, data_folder: Path, tmp_path: Path
):
    index.add("greeting", code="text = 'hello'")
    resolved: list[str] = []

    def swap(stage: str, _detail: str) -> None:
        if stage == "installing" and not resolved:
            resolved.append(stage)
            shutil.rmtree(tmp_path / "cache")
            index.add("greeting", code="text = 'somebody else was here'")

    with pytest.raises(EnvironmentBuildError, match=r"(?i)hash"):
        build("greeting", progress=swap)

    assert EnvironmentStore(data_folder).list() == []


def test_a_data_directory_that_cannot_be_written_to_is_named(tmp_path: Path, index: Index):
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(StorageError) as error:
        EnvironmentStore(tmp_path / "file").build("mine", requirements=_wanted(tmp_path, "greeting"))

    assert str(tmp_path / "file") in error.value.message


@pytest.mark.namespaces
def test_a_full_disk_is_said_and_leaves_nothing(index: Index, tmp_path: Path, require: Callable[[str, str], None]):
    index.add("large", padding=24_000_000)
    small = tmp_path / "small"
    small.mkdir()
    script = (
        'mount -t tmpfs -o size=16m tmpfs "$1" || exit 9; "$2" -c "$3" "$1" mine "$4"; ls -A "$1"/environments/mine'
    )
    arguments = [str(small), sys.executable, BUILD, str(_wanted(tmp_path, "large"))]

    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND_MS / 1000,
        check=False,
    )
    if done.returncode == 9 or "unshare" in done.stderr:
        require("namespaces", done.stderr.strip())

    *_, failed, left = done.stdout.splitlines()
    assert failed.startswith(("failed EnvironmentBuildError", "failed StorageError"))
    assert "Make room" in failed
    assert left == ".lock"


def test_uv_writes_into_its_cache_and_the_data_directory_only(
    index: Index, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index.add("greeting")
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(work)

    build("greeting")

    assert os.listdir(home) == []
    assert os.listdir(work) == []


def test_a_fresh_interpreter_of_an_environment_imports_nothing_heavy_for_the_hooks(index: Index, build: Build):
    index.add("greeting")
    environment = build("greeting")
    listing = "import sys, json; print(json.dumps(sorted(sys.modules)))"

    with_hooks = set(json.loads(_ask(environment, listing)))
    (next(environment.path.glob("lib/python3*/site-packages")) / "bichat_site.pth").unlink()
    without = set(json.loads(_ask(environment, listing)))

    assert with_hooks - without == {"__future__", "bichat_site", "bichat_site.hooks"}


def _command(data_folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bichat", "env", *arguments],
        env={**os.environ, "BICHAT_DATA_DIR": str(data_folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_builds_shows_lists_and_removes(index: Index, data_folder: Path, tmp_path: Path):
    index.add("greeting")

    built = _command(data_folder, "build", "mine", "-r", _wanted(tmp_path, "greeting"))
    shown = _command(data_folder, "show", "mine")
    listed = _command(data_folder, "list")
    removed = _command(data_folder, "remove", "mine")

    assert [done.returncode for done in (built, shown, listed, removed)] == [0, 0, 0, 0]
    assert "mine: 1 packages" in built.stdout
    assert "resolving" in built.stderr
    assert "preloaded: greeting\n" in shown.stdout
    assert [line.split()[0] for line in listed.stdout.splitlines() if line.strip().startswith(("data", "mine"))] == [
        "mine",
        "data",
    ]
    assert removed.stdout == "mine is removed.\n"
    assert _command(data_folder, "show", "mine").returncode == 2


def test_the_command_answers_in_json(index: Index, data_folder: Path, tmp_path: Path):
    index.add("greeting")

    built = json.loads(_command(data_folder, "build", "mine", "-r", _wanted(tmp_path, "greeting"), "--json").stdout)
    shown = json.loads(_command(data_folder, "show", "mine", "--json").stdout)
    listed = json.loads(_command(data_folder, "list", "--json").stdout)
    removed = json.loads(_command(data_folder, "remove", "mine", "--json").stdout)

    assert listed == [built]
    assert (built["name"], built["packages"]) == ("mine", 1)
    assert shown["packages"] == {"greeting": "1.0"}
    assert shown["path"] == built["path"]
    assert removed == {"name": "mine", "builds_removed": 1}


def test_the_command_tells_a_mistake_from_a_failure(index: Index, data_folder: Path, tmp_path: Path):
    mistaken = _command(data_folder, "build", "Not A Name", "-r", _wanted(tmp_path, "greeting"))
    failed = _command(data_folder, "build", "mine", "-r", _wanted(tmp_path, "greeting"), "--json")

    assert (mistaken.returncode, failed.returncode) == (2, 3)
    assert "Traceback" not in mistaken.stderr + failed.stderr
    assert "greeting" in json.loads(failed.stdout)["error"]["message"]


def test_what_a_package_does_when_it_is_imported_is_tried_behind_walls(
    index: Index, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It reads no file of the builder's, leaves none, reaches nobody and finds nothing in its variables."""
    own = tmp_path / "own"
    own.write_text("secret", encoding="utf-8")
    monkeypatch.setenv("OWN_SECRET", "secret")
    index.add(
        "curious",
        code=textwrap.dedent(f"""
            import os, socket
            def tried(what):
                try:
                    what()
                except OSError as error:
                    return type(error).__name__
                return "got through"
            raise RuntimeError([
                tried(lambda: open({str(own)!r})),
                tried(lambda: open({str(own) + "2"!r}, "w")),
                tried(lambda: open(__file__, "a")),
                tried(lambda: os.listdir("/home")),
                tried(lambda: socket.socket()),
                tried(lambda: os.kill({os.getpid()}, 0)),
                tried(os.setsid),
                [name for name, value in os.environ.items() if "secret" in value],
                open("/proc/self/status").read().partition("CapEff:")[2].split()[0].strip("0"),
            ])
        """),
    )

    environment = build("curious")

    refused = "PermissionError"
    assert [candidate.refused for candidate in environment.refused] == [
        f"RuntimeError: {[*[refused] * 7, [], '']}",
    ]
    assert environment.preload == ()


def test_a_trial_may_write_into_a_folder_of_its_own_that_is_gone_afterwards(index: Index, build: Build):
    index.add("caching", code="import os; open(os.path.expanduser('~/cache'), 'w').write('x')")

    environment = build("caching")

    assert environment.preload == ("caching",)
    assert not list(environment.path.rglob("cache"))
