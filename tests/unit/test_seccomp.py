"""The filter, run by an interpreter of classic BPF for both machines: what the kernel would answer to each call."""

from __future__ import annotations

import errno
import socket
import struct
from functools import cache

import pytest

from bichat.sandbox.isolation import policy, seccomp
from bichat.sandbox.isolation.calls import NUMBERS
from bichat.sandbox.isolation.policy import ALLOWED, ARCHITECTURES, CHECKED, COLUMN, NOT_THERE, RULES, numbered
from bichat.sandbox.isolation.seccomp import KILL_PROCESS, PASS, build_explaining_filter, build_filter, pack

OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}
I386 = 0x4000_0003
NOTIFY = 0x7FC0_0000
HIGH = 0xFFFF_FFFF_0000_0000
machines = pytest.mark.parametrize("machine", COLUMN)

#: What an earlier filter refused, which let everything else pass; a few by argument, see below.
NEVER_ALLOWED = """
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp migrate_pages
    sched_setaffinity move_pages mount umount2 pivot_root chroot unshare setns open_tree open_tree_attr move_mount
    fsopen fsconfig fsmount fspick mount_setattr statmount listmount listns add_key request_key keyctl bpf
    perf_event_open userfaultfd kexec_load kexec_file_load init_module finit_module delete_module reboot swapon
    swapoff acct quotactl quotactl_fd syslog settimeofday clock_settime adjtimex clock_adjtime sethostname
    setdomainname vhangup iopl ioperm modify_ldt uselib nfsservctl lookup_dcookie personality lsm_set_self_attr
    name_to_handle_at open_by_handle_at fanotify_init fanotify_mark inotify_init inotify_init1 sendmsg sendmmsg
    io_setup io_uring_setup io_uring_enter io_uring_register memfd_create memfd_secret shmget shmat shmctl semget
    semctl msgget msgctl mq_open mq_unlink vmsplice
"""


def run(program: tuple[seccomp.Instruction, ...], data: bytes) -> int:
    """What `program` returns for a `struct seccomp_data`."""
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        match code:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x05:  # BPF_JMP | BPF_JA
                at += operand
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                at += if_true if accumulator == operand else if_false
            case 0x35:  # BPF_JMP | BPF_JGE | BPF_K
                at += if_true if accumulator >= operand else if_false
            case 0x45:  # BPF_JMP | BPF_JSET | BPF_K
                at += if_true if accumulator & operand else if_false
            case 0x06:  # BPF_RET | BPF_K
                return operand
            case _:
                pytest.fail(f"an instruction that the kernel's checker would refuse: {code:#x}")


def seccomp_data(number: int, arguments: tuple[int, ...], architecture: int) -> bytes:
    padded = (*arguments, *[0] * (6 - len(arguments)))
    return struct.pack("<IIQ6Q", number, architecture, 0, *(argument & (1 << 64) - 1 for argument in padded))


