"""What an attack must not read, reach, change or kill: things of our own, put up for the time of the suite."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: A variable of the server's while the suite runs.
VARIABLE: Final = "SERVERS_CANARY"
#: Begins every secret, so that code can look for one whose rest it does not know.
MARK: Final = "canary-"
_FILE: Final = "secret"
#: Outside of the folders that a sandbox has of its own.
_PLACES: Final = ("/var/tmp", tempfile.gettempdir())  # noqa: S108  # a private folder is made in it


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What of the canaries can be changed from a sandbox, as one value to compare."""

    names: tuple[str, ...]
    content: bytes
    mode: int
    owner: tuple[int, int]
    links: int
    modified_ns: int
    victims: tuple[tuple[object, ...], ...]
    host: tuple[str, ...]


class Canaries:
    """Made by `canaries`; `disturbed` tells what has become of them since it was last asked."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        self.token = MARK + secrets.token_hex(16)
        """What all secrets say; no sandbox is ever told."""
        self.folder = folder
        self.secret = folder / _FILE
        self.secret.write_text(self.token, encoding="utf-8")
        self.secret.chmod(0o666)
        self._exits = exits
        self.tcp = exits.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.udp = exits.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.abstract_name = f"\0bichat-{secrets.token_hex(8)}"
        self.abstract = exits.enter_context(socket.socket(socket.AF_UNIX))
        self.abstract.bind(self.abstract_name)
        self.abstract.listen()
        self.datagrams = exits.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.datagrams.bind(f"{self.abstract_name}-datagrams")
        self.socket_path = folder / "socket"
        self.named = exits.enter_context(socket.socket(socket.AF_UNIX))
        self.named.bind(str(self.socket_path))
        self.named.listen()
        self.socket_path.chmod(0o777)
        for each in (self.tcp, self.udp, self.abstract, self.datagrams, self.named):
            each.setblocking(False)
        self._victims: list[subprocess.Popen[bytes]] = []
        self.add_victim(None)
        self._before = self._state()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the victims."""
        return tuple(victim.pid for victim in self._victims)

    def add_victim(self, user: int | None) -> None:
        """A process that does nothing, of our own user or of the one numbered `user`, with the secret in its memory."""
        victim = subprocess.Popen(
            ["/bin/cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={VARIABLE: self.token},
            cwd="/",
            user=user,
            start_new_session=True,
        )
        self._exits.callback(_end, victim)
        self._victims.append(victim)
        self._before = self._state()

    def disturbed(self) -> list[str]:
        """In words, what has happened to them since the last time."""
        found = [f"a connection reached {name}" for name in self._visited()]
        now, before = self._state(), self._before
        found += [
            f"{name} of the canaries changed from {getattr(before, name)!r} to {getattr(now, name)!r}"
            for name in _State.__dataclass_fields__
            if getattr(now, name) != getattr(before, name)
        ]
        self._before = now
        return found

    def _visited(self) -> list[str]:
        found: list[str] = []
        for name, server in (("TCP", self.tcp), ("an abstract socket", self.abstract), ("a named socket", self.named)):
            with suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()
                    found.append(name)
        for name, receiver in (("UDP", self.udp), ("a socket for datagrams", self.datagrams)):
            with suppress(BlockingIOError):
                while True:
                    receiver.recv(1)
                    found.append(name)
        return found

    def _state(self) -> _State:
        with suppress(OSError):
            state = self.secret.stat()
            return _State(
                names=tuple(sorted(os.listdir(self.folder))),
                content=self.secret.read_bytes(),
                mode=state.st_mode,
                owner=(state.st_uid, state.st_gid),
                links=state.st_nlink,
                modified_ns=state.st_mtime_ns,
                victims=tuple(_vital_signs(victim) for victim in self._victims),
                host=_host(),
            )
        return _State(
            names=(), content=b"", mode=0, owner=(0, 0), links=0, modified_ns=0, victims=(), host=()
        )  # it is gone


def _host() -> tuple[str, ...]:
    """What of the host's kernel could be changed by an attack here."""
    found = [os.uname().nodename]
    for name in ("core_pattern", "modprobe", "domainname"):
        with suppress(OSError):
            found.append(Path("/proc/sys/kernel", name).read_text(encoding="utf-8"))
    return tuple(found)


def _vital_signs(victim: subprocess.Popen[bytes]) -> tuple[object, ...]:
    if victim.poll() is not None:
        return ("dead", victim.returncode)
    with suppress(OSError):
        stopped = Path(f"/proc/{victim.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "Tt"
        return (
            "stopped" if stopped else "alive",
            os.getpriority(os.PRIO_PROCESS, victim.pid),
            tuple(sorted(os.sched_getaffinity(victim.pid))),
            os.sched_getscheduler(victim.pid),
            tuple(resource.prlimit(victim.pid, each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)),
        )
    return ("dead", victim.poll())


def _end(victim: subprocess.Popen[bytes]) -> None:
    victim.kill()
    victim.communicate()


@contextmanager
def canaries() -> Generator[Canaries]:
    """Put up for as long as the block lasts, and gone after it."""
    place = next(place for place in _PLACES if os.access(place, os.W_OK | os.X_OK))
    with ExitStack() as exits:
        outer = exits.enter_context(tempfile.TemporaryDirectory(prefix=f"bichat-attack-{os.getpid()}-", dir=place))
        Path(outer).chmod(0o755)
        # Nothing but the sandbox's walls keeps anybody from these: what holds is not the host's file modes.
        folder = Path(outer) / "open"
        folder.mkdir()
        folder.chmod(0o777)
        standing = Canaries(folder, exits)
        exits.enter_context(_variable(standing.token))
        exits.callback(os.close, _leaky(standing.secret))
        yield standing


@contextmanager
def _variable(token: str) -> Generator[None]:
    os.environ[VARIABLE] = token
    try:
        yield
    finally:
        with contextlib.suppress(KeyError):
            del os.environ[VARIABLE]


def _leaky(path: Path) -> int:
    """A file of the server, open and inheritable as no careful server would have it."""
    descriptor = os.open(path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)  # positional in the standard library
    return descriptor
