"""Calls that the filter refuses, named for whoever asks; the guest that is asked about is walled in as any other."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from bichat.domain import Status
from bichat.sandbox.denials import Denials
from bichat.sandbox.isolation.calls import NUMBERS
from bichat.sandbox.isolation.policy import COLUMN, RULES
from bichat.sandbox.supervisor import Supervisor


@pytest.fixture
def explained(portal, bare_environment, limits, with_probe, attack, tmp_path):
    """Run code with its denials explained: how it ended, and what was refused to it."""

    def run(code: str, **given: object):
        async def go(denials: Denials):
            async with Supervisor(bare_environment, spool_folder=Path(tmp_path), denials=denials) as supervisor:
                return await attack(supervisor, with_probe(code, given), limits=limits)

        with Denials() as denials:
            outcome = portal.call(go, denials)
        return outcome, {denial.call: denial for denial in denials.found}

    return run


def test_refused_calls_are_named_with_the_errno_that_the_code_was_given_and_their_number(explained):
    outcome, found = explained(
        """
import mmap, socket
answer([
    attempt(socket.socket), attempt(socket.socket),
    attempt(os.memfd_create, "x"), attempt(mmap.mmap, -1, 4096), attempt(open, "/etc/passwd"),
])
"""
    )

    assert outcome.answer[:4] == ["EACCES", "EACCES", "EPERM", "EPERM"]
    assert {call: (denial.error, denial.times) for call, denial in found.items()} == {
        "socket(AF_INET)": ("EACCES", 2),
        "memfd_create()": ("EPERM", 1),
        "mmap(0x21)": ("EPERM", 1),
    }


def test_programs_and_processes_that_the_code_starts_are_heard_too(explained):
    outcome, found = explained(
        """
import subprocess, sys
code = "import os\\ntry: os.memfd_create('x')\\nexcept OSError as error: print(error.errno)"
answer(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
"""
    )

    assert outcome.status is Status.COMPLETED
    assert found["memfd_create()"].times == 1


def test_every_call_is_answered_as_the_usual_filter_answers_it(explained, run_code):
    numbers = [
        number
        for name, rule in RULES.items()
        if rule.error and (number := NUMBERS[name][COLUMN[platform.machine()]]) is not None
    ]
    code = "answer([syscall(number, -1, 0x2000, 0x7FFF, 0x21, 0, 8) for number in numbers])"

    outcome, found = explained(code, numbers=numbers)
    usual = run_code(code, given={"numbers": numbers})

    assert outcome.answer == usual.answer
    assert len(found) > 100


def test_a_guest_holds_neither_the_listener_nor_init_s_socket(explained):
    outcome, _ = explained("answer(sorted(descriptors().values()))")

    assert not [target for target in outcome.answer if "seccomp" in target]
    assert len([target for target in outcome.answer if target.startswith("socket:")]) == 1


def test_code_that_is_killed_in_the_middle_of_a_refused_call_leaves_nothing_behind(explained, open_descriptors):
    before = open_descriptors()

    outcome, _ = explained(
        """
import threading
def ask():
    while True:
        attempt(os.memfd_create, "x")
for _ in range(4):
    threading.Thread(target=ask, daemon=True).start()
while True:
    if attempt(os.memfd_create, "x") == "EPERM":
        os.kill(os.getpid(), 9)
"""
    )

    assert outcome.status is Status.KILLED
    assert open_descriptors() == before


def test_nothing_is_found_where_nothing_was_refused(explained):
    outcome, found = explained("print(sum(range(10)))")

    assert outcome.stdout == "45\n"
    assert found == {}
