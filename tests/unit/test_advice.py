"""What a person is told about a call that was refused."""

from __future__ import annotations

import socket

import pytest

from bichat.sandbox.advice import _WORDS, advice, spelled
from bichat.sandbox.isolation.calls import NUMBERS
from bichat.sandbox.isolation.policy import ALLOWED, RULES, among_others

ALWAYS_ALLOWED = {name for names in ALLOWED.values() for name in names.split()}


@pytest.mark.parametrize("call", sorted(RULES.keys() - ALWAYS_ALLOWED))
def test_every_call_that_can_be_refused_is_spelled_and_has_a_sentence_that_says_what_to_do(call):
    for arguments in ((0,) * 6, ((1 << 64) - 1,) * 6):
        assert spelled(call, arguments).startswith(f"{call}(")
        assert advice(call, arguments).endswith(".")


def test_words_are_for_calls_that_exist_and_can_be_refused():
    names = [name for calls in _WORDS for name in calls.split()]

    assert len(names) == len(set(names))
    refused_without_namespaces = {
        name for name, rule in among_others(landlock_abi=7, pid=None).items() if rule.error and not rule.conditions
    }
    assert set(names) <= (NUMBERS.keys() - ALWAYS_ALLOWED) | refused_without_namespaces


def test_a_call_that_no_table_knows_is_one_to_do_without():
    assert advice("call 999", (0,) * 6).startswith("Nothing")
    assert spelled("call 999", (0,) * 6) == "call 999()"


def test_the_arguments_that_decide_are_spelled_as_the_kernel_reads_them():
    assert spelled("socket", (socket.AF_INET, 1, 0, 0, 0, 0)) == "socket(AF_INET)"
    assert spelled("socket", (999, 1, 0, 0, 0, 0)) == "socket(999)"
    assert spelled("madvise", (0, 4096, 12, 0, 0, 0)) == "madvise(0xc)"
    assert spelled("setsockopt", (3, 1, 1 << 40 | 7, 0, 0, 0)) == "setsockopt(0x1, 0x7)"
    assert spelled("unshare", (0x1000_0000, 0, 0, 0, 0, 0)) == "unshare(0x10000000)"
    assert spelled("memfd_create", (1, 2, 3, 4, 5, 6)) == "memfd_create()"


def test_a_named_socket_is_not_taken_for_the_network():
    assert "network" in advice("socket", (socket.AF_INET, 0, 0, 0, 0, 0))
    assert "network" not in advice("socket", (socket.AF_UNIX, 0, 0, 0, 0, 0))
