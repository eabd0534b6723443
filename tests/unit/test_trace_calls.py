"""The tool that shows what guests call: whose calls it counts, from lines as strace writes them."""

from __future__ import annotations

from trace_calls import calls_of_guests


def names(log: str) -> list[tuple[str, str]]:
    return [(name, error) for name, _, error in calls_of_guests(log.strip().splitlines())]


def test_what_a_process_does_before_its_filter_is_not_counted():
    log = """
10 openat(0xffffff9c, ""..., 0x80000) = 3
10 setns(5, 0x7e020000) = 0
10 seccomp(0x1, 0, 0x7ffe) = 0
10 read(3, ""..., 4096) = 12
11 read(3, ""..., 4096) = 12
10 socket(0x2, 0x1, 0) = -1 EACCES (Permission denied)
"""

    assert names(log) == [("read", ""), ("socket", "EACCES")]


def test_children_are_counted_by_their_number_outside_of_the_sandbox_even_when_they_are_heard_of_early():
    log = """
10 setns(5, 0x7e020000) = 0
10 seccomp(0x1, 0, 0x7ffe) = 0
10 clone(child_stack=NULL, flags=0x1200000|17 <unfinished ...>
77 getpid() = 3 /* 77 in strace's PID NS */
10 <... clone resumed>, child_tidptr=0x7f) = 3 /* 77 in strace's PID NS */
77 exit_group(0) = ?
"""

    assert names(log) == [("clone", ""), ("getpid", ""), ("exit_group", "")]


def test_the_number_of_a_process_that_has_ended_may_be_another_ones():
    log = """
10 setns(5, 0x7e020000) = 0
10 seccomp(0x1, 0, 0x7ffe) = 0
10 +++ exited with 0 +++
10 execve(""..., 0x1, 0x2) = 0
"""

    assert names(log) == []


def test_a_program_that_puts_up_a_filter_of_its_own_is_no_guest():
    assert names("10 seccomp(0x1, 0, 0x7ffe) = 0\n10 getpid() = 10") == []


def test_the_arguments_of_a_call_are_told_without_its_end():
    log = "10 setns(5, 0) = 0\n10 seccomp(0x1, 0, 0x7ffe) = 0\n10 fcntl(3, 0x1) = 0x1 (flags 0x1)"

    assert list(calls_of_guests(log.splitlines())) == [("fcntl", "3, 0x1", "")]
