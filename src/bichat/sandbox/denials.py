"""Hears of each call that the filter refuses to a guest, and answers it as the filter would have: seccomp_unotify(2).

For diagnosis: the usual filter refuses by itself and tells nobody.  Nothing is ever let through here, so that a guest
that is being explained is walled in as any other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import select
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

from bichat.sandbox.advice import advice, spelled
from bichat.sandbox.isolation import policy
from bichat.sandbox.isolation.layers import Level
from bichat.sandbox.isolation.policy import Rule

_RECEIVE: Final = 0xC050_2100
_SEND: Final = 0xC018_2101
#: `struct seccomp_notif`: id, pid, flags, and the call's number, architecture, instruction and six arguments.
_NOTICE: Final = struct.Struct("=QIIiIQ6Q")
#: `struct seccomp_notif_resp`: id, result, error, flags.
_ANSWER: Final = struct.Struct("=QqiI")
#: Programs that are remembered for one kind of call, and kinds of calls: guests choose both.
_MAX_PROGRAMS: Final = 5
_MAX_KINDS: Final = 500


@dataclass(frozen=True, slots=True)
class Denial:
    """Calls of one kind that were refused."""

    call: str
    """Its name with the arguments that decide: `socket(AF_INET)`."""
    error: str
    """The name of the errno that the code was given: `EPERM`, `ENOSYS`, `EACCES` or `ENOTSUP`."""
    programs: tuple[str, ...]
    """Names of the threads or programs that made it, the first few."""
    times: int
    advice: str
    """What to do about it."""

    def to_dict(self) -> dict[str, str | int | list[str]]:
        """JSON-ready form."""
        return {
            "call": self.call,
            "error": self.error,
            "programs": list(self.programs),
            "times": self.times,
            "advice": self.advice,
        }


class _Notice(NamedTuple):
    number: int
    """Of this one notice, for the answer."""
    pid: int
    call: str
    arguments: tuple[int, ...]
    error: int


class Denials:
    """Of all guests whose listeners it is given; `with` bounds its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, int], Denial] = {}
        self._threads: list[threading.Thread] = []
        self._stop, self._stopping = os.pipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopping)
        for thread in self._threads:
            thread.join()
        os.close(self._stop)

    @property
    def found(self) -> tuple[Denial, ...]:
        """What was refused so far, in the order in which each kind was first met."""
        with self._lock:
            return tuple(self._found.values())

    def listen(self, listener: int, level: Level) -> None:
        """Answer what comes over `listener`, which is ours from here on, until its guest and all its children are gone."""
        rules = policy.RULES if level is Level.NAMESPACES else policy.among_others(landlock_abi=0, pid=0)
        thread = threading.Thread(target=self._serve, args=(listener, rules), name="bichat-denials", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, listener: int, rules: Mapping[str, Rule]) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        try:
            while True:
                events = dict(poll.poll())
                if self._stop in events or not events[listener] & select.POLLIN:
                    return
                # Whoever made the call may be dead by now, or was interrupted and will make it again.
                with suppress(FileNotFoundError, InterruptedError):
                    self._answer(listener, rules)
        finally:
            os.close(listener)

    def _answer(self, listener: int, rules: Mapping[str, Rule]) -> None:
        notice = _receive(listener, rules)
        program = _program(notice.pid)
        fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(notice.number, 0, -notice.error, 0)))
        with self._lock:
            self._note(notice, program)

    def _note(self, notice: _Notice, program: str) -> None:
        key = (spelled(notice.call, notice.arguments), notice.error)
        known = self._found.get(key)
        if known is not None:
            is_new = program not in known.programs and len(known.programs) < _MAX_PROGRAMS
            programs = (*known.programs, program) if is_new else known.programs
            self._found[key] = replace(known, times=known.times + 1, programs=programs)
        elif len(self._found) < _MAX_KINDS:
            self._found[key] = Denial(
                call=key[0],
                error=errno.errorcode[notice.error],
                programs=(program,),
                times=1,
                advice=advice(notice.call, notice.arguments),
            )


def _receive(listener: int, rules: Mapping[str, Rule]) -> _Notice:
    received = bytearray(_NOTICE.size)
    fcntl.ioctl(listener, _RECEIVE, received)
    number, pid, _, call, _, _, *arguments = _NOTICE.unpack(received)
    machine = platform.machine()
    rule = policy.numbered(machine, rules).get(call, policy.MISSING)
    # What is not to be refused is not asked about; should it be, it is refused all the same.
    error = rule.answer(arguments) or errno.EPERM
    return _Notice(number, pid, policy.name_of(machine, call), tuple(arguments), error)


def _program(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return " ".join(file.read().split())
    except OSError:
        return "?"
