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
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from bichat.errors import NotFoundError, StorageError, UserInputError
from bichat.sandbox.environments.environment import MANIFEST, Environment, Progress, read_manifest
from bichat.sandbox.environments.programs import base_python, failure, leashed, run, uv_program, variables
from bichat.sandbox.environments.recipe import (
    BUILT_IN,
    Recipe,
    built_in_recipe,
    folder_key,
    pinned_versions,
    required_names,
)
from bichat.sandbox.environments.trials import import_together, try_modules
from bichat.sandbox.environments.variables import GUEST_VARIABLES

_HERE: Final = Path(__file__).parent
_LOCK_FILE: Final = ".lock"
_BUILDING: Final = ".building-"
_REPLACED: Final = ".replaced-"
#: Name, inside an environment's folder, of the requirements that it was made from.
REQUIREMENTS: Final = "requirements.lock"

#: What the faces are made from: the same versions make the same files.
_FONT_PACKAGES: Final = (
    "fontpkg-noto-sans",
    "fontpkg-noto-sans-arabic",
    "fontpkg-noto-sans-devanagari",
    "noto-cjk-sans-otc",
)
_FONTS: Final = "lib/python3*/site-packages/bichat_site/fonts"


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
                *("--no-annotate", "--python", base_python(), "--constraint", scratch / "limits.txt"),
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
            self._furnish(recipe, scratch)
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

    def _furnish(self, recipe: Recipe, scratch: Path) -> None:
        """Add the fonts and the hooks that go with them."""
        site_packages = next(scratch.glob("lib/python3*/site-packages"))
        shutil.copytree(
            _HERE / "bichat_site", site_packages / "bichat_site", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(_HERE / "bichat_site.pth", site_packages)
        fonts = site_packages / "bichat_site" / "fonts"
        ready = self._ready_fonts(recipe)
        if ready is not None:
            # Half a minute's work: done once for all environments that have the same font packages.
            shutil.copytree(ready, fonts, ignore=shutil.ignore_patterns("*.json"))
        self._python("making fonts", scratch, _HERE / "make_fonts.py", fonts)
        self._python("compiling", scratch, "-m", "compileall", "-q", site_packages / "bichat_site")

    def _ready_fonts(self, recipe: Recipe) -> Path | None:
        """The font folder of another environment that was made by this builder from the same font packages."""
        pins = pinned_versions(recipe.lock)
        wanted = {package: pins.get(package) for package in _FONT_PACKAGES}
        for manifest in self._folder.parent.glob(f"*/*/{MANIFEST}"):
            built = read_manifest(manifest.parent)
            if (
                built is not None
                and built.path.name == folder_key(built.lock_hash)
                and wanted == {package: built.packages.get(package) for package in _FONT_PACKAGES}
            ):
                return next(built.path.glob(_FONTS), None)
        return None

    def _described(self, recipe: Recipe, scratch: Path) -> Environment:
        tried = try_modules(scratch, recipe, self._progress)
        preload, rss_bytes = import_together(scratch, tried, self._progress)
        return Environment(
            name=recipe.name,
            path=scratch,
            base_prefix=Path(sys.base_prefix).resolve(),
            base_python=Path(base_python()),
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

    def _python(self, stage: str, scratch: Path, *arguments: str | Path) -> None:
        run(stage, [scratch / "bin" / "python", "-I", *arguments], self._progress)

    def _uv(self, stage: str, *arguments: str | Path, detail: str = "") -> None:
        run(stage, [uv_program(), *arguments], self._progress, detail=detail)


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
            remedy="Make room (an environment takes about 1.5 GB)."
            if full
            else "See who owns the data directory, or set BICHAT_DATA_DIR.",
        ) from error