filter_of = cache(build_filter)


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter for `machine` returns for the call with this number."""
    arch = ARCHITECTURES[machine] if architecture is None else architecture
    return run(filter_of(machine), seccomp_data(number, arguments, arch))


def answer(machine: str, name: str, *arguments: int) -> str:
    """`ok`, the name of the errno that a call gets, or `absent` where the machine has none of that name."""
    number = NUMBERS[name][COLUMN[machine]]
    if number is None:
        return "absent"
    returned = verdict(machine, number, *arguments)
    return "ok" if returned == PASS else errno.errorcode[returned & 0xFFFF]


def allowed_values(machine: str, name: str, argument: int, values: range, *before: int) -> set[int]:
    """Which of `values` may stand as that argument of the call."""
    return {value for value in values if answer(machine, name, *before[:argument], value) == "ok"}


@machines
def test_every_instruction_fits_the_kernels_structure_and_jumps_forward_inside_the_program(machine):
    for program in (build_filter(machine), build_explaining_filter(machine)):
        assert len(program) <= 4096
        assert len(pack(program)) == 8 * len(program)
        for at, instruction in enumerate(program):
            assert 0 <= instruction.if_true < 256
            assert 0 <= instruction.if_false < 256
            far = instruction.operand if instruction.code == 0x05 else 0
            assert at + 1 + max(instruction.if_true, instruction.if_false, far) < len(program) or instruction.code == 6


@machines
def test_no_call_takes_more_than_a_handful_of_comparisons_to_be_found(machine):
    program = filter_of(machine)

    def steps(number: int) -> int:
        at = taken = 0
        accumulator = 0
        while program[at].code != 0x06 and not (program[at].code == 0x20 and program[at].operand >= 16):
            code, if_true, if_false, operand = program[at]
            if code == 0x20:
                accumulator = number if operand == 0 else ARCHITECTURES[machine]
            at += 1
            taken += 1
            if code == 0x05:
                at += operand
            elif code != 0x20:
                at += if_true if (accumulator == operand if code == 0x15 else accumulator >= operand) else if_false
        return taken

    assert max(map(steps, range(500))) <= 20


@machines
def test_a_call_of_another_architecture_kills_the_process(machine):
    assert verdict(machine, 0, architecture=ARCHITECTURES[OTHER[machine]]) == KILL_PROCESS
    assert verdict(machine, 0, architecture=I386) == KILL_PROCESS


@pytest.mark.parametrize("number", [0x4000_0000, 0x4000_0000 + 39, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_call_of_the_x32_table_kills_the_process(number):
    assert verdict("x86_64", number) == KILL_PROCESS


@machines
@pytest.mark.parametrize("group", ALLOWED)
def test_every_listed_call_is_allowed_whatever_its_arguments(machine, group):
    answers = {answer(machine, name, *[argument] * 6) for name in ALLOWED[group].split() for argument in (0, -1)}

    assert answers <= {"ok", "absent"}


@machines
def test_nothing_but_the_listed_calls_is_allowed_with_any_arguments(machine):
    listed = {name for names in ALLOWED.values() for name in names.split()}
    numbers = {NUMBERS[name][COLUMN[machine]] for name in listed | CHECKED.keys()}
    odd = (0, 1, 2, 5, 0x21, 0x5412, 0x7FFF_FFFF, -1)

    passed = {number for number in range(700) if any(verdict(machine, number, *[value] * 6) == PASS for value in odd)}

    assert passed <= numbers


@machines
def test_what_was_refused_once_is_refused_for_good(machine):
    answers = {answer(machine, name, *[argument] * 6) for name in NEVER_ALLOWED.split() for argument in (0, 1, -1)}

    assert answers - {"absent"} == {"EPERM"}


@machines
def test_what_no_table_knows_is_missing(machine):
    known = {numbers[COLUMN[machine]] for numbers in NUMBERS.values()}

    verdicts = {verdict(machine, number) for number in range(4096) if number not in known}

    assert verdicts == {0x0005_0000 | errno.ENOSYS}


@machines
def test_what_libraries_do_without_is_missing(machine):
    assert {answer(machine, name) for name in NOT_THERE.split()} <= {"ENOSYS", "absent"}
    assert answer(machine, "clone3") == "ENOSYS"


@machines
def test_the_filter_answers_as_the_policy_says(machine):
    edges = (0, 1, 2, 3, 7, 16, 17, 33, 1024, 1030, 0x1002, 0x2000, 0x5401, 0x5412, 0x3D_0F00, 0x1000_0000, 2**31, -1)
    for number, rule in numbered(machine, RULES).items():
        for value in edges:
            for arguments in ((value,) * 6, (0, value, 1, value, 0, 0), (value, 1, value, 0, 1, value)):
                unsigned = [argument & (1 << 64) - 1 for argument in arguments]

                expected = 0x0005_0000 | error if (error := rule.answer(unsigned)) else PASS

                assert verdict(machine, number, *arguments) == expected


@machines
@pytest.mark.parametrize("bit", [13, 15, 17, 23, 25, 26, 27, 28, 29, 30])
def test_clone_into_a_new_namespace_beside_its_parent_or_traced_is_refused_and_a_thread_allowed(machine, bit):
    thread = 0x003D_0F00

    assert answer(machine, "clone", 1 << bit | 17) == "EPERM"
    assert answer(machine, "clone", 1 << bit | thread) == "EPERM"
    assert answer(machine, "clone", HIGH | 1 << bit | thread) == "EPERM"
    assert answer(machine, "clone", 17) == "ok"
    assert answer(machine, "clone", 0x0120_0011) == "ok"  # fork of libc
    assert answer(machine, "clone", thread) == "ok"
    assert answer(machine, "clone", 0x4111) == "ok"  # vfork


@machines
def test_what_would_hold_memory_or_files_where_nobody_looks_is_refused(machine):
    thread = 0x003D_0F00

    assert answer(machine, "clone", thread & ~0x400) == "EPERM"  # a thread with descriptors of its own
    assert answer(machine, "close_range", 3, 9, 2) == "EPERM"  # the same later
    assert (answer(machine, "close_range", 3, 9, 0), answer(machine, "close_range", 3, 9, 4)) == ("ok", "ok")
    assert answer(machine, "clone", 0x111) == "EPERM"  # a process with its parent's memory, which does not wait for it


@machines
def test_there_is_no_network_and_pairs_of_sockets_are_unix_ones(machine):
    assert {answer(machine, "socket", family) for family in range(50)} == {"EACCES"}
    assert {answer(machine, name, 3) for name in ("bind", "connect", "listen", "accept4")} == {"EACCES"}
    assert allowed_values(machine, "socketpair", 0, range(50)) == {socket.AF_UNIX}
    assert answer(machine, "socketpair", socket.AF_INET) == "EACCES"


@machines
def test_extended_attributes_are_read_and_not_written(machine):
    assert {answer(machine, name) for name in policy._WRITING_ATTRIBUTES.split()} == {"ENOTSUP"}
    assert {answer(machine, f"{kind}{name}") for kind in ("", "l", "f") for name in ("getxattr", "listxattr")} == {"ok"}


@machines
def test_what_is_sent_goes_to_the_other_end_of_a_pair_and_to_no_name(machine):
    assert answer(machine, "sendto", 3, 1 << 40, 5, 0, 0, 0) == "ok"
    assert answer(machine, "sendto", 3, 1 << 40, 5, 0, 1 << 40, 110) == "EACCES"


@machines
def test_there_is_no_urgent_data_and_no_zero_copy(machine):
    for flags, expected in ((0, "ok"), (0x4040, "ok"), (0x4000_0002, "ok"), (1, "EACCES"), (0x400_0000, "EACCES")):
        assert answer(machine, "sendto", 3, 1 << 40, 5, flags, 0, 0) == expected
        assert answer(machine, "recvfrom", 3, 1 << 40, 5, flags, 0, 0) == expected
        assert answer(machine, "recvmsg", 3, 1 << 40, flags) == expected


@machines
def test_options_of_sockets_are_those_that_tell_nothing_and_hold_nothing(machine):
    level = socket.SOL_SOCKET

    setting = {option for option in range(120) if answer(machine, "setsockopt", 3, level, option) == "ok"}
    asking = {option for option in range(120) if answer(machine, "getsockopt", 3, level, option) == "ok"}

    assert setting.isdisjoint({7, 32, 26, 27, 50, 51, 76})  # buffers to send from, programs, handles on processes
    assert {socket.SO_REUSEADDR, socket.SO_RCVBUF, 20, 21} <= setting
    assert asking.isdisjoint({31, 59, 77})
    assert {socket.SO_ERROR, socket.SO_TYPE, socket.SO_SNDBUF, 38, 39} <= asking
    assert answer(machine, "setsockopt", 3, socket.IPPROTO_TCP, 1) == "EPERM"
    assert answer(machine, "getsockopt", 3, socket.IPPROTO_TCP, 1) == "EPERM"


@machines
def test_descriptors_are_duplicated_flagged_and_locked_and_nobody_is_told_of_them(machine):
    allowed = allowed_values(machine, "fcntl", 1, range(2000), 3)

    assert allowed.isdisjoint({8, 10, 15, 1024, 1026, 1033, 1040})  # owners, signals, leases, notices
    assert {0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030} <= allowed


@machines
@pytest.mark.parametrize("request_number", [0x5412, 0x541C, 0x1_0000_5412, 0x8901, 0xB701, 0x4004_9409, 0x5452])
def test_requests_to_devices_are_a_few_of_terminals_and_descriptors(machine, request_number):
    assert answer(machine, "ioctl", 0, request_number) == "EPERM"
    assert answer(machine, "ioctl", request_number, 0x5401) == "ok"  # TCGETS, for isatty
    assert {answer(machine, "ioctl", 3, number) for number in (0x5413, 0x541B, 0x5421, 0x5451)} == {"ok"}


@machines
@pytest.mark.parametrize(
    "flags, expected",
    [
        (0x22, "ok"),  # private, anonymous
        (0x01, "ok"),  # shared, of a file
        (0x02, "ok"),
        (0x4022, "ok"),
        (0x20, "ok"),
        (0x21, "EPERM"),
        (0x23, "EPERM"),
        (0x4021, "EPERM"),
        (0x4_0022, "EPERM"),  # from the host's pool of huge pages
        (HIGH | 0x21, "EPERM"),
    ],
)
def test_memory_is_mapped_shared_from_files_only(machine, flags, expected):
    assert answer(machine, "mmap", 0, 4096, 3, flags, -1, 0) == expected


@machines
def test_pages_are_not_merged_poisoned_or_sent_out_of_sight(machine):
    allowed = allowed_values(machine, "madvise", 2, range(120), 0, 0)

    assert allowed.isdisjoint({12, 13, 20, 21, 25, 100, 101})
    assert {0, 4, 8, 14, 15} <= allowed


@machines
def test_attributes_of_the_process_are_harmless_ones(machine):
    allowed = allowed_values(machine, "prctl", 0, range(200))

    # dumpability, seccomp, capability bounding, securebits, mm, ambient, system call dispatch, core scheduling, merging
    assert allowed.isdisjoint({4, 22, 24, 27, 28, 35, 47, 59, 62, 65, 67})
    assert {1, 15, 16, 38, 39} <= allowed
    assert answer(machine, "prctl", 0x5356_4D41) == "ok"
    assert answer(machine, "prctl", 0x5961_6D61) == "EPERM"  # PR_SET_PTRACER


def test_segments_are_set_and_cpuid_is_not_trapped():
    assert {answer("x86_64", "arch_prctl", code) for code in (0x1002, 0x1003, 0x1022, 0x1023, 0x3001)} == {"ok"}
    assert {answer("x86_64", "arch_prctl", code) for code in (0x1011, 0x1012, 0x5003)} == {"EPERM"}


@machines
def test_limits_and_priorities_are_changed_of_the_caller_alone(machine):
    for name in ("prlimit64", "sched_setparam", "sched_setscheduler", "sched_setattr", "get_robust_list"):
        assert allowed_values(machine, name, 0, range(-3, 70)) == {0}
    assert answer(machine, "setpriority", 0, 0, 5) == "ok"
    assert {answer(machine, "setpriority", 0, 1, 5), answer(machine, "setpriority", 2, 0, 5)} == {"EPERM"}
    assert answer(machine, "ioprio_set", 1, 0, 5) == "ok"
    assert {answer(machine, "ioprio_set", 1, 1, 5), answer(machine, "ioprio_set", 3, 0, 5)} == {"EPERM"}
    assert answer(machine, "sched_setaffinity", 0) == "EPERM"


@machines
@pytest.mark.parametrize("kind, expected", [(0, "ok"), (0x8000, "ok"), (0x1000, "ok")])
def test_files_and_fifos_are_made(machine, kind, expected):
    assert answer(machine, "mknodat", 3, 0, kind | 0o644) == expected
    assert answer(machine, "mknod", 0, kind | 0o644) in {expected, "absent"}


@machines
@pytest.mark.parametrize("kind", [0x2000, 0x6000, 0xC000, 0x4000], ids=["character", "block", "socket", "folder"])
def test_no_device_or_named_socket_is_made(machine, kind):
    assert answer(machine, "mknodat", 3, 0, kind | 0o644) == "EPERM"
    assert answer(machine, "mknod", 0, kind | 0o644) in {"EPERM", "absent"}


@machines
def test_init_may_make_the_calls_that_it_is_built_with_and_no_others(machine):
    program = build_filter(machine, ("sendmsg",))
    numbers = {name: numbered(machine, {name: RULES[name]}) for name in NEVER_ALLOWED.split()}

    passed = {
        name
        for name, found in numbers.items()
        if any(run(program, seccomp_data(number, (), ARCHITECTURES[machine])) == PASS for number in found)
    }

    assert passed == {"sendmsg"}


@machines
def test_the_explaining_filter_asks_about_what_the_other_one_refuses_and_about_nothing_else(machine):
    explaining = build_explaining_filter(machine)
    for number in range(600):
        for value in (0, 1, 9, 0x21, 0x5401, -1):
            data = seccomp_data(number, (value,) * 6, ARCHITECTURES[machine])
            usual, asked = run(filter_of(machine), data), run(explaining, data)

            assert asked == (PASS if usual == PASS else NOTIFY)

    assert run(explaining, seccomp_data(0, (), I386)) == KILL_PROCESS


def test_no_number_stands_for_two_calls():
    for column in COLUMN.values():
        numbers = [pair[column] for pair in NUMBERS.values() if pair[column] is not None]

        assert len(numbers) == len(set(numbers))


def test_every_call_of_the_policy_is_known_and_stands_in_one_place():
    names = [
        name
        for group in (*ALLOWED.values(), NOT_THERE, policy._NETWORK, policy._WRITING_ATTRIBUTES)
        for name in group.split()
    ]
    names += CHECKED

    assert len(names) == len(set(names))
    assert set(names) <= NUMBERS.keys()


def test_numbers_are_told_by_name():
    assert policy.name_of("x86_64", 41) == "socket"
    assert policy.name_of("aarch64", 198) == "socket"
    assert policy.name_of("aarch64", 3999) == "call 3999"


def test_another_machine_has_no_filter():
    with pytest.raises(KeyError):
        build_filter("riscv64")


# ---------------------------------------------------------------------------------------- guests among other processes


def among_others(machine: str, name: str, *arguments: int, abi: int = 7, pid: int | None = None) -> str:
    """As `answer`, of the filter for guests that have no namespaces."""
    number = NUMBERS[name][COLUMN[machine]]
    if number is None:
        return "absent"
    program = build_filter(machine, rules=policy.among_others(landlock_abi=abi, pid=pid))
    returned = run(program, seccomp_data(number, arguments, ARCHITECTURES[machine]))
    if returned == PASS:
        return "ok"
    return errno.errorcode[returned & 0xFFFF] if returned & 0xFFFF else "pretended"


@machines
@pytest.mark.parametrize("name", ["setsid", "setpgid", "chown", "fchownat", "fchown"])
def test_among_other_processes_nobody_leaves_the_group_or_gives_a_file_away(machine, name):
    assert among_others(machine, name) in ("EPERM", "absent")


@machines
@pytest.mark.parametrize("name", ["chmod", "fchmod", "fchmodat", "utime", "utimensat", "futimesat"])
def test_among_other_processes_modes_and_times_change_in_appearance_only(machine, name):
    assert among_others(machine, name) in ("pretended", "absent")


@machines
@pytest.mark.parametrize("abi", [1, 7])
def test_among_other_processes_nobody_makes_a_file_that_its_owner_may_not_read(machine, abi):
    def opened(flags: int, mode: int) -> str:
        return among_others(machine, "openat", -100, 0, flags, mode, abi=abi)

    assert (opened(0x41, 0o644), opened(0x41, 0o400), opened(0x1, 0), opened(0x0, 0)) == ("ok", "ok", "ok", "ok")
    assert (opened(0x41, 0o111), opened(0x41, 0), opened(0x40_0002, 0o311)) == ("EPERM", "EPERM", "EPERM")
    assert among_others(machine, "open", 0, 0x41, 0o111, abi=abi) in ("EPERM", "absent")
    assert among_others(machine, "creat", 0, 0o644, abi=abi) in ("EPERM", "absent")
    assert among_others(machine, "openat2", abi=abi) == "ENOSYS"
    assert (among_others(machine, "umask", 0o022, abi=abi), among_others(machine, "umask", 0o777, abi=abi)) == (
        "ok",
        "EPERM",
    )
    assert [
        among_others(machine, "mknodat", -100, 0, mode) for mode in (0x1000 | 0o644, 0x8000 | 0o311, 0o311, 0x2000)
    ] == [
        "ok",
        "EPERM",
        "EPERM",
        "EPERM",
    ]


@machines
def test_among_other_processes_nobody_outlives_the_zygote(machine):
    assert among_others(machine, "prctl", 1, 0) == "EPERM"
    assert (among_others(machine, "prctl", 15, 0), answer(machine, "prctl", 1, 0)) == ("ok", "ok")


@machines
def test_among_other_processes_what_is_refused_elsewhere_is_refused_too(machine):
    loosened = [name for name in NEVER_ALLOWED.split() if among_others(machine, name) == "ok"]

    assert loosened == []


@machines
@pytest.mark.parametrize(
    "abi, plain, cutting, cutting_while_reading, by_name",
    [
        (7, "ok", "ok", "ok", "ok"),
        (3, "ok", "ok", "ok", "ok"),
        (2, "ok", "ok", "EPERM", "EPERM"),
        (1, "ok", "ok", "EPERM", "EPERM"),
    ],
)
def test_where_landlock_does_not_hold_it_no_file_is_cut_off_without_leave_to_write(
    machine, abi, plain, cutting, cutting_while_reading, by_name
):
    def opening(flags: int) -> str:
        return among_others(machine, "openat", 0, 0, flags, 0o600, abi=abi)

    assert opening(0) == plain
    assert {opening(0x200 | 0x1), opening(0x200 | 0x2)} == {cutting}
    assert opening(0x200) == cutting_while_reading
    assert among_others(machine, "truncate", abi=abi) == by_name
    assert among_others(machine, "open", 0, 0x200, abi=abi) in (cutting_while_reading, "absent")


@machines
@pytest.mark.parametrize("name", ["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"])
def test_where_the_kernel_does_not_keep_signals_in_they_go_to_the_guest_itself_and_its_group(machine, name):
    assert among_others(machine, name, 1234) == "ok"
    assert [among_others(machine, name, pid, abi=5, pid=77) for pid in (77, 0, 78, 1, -1 & 0xFFFF_FFFF)] == [
        *("ok", "ok"),
        *("EPERM", "EPERM", "EPERM"),
    ]
    assert among_others(machine, "pidfd_send_signal", abi=5, pid=77) == "EPERM"


@machines
def test_what_is_pretended_is_no_denial_to_be_explained(machine):
    rules = policy.among_others(landlock_abi=7, pid=None)
    number = NUMBERS["fchmod"][COLUMN[machine]]
    assert number is not None

    returned = run(build_explaining_filter(machine, rules), seccomp_data(number, (), ARCHITECTURES[machine]))

    assert returned == 0x0005_0000
