"""Builds one environment with uv, so that either all of it is there or nothing.

Everything is made in a folder beside the final one, the manifest last; one rename makes it appear.  A lock on the
environment's folder keeps two builders apart, and what a killed one left behind is swept by the next.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from bichat.errors import NotFoundError, StorageError, UserInputError
from bichat.sandbox.environments.environment import MANIFEST, Environment, Progress, read_manifest
from bichat.sandbox.environments.programs import base_python, failure, leashed, run, uv_program, variables
from bichat.sandbox.environments.recipe import (
    BUILT_IN,
    Recipe,
    built_in_recipe,
    pinned_versions,
    required_names,
    unhashed_requirements,
)
from bichat.sandbox.environments.trials import import_together, on_demand, try_modules
from bichat.sandbox.environments.variables import GUEST_VARIABLES

_HERE: Final = Path(__file__).parent
_LOCK_FILE: Final = ".lock"
_BUILDING: Final = ".building-"
_REPLACED: Final = ".replaced-"
#: Name, inside an environment's folder, of the requirements that it was made from.
REQUIREMENTS: Final = "requirements.lock"

#: What the faces are made from: the same versions make the same files.
_FONT_PACKAGES: Final = (
    "fonttools",
    "fontpkg-noto-sans",
    "fontpkg-noto-sans-arabic",
    "fontpkg-noto-sans-devanagari",
    "noto-cjk-sans-otc",
)
_FONTS: Final = "lib/python3*/site-packages/bichat_site/fonts"
#: In the font folder: hash of what its faces were made from.
_MADE_FROM: Final = "made-from"


class Builder:
    """Holds the lock of one environment's folder while it is open."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        """`folder` is made where it is missing; `progress` is told each stage and its details."""
        self._folder = folder
        self._progress = progress
        self._lock = -1

    def __enter__(self) -> Self:
        with _storage_in_words(self._folder):
            self._lock = self._locked()
            self._sweep()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def _locked(self) -> int:
        """A descriptor of the lock file that holds the lock; the kernel gives it up when the process ends."""
        path = self._folder / _LOCK_FILE
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress("waiting", "another process is building this environment")
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Who held it may have removed the environment, and this file with it.
            if path.exists() and path.stat().st_ino == os.fstat(lock).st_ino:
                return lock
            os.close(lock)

    def _sweep(self) -> None:
        """Remove what builders left that did not come to their end, and builds that were replaced before this one."""
        for entry in os.scandir(self._folder):
            if entry.name.startswith((_BUILDING, _REPLACED)):
                shutil.rmtree(entry.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove every build of the environment, and its folder.

        Raises:
            StorageError: a file cannot be removed.
        """
        with _storage_in_words(self._folder):
            shutil.rmtree(self._folder)

    def remove_others(self, kept: Environment | None) -> int:
        """Remove every build but `kept`; returns how many that were.

        Raises:
            StorageError: a file cannot be removed.
        """
        with _storage_in_words(self._folder):
            builds = [entry for entry in os.scandir(self._folder) if entry.is_dir(follow_symlinks=False)]
            others = [entry.path for entry in builds if kept is None or entry.name != kept.path.name]
            for path in others:
                shutil.rmtree(path)
        return len(others)

    def choose(self, built: Environment) -> Environment:
        """`built` as the one of its name that was built last."""
        with _storage_in_words(self._folder):
            chosen = replace(built, created_at=self._now())
            fresh = built.path / f".{MANIFEST}"
            _write_durably(fresh, json.dumps(chosen.to_dict(), indent=1))
            fresh.replace(built.path / MANIFEST)
        return chosen

    def _now(self) -> datetime:
        """Later than every build that there is, also when the clock has been set back since: the last one is in use."""
        builds = (read_manifest(folder) for folder in self._folder.iterdir() if not folder.name.startswith("."))
        last = max((built.created_at for built in builds if built), default=datetime.min.replace(tzinfo=UTC))
        return max(datetime.now(UTC), last + timedelta(microseconds=1))

    @staticmethod
    def recipe_of(built: Environment) -> Recipe:
        """What an environment of an operator's own was made from, to make it again.

        Raises:
            StorageError: its requirements cannot be read.
        """
        with _storage_in_words(built.path):
            lock = (built.path / REQUIREMENTS).read_text(encoding="utf-8")
        return Recipe(name=built.name, lock=lock, base=built.base, requested=built.requested)

    def resolve(self, name: str, requirements: Path, base: str) -> Recipe:
        """Exact versions and hashes for `requirements`, together with all that `base` holds in its own versions.

        Raises:
            UserInputError: the file cannot be read, or asks for a folder or a repository.
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
                *("--no-annotate", "--python", base_python()),
                *(("--constraint", scratch / "limits.txt") if limits else ()),
                *("--output-file", scratch / "lock.txt", scratch / "wanted.in"),
            )
            lock = (scratch / "lock.txt").read_text(encoding="utf-8")
        unhashed = unhashed_requirements(lock)
        if unhashed:
            raise UserInputError(
                f"{requirements} asks for what has no hash to check it by: {', '.join(unhashed)}",
                stage="environment",
                remedy="Folders and repositories change: build a wheel, and name its file or put it into UV_FIND_LINKS.",
            )
        return Recipe(name=name, lock=lock, base=base, requested=required_names(wanted))

    def build(self, recipe: Recipe, *, reuse: bool = True) -> Environment:
        """Build `recipe` in place of any earlier build of it; `reuse`: fonts may come from another environment.

        Raises:
            EnvironmentBuildError: a package could not be fetched or installed.
            StorageError: the disk is full, or not ours to write to.
        """
        started = time.monotonic()
        with _storage_in_words(self._folder), self._scratch() as scratch:
            self._install(recipe, scratch)
            self._furnish(recipe, scratch, reuse=reuse)
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
        self._uv("preparing", *venv, "--python", base_python(), scratch)
        self._uv(
            "installing",
            *("pip", "install", "--require-hashes", "--compile-bytecode", "--no-deps", "--link-mode", "copy"),
            # What we ship is never built from source: nobody's build script runs, and a platform without wheels is named.
            *(("--only-binary", ":all:") if recipe.name in BUILT_IN else ()),
            *("--python", scratch / "bin" / "python", "-r", scratch / REQUIREMENTS),
            detail=f"{len(pinned_versions(recipe.lock))} packages for {recipe.name}",
        )

    def _furnish(self, recipe: Recipe, scratch: Path, *, reuse: bool) -> None:
        """Add the fonts and the hooks that go with them."""
        site_packages = next(scratch.glob("lib/python3*/site-packages"))
        shutil.copytree(
            _HERE / "bichat_site", site_packages / "bichat_site", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(_HERE / "bichat_site.pth", site_packages)
        fonts = site_packages / "bichat_site" / "fonts"
        made_from = _made_from(recipe)
        if reuse:
            self._copy_fonts(made_from, fonts)
        self._python("making fonts", scratch, _HERE / "make_fonts.py", fonts)
        (fonts / _MADE_FROM).write_text(made_from, encoding="ascii")
        self._python("compiling", scratch, "-m", "compileall", "-q", site_packages / "bichat_site")

    def _copy_fonts(self, made_from: str, fonts: Path) -> None:
        """Take the faces of another finished environment that were made from the same: half a minute's work is spared."""
        for manifest in self._folder.parent.glob(f"*/*/{MANIFEST}"):
            mark = next(manifest.parent.glob(f"{_FONTS}/{_MADE_FROM}"), None)
            if manifest.parent.name.startswith(".") or mark is None or mark.read_text(encoding="ascii") != made_from:
                continue
            try:
                shutil.copytree(mark.parent, fonts, ignore=shutil.ignore_patterns("*.json", _MADE_FROM))
            except OSError:
                # Removed while it was read, perhaps: these are made again.
                shutil.rmtree(fonts, ignore_errors=True)
            return

    def _described(self, recipe: Recipe, scratch: Path) -> Environment:
        tried = try_modules(scratch, recipe, self._progress)
        tried, preload, rss_bytes = import_together(scratch, tried, self._progress)
        return Environment(
            name=recipe.name,
            path=scratch,
            base_prefix=Path(sys.base_prefix).resolve(),
            base_python=Path(base_python()),
            python_version=platform.python_version(),
            lock_hash=recipe.lock_hash,
            base=recipe.base,
            requested=recipe.requested,
            packages=_installed(scratch / "bin" / "python"),
            preload=preload,
            preload_rss_bytes=rss_bytes,
            on_demand=on_demand(scratch, recipe, self._progress),
            tried=tried,
            variables=GUEST_VARIABLES,
            size_bytes=sum(file.lstat().st_size for file in scratch.rglob("*") if not file.is_dir()),
            created_at=self._now(),
        )

    def _python(self, stage: str, scratch: Path, *arguments: str | Path) -> None:
        run(stage, [scratch / "bin" / "python", "-I", *arguments], self._progress)

    def _uv(self, stage: str, *arguments: str | Path, detail: str = "") -> None:
        run(stage, [uv_program(), *arguments], self._progress, detail=detail)


def _made_from(recipe: Recipe) -> str:
    """Hash of all that decides what the faces look like: the font packages, and what makes faces of them."""
    pins = pinned_versions(recipe.lock)
    packages = [f"{package}=={pins.get(package)}" for package in _FONT_PACKAGES]
    program = (_HERE / "make_fonts.py").read_bytes()
    return hashlib.sha256(program + "\n".join(packages).encode()).hexdigest()


def _installed(python: Path) -> dict[str, str]:
    """The distributions that `python` sees, with their versions."""
    command = leashed([uv_program(), "pip", "list", "--format", "json", "--python", python])
    done = subprocess.run(command, env=variables(), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise failure("listing", done.stderr.decode("utf-8", "replace").splitlines())
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}


def _let_all_read(folder: Path) -> None:
    """As root the guests are another user: every file is readable, every folder and program usable, by all; none writable."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode & 0o7777
        wanted = (mode | (0o555 if mode & 0o111 else 0o444)) & ~0o022
        if mode != wanted:
            path.chmod(wanted)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
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
            remedy="Make room (an environment takes about 1.5 GB), or let BICHAT_DATA_DIR name another folder."
            if full
            else "See who owns the data directory, or set BICHAT_DATA_DIR.",
        ) from error
