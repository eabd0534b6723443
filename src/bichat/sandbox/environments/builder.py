"""Builds one environment with uv, so that either all of it is there or nothing.

Everything is made in a folder beside the final one, the manifest last; one rename makes it appear.  A lock on the
environment's folder keeps two builders apart, and what a killed one left behind is swept by the next.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from bichat.errors import EnvironmentBuildError, NotFoundError, StorageError, UserInputError
from bichat.sandbox.environments.environment import MANIFEST, Environment, Preload
from bichat.sandbox.environments.recipe import BUILT_IN, Recipe, built_in_recipe, pinned_versions, required_names
from bichat.sandbox.environments.variables import GUEST_VARIABLES, PRELOAD_VARIABLES

_HERE: Final = Path(__file__).parent
_LOCK_FILE: Final = ".lock"
_BUILDING: Final = ".building-"
_REPLACED: Final = ".replaced-"
#: Name, inside an environment's folder, of the requirements that it was made from.
REQUIREMENTS: Final = "requirements.lock"

#: What the zygote imports for everybody, if it turns out to be harmless: what most code uses, dearest first gain.
CANDIDATES: Final = (
    "numpy",
    "pandas",
    "pyarrow",
    "PIL.Image",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "matplotlib_inline.backend_inline",
    "scipy.stats",
    "seaborn",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "sklearn.cluster",
    "sklearn.model_selection",
    "sklearn.metrics",
    "openpyxl",
    "IPython.core.interactiveshell",
    "duckdb",
    "polars",
    "statsmodels.api",
)
_TRIAL_S: Final = 120
_LAST_LINES: Final = 12


class Builder:
    """Holds the lock of one environment's folder while it is open."""

    def __init__(self, folder: Path, progress: Callable[[str, str], None]) -> None:
        """`folder` is made where it is missing; `progress` is told each stage and its details."""
        self._folder = folder
        self._progress = progress
        self._lock = -1

    def __enter__(self) -> Self:
        with _storage_in_words(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress("waiting", "another process is building this environment")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._sweep()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def _sweep(self) -> None:
        """Remove what builders left that did not come to their end, and builds that were replaced before this one."""
        for entry in os.scandir(self._folder):
            if entry.name.startswith((_BUILDING, _REPLACED)):
                shutil.rmtree(entry.path)

    def resolve(self, name: str, requirements: Path, base: str) -> Recipe:
        """Exact versions and hashes for `requirements`, together with all that `base` holds in its own versions.

        Raises:
            UserInputError: the file cannot be read.
            NotFoundError: `base` is not one that ships with bichat.
            EnvironmentBuildError: the requirements contradict each other or the base, or cannot be fetched.
        """
        if base and base not in BUILT_IN:
            raise NotFoundError(
                f"there is no base environment called {base!r}",
                stage="environment",
                remedy=f"These can be one: {', '.join(BUILT_IN)}.",
            )
        try:
            wanted = requirements.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserInputError(
                f"the requirements file {requirements} cannot be read: {error}",
                stage="environment",
                remedy="Name a text file with one requirement a line.",
            ) from error
        with self._scratch() as scratch:
            asked = f"-r {requirements.resolve()}\n"
            limits = ""
            if base:
                asked = f"-r {_HERE / base}.in\n{asked}"
                pins = pinned_versions(built_in_recipe(base).lock)
                limits = "".join(f"{package}=={version}\n" for package, version in pins.items())
            (scratch / "wanted.in").write_text(asked, encoding="utf-8")
            (scratch / "limits.txt").write_text(limits, encoding="utf-8")
            self._uv(
                "resolving",
                *("pip", "compile", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header"),
                *("--no-annotate", "--python", _base_python(), "--constraint", scratch / "limits.txt"),
                *("--output-file", scratch / "lock.txt", scratch / "wanted.in"),
            )
            lock = (scratch / "lock.txt").read_text(encoding="utf-8")
        return Recipe(name=name, lock=lock, base=base, requested=required_names(wanted))

    def build(self, recipe: Recipe) -> Environment:
        """Build `recipe` in place of any earlier build of it.

        Raises:
            EnvironmentBuildError: a package could not be fetched or installed.
            StorageError: the disk is full, or not ours to write to.
        """
        started = time.monotonic()
        with _storage_in_words(self._folder), self._scratch() as scratch:
            self._install(recipe, scratch)
            self._furnish(scratch)
            environment = self._described(recipe, scratch)
            _let_all_read(scratch)
            _write_durably(scratch / MANIFEST, json.dumps(environment.to_dict(), indent=1))
            final = self._folder / recipe.key
            if final.exists():
                # Sandboxes may be using it: it goes at the next build.
                final.rename(self._folder / f"{_REPLACED}{os.getpid()}-{time.monotonic_ns()}")
            scratch.rename(final)
        self._progress("built", f"{recipe.name} in {time.monotonic() - started:.0f} s")
        return replace(environment, path=final)

    @contextmanager
    def _scratch(self) -> Generator[Path]:
        """A folder to build in; what is left of it when the block ends is removed."""
        scratch = self._folder / f"{_BUILDING}{os.getpid()}"
        scratch.mkdir(mode=0o755)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _install(self, recipe: Recipe, scratch: Path) -> None:
        (scratch / REQUIREMENTS).write_text(recipe.lock, encoding="utf-8")
        venv = ("venv", "--relocatable", "--no-python-downloads", "--no-project", "--allow-existing")
        self._uv("preparing", *venv, "--python", _base_python(), scratch)
        self._uv(
            "installing",
            *("pip", "install", "--require-hashes", "--compile-bytecode", "--no-deps", "--link-mode", "copy"),
            *("--python", scratch / "bin" / "python", "-r", scratch / REQUIREMENTS),
            detail=f"{len(pinned_versions(recipe.lock))} packages for {recipe.name}",
        )

    def _furnish(self, scratch: Path) -> None:
        """Add the fonts and the hooks that go with them."""
        site_packages = next(scratch.glob("lib/python3*/site-packages"))
        shutil.copytree(
            _HERE / "bichat_site", site_packages / "bichat_site", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(_HERE / "bichat_site.pth", site_packages)
        self._python("fonts", scratch, _HERE / "make_fonts.py", site_packages / "bichat_site" / "fonts")
        self._python("compiling", scratch, "-m", "compileall", "-q", site_packages / "bichat_site")

    def _described(self, recipe: Recipe, scratch: Path) -> Environment:
        tried = self._tried(recipe, scratch)
        preload, rss_bytes = self._together(scratch, tried)
        return Environment(
            name=recipe.name,
            path=scratch,
            base_prefix=Path(sys.base_prefix).resolve(),
            base_python=Path(_base_python()),
            python_version=platform.python_version(),
            lock_hash=recipe.lock_hash,
            base=recipe.base,
            packages=_installed(scratch / "bin" / "python"),
            preload=preload,
            preload_rss_bytes=rss_bytes,
            tried=tried,
            variables=GUEST_VARIABLES,
            size_bytes=sum(file.lstat().st_size for file in scratch.rglob("*") if not file.is_dir()),
            created_at=datetime.now(UTC),
        )

    def _tried(self, recipe: Recipe, scratch: Path) -> tuple[Preload, ...]:
        """Each candidate that the environment holds, imported alone in a fresh interpreter."""
        packages = pinned_versions(recipe.lock)
        candidates = [module for module in CANDIDATES if _distribution_of(module) in packages]
        added = [name.replace("-", "_") for name in recipe.requested if name in packages]
        modules = dict.fromkeys([*candidates, *(name for name in added if _distribution_of(name) not in candidates)])
        return tuple(self._try(scratch, module) for module in modules)

    def _try(self, scratch: Path, module: str) -> Preload:
        self._progress("trying imports", module)
        report = self._trial(scratch, module)
        threads = tuple(report.get("threads", ()))
        refused = report.get("error", "")
        if threads:
            refused = f"leaves threads behind that a fork would lose: {', '.join(threads)}"
        return Preload(
            module=module,
            seconds=report.get("seconds", 0.0),
            rss_bytes=report.get("rss_bytes", 0),
            threads=threads,
            refused=refused,
        )

    def _together(self, scratch: Path, tried: tuple[Preload, ...]) -> tuple[tuple[str, ...], int]:
        """The modules that may be imported together, and the memory that takes; the last ones go if they may not."""
        modules = [candidate.module for candidate in tried if not candidate.refused]
        while modules:
            self._progress("trying imports", "all together")
            report = self._trial(scratch, *modules)
            if not report.get("error") and not report.get("threads"):
                return tuple(modules), report["rss_bytes"]
            modules.pop()
        return (), 0

    def _trial(self, scratch: Path, *modules: str) -> dict[str, Any]:
        command = [str(scratch / "bin" / "python"), "-I", str(_HERE / "preload.py"), *modules]
        home = scratch / ".home"
        home.mkdir(exist_ok=True)
        variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home)}
        try:
            done = subprocess.run(
                command,
                env={**variables, **PRELOAD_VARIABLES, **GUEST_VARIABLES, "MPLCONFIGDIR": str(home)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TRIAL_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"was not imported within {_TRIAL_S} s"}
        else:
            return json.loads(done.stdout or b'{"error": "ended the interpreter"}')
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def _python(self, stage: str, scratch: Path, *arguments: str | Path) -> None:
        self._run(stage, [scratch / "bin" / "python", "-I", *arguments], detail="")

    def _uv(self, stage: str, *arguments: str | Path, detail: str = "") -> None:
        self._run(stage, [_uv_program(), *arguments], detail=detail)

    def _run(self, stage: str, command: list[str | Path], *, detail: str) -> None:
        """Run a program that dies with us and pass on what it says.

        Raises:
            EnvironmentBuildError: it failed.
        """
        self._progress(stage, detail)
        lines: list[str] = []
        with subprocess.Popen(
            _leashed(command),
            env=_variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stderr or ():
                lines.append(line)
                if line.strip():
                    self._progress(stage, line.strip())
        if process.returncode != 0:
            raise _failure(stage, lines)


def _uv_program() -> str:
    import uv

    return uv.find_uv_bin()


def _leashed(command: list[str | Path]) -> list[str]:
    return [sys.executable, "-I", str(_HERE / "leash.py"), *map(str, command)]


def _installed(python: Path) -> dict[str, str]:
    """The distributions that `python` sees, with their versions."""
    command = _leashed([_uv_program(), "pip", "list", "--format", "json", "--python", python])
    done = subprocess.run(command, env=_variables(), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise _failure("listing", done.stderr.decode("utf-8", "replace").splitlines())
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}


def _variables() -> dict[str, str]:
    """The caller's variables, for uv's index and certificates stand there, without those that name other environments."""
    dropped = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_TARGET", "UV_CONSTRAINT", "UV_OVERRIDE")
    return {name: value for name, value in os.environ.items() if name not in dropped} | {"NO_COLOR": "1"}


def _failure(stage: str, lines: list[str]) -> EnvironmentBuildError:
    said = " ".join(line.strip() for line in lines[-_LAST_LINES:] if line.strip())
    offline = any(
        word in said.lower() for word in ("fetch", "network", "offline", "connect", "dns", "not found in the package")
    )
    return EnvironmentBuildError(
        f"{stage} failed: {said[:1500]}",
        stage=f"environment: {stage}",
        remedy="Packages come from the index that uv is set up with (UV_DEFAULT_INDEX, UV_FIND_LINKS): build once while "
        "it can be reached, or point these to a local mirror."
        if offline
        else "Read what uv says above; `bichat env build` tries again.",
    )


def _base_python() -> str:
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _distribution_of(module: str) -> str:
    """The distribution that a candidate comes with."""
    top = module.partition(".")[0]
    return {"PIL": "pillow", "sklearn": "scikit-learn", "IPython": "ipython"}.get(top, top.replace("_", "-").lower())


def _let_all_read(folder: Path) -> None:
    """As root the guests are another user: every file is readable, every folder and program usable, by all."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode & 0o7777
        wanted = mode | (0o555 if mode & 0o111 else 0o444)
        if mode != wanted:
            path.chmod(wanted)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _storage_in_words(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            f"the environment cannot be written to {folder}: {error.strerror or error}",
            stage="environment",
            remedy="Make room (an environment takes about 1.5 GB)."
            if full
            else "See who owns the data directory, or set BICHAT_DATA_DIR.",
        ) from error
