"""The filter, run by an interpreter of classic BPF for both machines: what the kernel would answer to each call."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from bichat.sandbox.isolation import seccomp
from bichat.sandbox.isolation.seccomp import ALLOW, ARCHITECTURES, DENIED, KILL_PROCESS, build_filter, pack

COLUMNS = {"x86_64": 0, "aarch64": 1}
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}
I386 = 0x4000_0003
MMAP, SETSOCKOPT = (9, 222), (54, 208)
machines = pytest.mark.parametrize("machine", COLUMNS)
#: Calls that every program makes: read, write, openat, close, futex, execve, exit_group, mprotect, fcntl, wait4.
ORDINARY = {
    "x86_64": (0, 1, 257, 3, 202, 59, 231, 10, 72, 61, 39, 186, 230, 318, 302),
    "aarch64": (63, 64, 56, 57, 98, 221, 94, 226, 25, 260, 172, 178, 115, 278, 261),
}


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter for `machine` returns for one call."""
    arch = ARCHITECTURES[machine] if architecture is None else architecture
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, arch, 0, *(argument & (1 << 64) - 1 for argument in padded))
    program = build_filter(machine)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        match code:
            case seccomp._LOAD:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case seccomp._JUMP_EQUAL:
                at += if_true if accumulator == operand else if_false
            case seccomp._JUMP_GREATER_EQUAL:
                at += if_true if accumulator >= operand else if_false
            case seccomp._JUMP_ANY_BIT:
                at += if_true if accumulator & operand else if_false
            case seccomp._RETURN:
                return operand
            case _:
                pytest.fail(f"an instruction that the kernel's checker would refuse: {code:#x}")


def refusal(error: int) -> int:
    return 0x0005_0000 | error


@machines
def test_every_instruction_fits_the_kernels_structure_and_jumps_forward_inside_the_program(machine):
    program = build_filter(machine)

    assert len(program) <= 4096
    assert len(pack(program)) == 8 * len(program)
    for at, instruction in enumerate(program):
        assert 0 <= instruction.if_true < 256
        assert 0 <= instruction.if_false < 256
        assert at + 1 + max(instruction.if_true, instruction.if_false) < len(program) or instruction.code == 0x06


@machines
def test_a_call_of_another_architecture_kills_the_process(machine):
    assert verdict(machine, 0, architecture=ARCHITECTURES[OTHER[machine]]) == KILL_PROCESS
    assert verdict(machine, 0, architecture=I386) == KILL_PROCESS


@pytest.mark.parametrize("number", [0x4000_0000, 0x4000_0000 + 39, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_call_of_the_x32_table_kills_the_process(number):
    assert verdict("x86_64", number) == KILL_PROCESS


@machines
def test_every_denied_call_is_refused_with_eperm_whatever_its_arguments(machine):
    numbers = [pair[COLUMNS[machine]] for pair in DENIED.values()]

    verdicts = {
        verdict(machine, number, *[argument] * 6) for number in numbers if number is not None for argument in (0, -1)
    }

    assert verdicts == {refusal(errno.EPERM)}


@machines
def test_what_every_program_needs_is_allowed(machine):
    assert {verdict(machine, number) for number in ORDINARY[machine]} == {ALLOW}


@machines
def test_nothing_but_the_listed_calls_is_refused(machine):
    column = COLUMNS[machine]
    pairs = [*DENIED.values(), seccomp._CLONE3, seccomp._SOCKET, seccomp._SOCKETPAIR]

    refused = {number for number in range(600) if verdict(machine, number) != ALLOW}

    assert refused == {pair[column] for pair in pairs if pair[column] is not None}


@machines
@pytest.mark.parametrize("bit", [15, 17, 25, 26, 27, 28, 29, 30])
def test_clone_into_a_new_namespace_or_beside_its_parent_is_refused_and_a_thread_allowed(machine, bit):
    number = seccomp._CLONE[COLUMNS[machine]]
    thread = 0x003D_0F00

    assert verdict(machine, number, 1 << bit | 17) == refusal(errno.EPERM)
    assert verdict(machine, number, 1 << bit | thread) == refusal(errno.EPERM)
    assert verdict(machine, number, 17) == ALLOW
    assert verdict(machine, number, thread) == ALLOW
    assert verdict(machine, number, 0x4111) == ALLOW  # vfork


@machines
def test_clone3_is_missing_and_sockets_are_forbidden(machine):
    column = COLUMNS[machine]

    assert verdict(machine, seccomp._CLONE3[column]) == refusal(errno.ENOSYS)
    assert {verdict(machine, seccomp._SOCKET[column], family) for family in range(50)} == {refusal(errno.EACCES)}


@machines
def test_pairs_of_sockets_are_unix_ones(machine):
    number = seccomp._SOCKETPAIR[COLUMNS[machine]]

    verdicts = {family: verdict(machine, number, family) for family in range(50)}

    assert verdicts.pop(socket.AF_UNIX) == ALLOW
    assert set(verdicts.values()) == {refusal(errno.EACCES)}


@machines
def test_handles_on_the_process_at_the_other_end_of_a_socket_are_refused(machine):
    setsockopt, getsockopt = seccomp._SETSOCKOPT[COLUMNS[machine]], seccomp._GETSOCKOPT[COLUMNS[machine]]

    assert verdict(machine, setsockopt, 3, socket.SOL_SOCKET, 76) == refusal(errno.EPERM)
    assert verdict(machine, getsockopt, 3, socket.SOL_SOCKET, 77) == refusal(errno.EPERM)
    assert verdict(machine, getsockopt, 3, socket.SOL_SOCKET, socket.SO_ERROR) == ALLOW


@machines
def test_leases_and_notices_are_refused_and_what_else_fcntl_does_is_allowed(machine):
    number = seccomp._FCNTL[COLUMNS[machine]]

    refused = {command for command in range(2000) if verdict(machine, number, 3, command) != ALLOW}

    assert refused == {1024, 1026, 1040}


@machines
@pytest.mark.parametrize("request_number", [0x5412, 0x541C, 0x1_0000_5412])
def test_requests_that_type_into_terminals_are_refused_with_any_high_half(machine, request_number):
    number = seccomp._IOCTL[COLUMNS[machine]]

    assert verdict(machine, number, 0, request_number) == refusal(errno.EPERM)
    assert verdict(machine, number, request_number, 0x5401) == ALLOW


@machines
@pytest.mark.parametrize(
    "flags, allowed",
    [
        (0x22, True),
        (0x01, True),
        (0x02, True),
        (0x4022, True),
        (0x21, False),
        (0x23, False),
        (0x4021, False),
        (0x20, True),
    ],
)
def test_memory_is_mapped_shared_from_files_only(machine, flags, allowed):
    expected = ALLOW if allowed else refusal(errno.EPERM)

    assert verdict(machine, MMAP[COLUMNS[machine]], 0, 4096, 3, flags, -1, 0) == expected


@machines
@pytest.mark.parametrize("option, allowed", [(7, False), (32, False), (8, True), (2, True), (20, True)])
def test_the_size_of_a_sockets_send_buffer_is_fixed(machine, option, allowed):
    expected = ALLOW if allowed else refusal(errno.EPERM)

    assert verdict(machine, SETSOCKOPT[COLUMNS[machine]], 3, socket.SOL_SOCKET, option, 0, 4) == expected


def test_no_number_stands_for_two_calls():
    for column in COLUMNS.values():
        numbers = [pair[column] for pair in DENIED.values() if pair[column] is not None]

        assert len(numbers) == len(set(numbers))


def test_another_machine_has_no_filter():
    with pytest.raises(KeyError):
        build_filter("riscv64")
