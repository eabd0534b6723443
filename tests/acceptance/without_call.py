"""Run a command on a host that forbids some system calls: `python without_call.py NUMBER,... COMMAND ARGUMENT...`."""

from __future__ import annotations

import errno
import os
import sys

from bichat.sandbox.isolation import kernel, seccomp
from bichat.sandbox.isolation.seccomp import Instruction

LOAD, EQUAL, RETURN, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7FFF_0000, 0x0005_0000


def main() -> None:
    program = [Instruction(LOAD, 0, 0, 0)]
    for number in map(int, sys.argv[1].split(",")):
        program += [Instruction(EQUAL, 0, 1, number), Instruction(RETURN, 0, 0, ERRNO | errno.EPERM)]
    program.append(Instruction(RETURN, 0, 0, ALLOW))
    kernel.forbid_new_privileges()
    seccomp.install(seccomp.pack(program))
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
