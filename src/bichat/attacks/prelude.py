"""What stands before each attack's code: the attacker's tools, and how he says what he saw.  Runs inside the sandbox.

Read as text, never imported by the server.  Standard library only.  `given` holds what the host side tells: where its
canaries are, never what is in them, and the kernel's calls by number.

Each statement is a line of JSON on descriptor 1, past whatever has become of `sys.stdout`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import sys
from typing import Any

given: dict[str, Any] = {}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
#: Errnos by which a call is refused before the kernel has looked at what it is asked for.
REFUSED = ("EPERM", "EACCES", "ENOSYS", "ENOTSUP")


def say(outcome: str, sign: str, what: str, call: object = None) -> None:
    """Tell the host's side one observation: `held` by `sign`, `got through`, or `not tried`."""
    line = json.dumps({"statement": [outcome, sign, what[:300], call]}).encode() + b"\n"
    os.write(1, line)


def through(what: str) -> None:
    """It worked."""
    say("got through", "", what)


def held(sign: str, what: str = "") -> None:
    """It did not, and this is how that showed."""
    say("held", sign, what)


def untried(why: str) -> None:
    """This host has not what the attack is about."""
    say("not tried", "", why)


def name_of(error: BaseException) -> str:
    """The errno's name, or the exception's."""
    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, type(error).__name__) if number else type(error).__name__


def attempt(what: str, call: Any, *arguments: Any, **options: Any) -> Any:
    """Held when the call raises; got through when it returns, whatever it returns, which is handed on."""
    try:
        value = call(*arguments, **options)
    except Exception as error:  # noqa: BLE001  # its name is the observation
        held(name_of(error), what)
        return None
    through(f"{what} worked")
    return value


def works(call: Any, *arguments: Any, **options: Any) -> bool:
    """Whether a step on the way worked; nothing is said of it."""
    try:
        call(*arguments, **options)
    except Exception:  # noqa: BLE001  # a way that is closed is no failure of the attack
        return False
    return True


def expect(is_held: bool, sign: str, what: str) -> None:  # noqa: FBT001  # what it judges
    """Held by `sign` if so, else got through."""
    if is_held:
        held(sign, what)
    else:
        through(what)


def call(name: str, *arguments: Any) -> tuple[int, str]:
    """A call into the kernel by its number: what it returned, and the errno's name, empty when it worked."""
    converted = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    ctypes.set_errno(0)
    returned = _libc.syscall(ctypes.c_long(given["calls"][name]), *converted)
    return returned, "" if returned != -1 else errno.errorcode.get(ctypes.get_errno(), "?")


def _judge(name: str, arguments: tuple[Any, ...], refused: tuple[str, ...]) -> int:
    if name not in given["calls"]:
        untried(f"this machine has no call {name}")
        return -1
    returned, error = call(name, *arguments)
    whole = [each if isinstance(each, int) else 0 for each in arguments]
    if not error:
        say("got through", "", f"{name} returned {returned}")
    elif error in refused:
        say("held", error, name, [name, whole])
    else:
        say("got through", error, f"the kernel took {name} up: {error}")
    return returned


def kernel(name: str, *arguments: Any) -> int:
    """Held when the kernel refuses to look at the call at all; got through when it takes it up, if only to complain."""
    return _judge(name, arguments, REFUSED)


def kernel_on(name: str, *arguments: Any) -> int:
    """The same for calls on something that may not be there, which is as good as refused."""
    return _judge(name, arguments, (*REFUSED, "ESRCH", "ENOENT", "EINVAL", "EBADF"))


def read(path: str, size: int = 65536) -> str:
    """The start of a file, as text."""
    with open(path, "rb") as file:
        return file.read(size).decode("utf-8", "backslashreplace")


def steal(path: str) -> None:
    """Try to read a file, and print what was in it, which the host side recognises if it is a canary's."""
    try:
        found = read(path, 4096)
    except OSError as error:
        held(name_of(error), path)
    else:
        through(f"read {len(found)} characters of {path}: {found}")


def status_field(name: str, pid: object = "self") -> str:
    """One line of /proc/<pid>/status, without its name; empty where there is none."""
    with contextlib.suppress(OSError):
        for line in read(f"/proc/{pid}/status").splitlines():
            if line.startswith(f"{name}:"):
                return line.split(None, 1)[1]
    return ""


def descriptors() -> list[int]:
    """Numbers of the open descriptors."""
    found: list[int] = []
    for number in range(1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found


def channel() -> int:
    """The descriptor of the guest's channel to the server, of which its own code has an object somewhere."""
    import gc

    found: Any = next(each for each in gc.get_objects() if type(each).__name__ == "Channel")
    return found._socket.fileno()  # noqa: SLF001  # an attacker looks everywhere


def frame(message: object) -> bytes:
    """A frame as the supervisor reads it; bytes are its payload as they are."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return len(payload).to_bytes(4, "big") + payload


def strangers() -> list[int]:
    """Processes in sight that are neither ourselves nor our children: none of them is ours to touch."""
    own = {os.getpid()}
    try:
        names = os.listdir("/proc")
    except OSError:
        names = []
    seen = {int(name) for name in names if name.isdigit()} | {1, os.getppid()} | set(given.get("pids", ()))
    return sorted(seen - own - {0})


def program(*arguments: str) -> str:
    """What a program prints, errors too."""
    import subprocess

    done = subprocess.run(arguments, capture_output=True, text=True, errors="backslashreplace", timeout=10, check=False)
    return done.stdout + done.stderr


python = sys.executable
