"""The system call filter: the policy as classic BPF, built by pure functions, and its installation.

Foreign architectures and x32 are killed: a number means another call there.  What becomes of a number is found by
halving the table, so that a call costs some eight comparisons however long the list is; for calls that are allowed
whatever their arguments the kernel asks the filter once, when it is installed.
"""

from __future__ import annotations

import ctypes
import itertools
import platform
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from bichat.sandbox.isolation import kernel, policy
from bichat.sandbox.isolation.policy import (
    ALLOW,
    ARCHITECTURES,
    MISSING,
    Condition,
    Needs,
    NeedsIn,
    NotBoth,
    OneOf,
    Rule,
    Without,
)

_X32_BIT: Final = 0x4000_0000

_LOAD: Final = 0x20
_JUMP: Final = 0x05
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER_EQUAL: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
#: How far a conditional jump reaches.
_REACH: Final = 255

KILL_PROCESS: Final = 0x8000_0000
PASS: Final = 0x7FFF_0000
_NOTIFY: Final = 0x7FC0_0000
_ERRNO: Final = 0x0005_0000
#: Offsets in `struct seccomp_data`; arguments are 64 bit, little-endian, and the ones looked at fit the low half.
_OFFSET_NUMBER: Final = 0
_OFFSET_ARCHITECTURE: Final = 4
_OFFSET_ARGUMENTS: Final = 16

_SET_MODE_FILTER: Final = 1
_FLAG_NEW_LISTENER: Final = 8


class Instruction(NamedTuple):
    """One `struct sock_filter`."""

    code: int
    if_true: int
    if_false: int
    operand: int


def build_filter(
    machine: str, allowed: Sequence[str] = (), rules: Mapping[str, Rule] = policy.RULES
) -> tuple[Instruction, ...]:
    """The whole program for `machine` (`x86_64` or `aarch64`); calls that are `allowed` pass beside those of `rules`.

    Raises:
        KeyError: another machine, or a call that is in no table.
    """
    return _program(machine, {**rules, **dict.fromkeys(allowed, ALLOW)}, notify=False)


def build_explaining_filter(machine: str, rules: Mapping[str, Rule] = policy.RULES) -> tuple[Instruction, ...]:
    """As `build_filter`, but what that refuses is put to the filter's listener, which is to answer as it would have.

    Raises:
        KeyError: another machine.
    """
    return _program(machine, rules, notify=True)


def _program(machine: str, rules: Mapping[str, Rule], *, notify: bool) -> tuple[Instruction, ...]:
    program = [
        _load(_OFFSET_ARCHITECTURE),
        Instruction(_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        _returning(KILL_PROCESS),
        _load(_OFFSET_NUMBER),
    ]
    if machine == "x86_64":
        program += [Instruction(_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT), _returning(KILL_PROCESS)]
    return tuple(program + _search(_spans(policy.numbered(machine, rules)), notify=notify))


def _spans(rules: dict[int, Rule]) -> list[tuple[int, Rule]]:
    """Where each run of numbers with the same rule begins; what no table knows is missing."""
    spans: list[tuple[int, Rule]] = []
    for number in range(max(rules) + 2):
        rule = rules.get(number, MISSING)
        if not spans or spans[-1][1] is not rule:
            spans.append((number, rule))
    return spans


def _search(spans: list[tuple[int, Rule]], *, notify: bool) -> list[Instruction]:
    """Find the span that the number in the accumulator lies in, and do as its rule says."""
    if len(spans) == 1:
        return _leaf(spans[0][1], notify=notify)
    middle = len(spans) // 2
    lower, upper = _search(spans[:middle], notify=notify), _search(spans[middle:], notify=notify)
    if len(lower) <= _REACH:
        return [Instruction(_JUMP_GREATER_EQUAL, len(lower), 0, spans[middle][0]), *lower, *upper]
    far = Instruction(_JUMP, 0, 0, len(lower))
    return [Instruction(_JUMP_GREATER_EQUAL, 0, 1, spans[middle][0]), far, *lower, *upper]


def _leaf(rule: Rule, *, notify: bool) -> list[Instruction]:
    if rule.is_pretended:
        return [_returning(_ERRNO)]
    refusal = _returning(_NOTIFY if notify else _ERRNO | rule.error)
    if not rule.conditions:
        return [refusal if rule.error else _returning(PASS)]
    # Backwards: each condition falls through to the next, and out to a refusal, which is the last instruction.
    body = [_returning(PASS), refusal]
    for condition in reversed(rule.conditions):
        body = [_load(_OFFSET_ARGUMENTS + 8 * condition.argument), *_tests(condition, len(body) - 1), *body]
    return body


def _tests(condition: Condition, refusal: int) -> list[Instruction]:
    """Fall through if the condition holds for the accumulator; else jump over `refusal` instructions more."""
    match condition:
        case OneOf(values=values):
            last = len(values) - 1
            return [
                Instruction(_JUMP_EQUAL, last - at, refusal if at == last else 0, value)
                for at, value in enumerate(values)
            ]
        case Without(bits=bits):
            return [Instruction(_JUMP_ANY_BIT, refusal, 0, bits)]
        case Needs(bit=bit, others=others):
            return [Instruction(_JUMP_ANY_BIT, 0, 1, bit), Instruction(_JUMP_ANY_BIT, 0, refusal, others)]
        case NeedsIn(bits=bits, other=other, others=others):
            return [
                Instruction(_JUMP_ANY_BIT, 0, 2, bits),
                _load(_OFFSET_ARGUMENTS + 8 * other),
                Instruction(_JUMP_ANY_BIT, 0, refusal, others),
            ]
        case NotBoth(first=first, second=second):
            return [Instruction(_JUMP_ANY_BIT, 0, 1, first), Instruction(_JUMP_ANY_BIT, refusal, 0, second)]


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _returning(action: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, action)


def pack(program: Sequence[Instruction]) -> bytes:
    """The program as the array of `struct sock_filter` that the kernel takes."""
    return b"".join(itertools.starmap(struct.Struct("=HBBI").pack, program))


class _FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(packed: bytes, *, listen: bool = False) -> int:
    """Put the packed filter over this process and all its children for good.  Needs no_new_privs.

    Returns:
        If `listen`, a descriptor on which what the filter asks is heard and answered (seccomp_unotify(2)); else 0.

    Raises:
        OSError: the kernel refused the filter.
    """
    program = _FilterProgram(len(packed) // 8, packed)
    return kernel.syscall("seccomp", _SET_MODE_FILTER, _FLAG_NEW_LISTENER if listen else 0, ctypes.pointer(program))


def packed_explaining_filter(rules: Mapping[str, Rule] = policy.RULES) -> bytes:
    """The packed filter of the machine we are on that asks its listener about what `rules` refuse.

    Raises:
        KeyError: the machine is neither x86_64 nor aarch64.
    """
    return pack(build_explaining_filter(platform.machine(), rules))


def packed_filter(*, allowed: Sequence[str] = (), rules: Mapping[str, Rule] = policy.RULES) -> bytes:
    """The packed filter of the machine we are on; calls that are `allowed` pass beside those of `rules`.

    Raises:
        KeyError: the machine is neither x86_64 nor aarch64.
    """
    return pack(build_filter(platform.machine(), allowed, rules))
