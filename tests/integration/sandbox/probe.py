"""Read by conftest.py and put before every attack: what an attacker would write first.  Runs inside the sandbox."""

from __future__ import annotations

import ctypes
import errno
import json
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def attempt(call, *args, **kwargs):
    """`ok` when the call worked, else the name of its errno, or of the exception that has none."""
    try:
        call(*args, **kwargs)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:  # noqa: BLE001  # the name of whatever came is the answer
        return type(error).__name__
    return "ok"


def syscall(number, *args):
    """`ok`, or the name of the errno of the call made by number."""
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    if _libc.syscall(ctypes.c_long(number), *converted) == -1:
        return errno.errorcode[ctypes.get_errno()]
    return "ok"


def read(path, size=65536):
    """The start of a file, as text."""
    with open(path, "rb") as file:
        return file.read(size).decode("utf-8", "backslashreplace")


def status_field(name, pid="self"):
    """One line of /proc/<pid>/status, without its name."""
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{name}:"):
            return line.split(None, 1)[1]
    return None


def descriptors():
    """What each open descriptor refers to."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the one that listed the folder
            continue
    return found


def answer(value):
    """Hand `value` to the test, past whatever has become of sys.stdout."""
    os.write(1, json.dumps({"answer": value}).encode() + b"\n")
