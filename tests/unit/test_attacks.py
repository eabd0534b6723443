"""How the attack suite judges what was seen: nothing that got through is outweighed by what held."""

from __future__ import annotations

import errno

import pytest

from bichat.attacks.attack import Attack, Family, Outcome, Statement, expect, held, through
from bichat.attacks.catalogue import ATTACKS
from bichat.attacks.report import summed
from bichat.attacks.suite import _judged
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer

ATTACK = Attack(
    name="try",
    family=Family.FILES,
    tries="to try",
    expected="nothing",
    signs={"ENOENT": (Layer.PRIVATE_ROOT,), "EACCES": (Layer.LANDLOCK, "file modes")},
)
NOT_TRIED = Statement(outcome=Outcome.NOT_TRIED, what="there is none")
REFUSED = Statement(outcome=Outcome.HELD, what="bpf", sign=errno.errorcode[errno.EPERM], call=("bpf", (0, 0, 0)))


@pytest.mark.parametrize(
    "said, outcome",
    [
        ([held("ENOENT", "a"), through("b"), held("ENOENT", "c")], Outcome.GOT_THROUGH),
        ([NOT_TRIED, through("b")], Outcome.GOT_THROUGH),
        ([NOT_TRIED, held("ENOENT", "a")], Outcome.HELD),
        ([NOT_TRIED], Outcome.NOT_TRIED),
        ([], Outcome.NOT_TRIED),
        ([expect(False, "ENOENT", "a")], Outcome.GOT_THROUGH),
    ],
)
def test_one_thing_that_got_through_decides(said: list[Statement], outcome: Outcome):
    assert summed(said)[0] is outcome


@pytest.mark.parametrize(
    "statement, layers, stopped_by",
    [
        (held("ENOENT", "a"), ALL_LAYERS, "private_root"),
        (held("ENOENT", "a"), ALL_LAYERS - {Layer.PRIVATE_ROOT}, "not known"),
        (held("EACCES", "a"), ALL_LAYERS, "landlock or file modes"),
        (held("EACCES", "a"), ALL_LAYERS - {Layer.LANDLOCK}, "file modes"),
        (held("EIO", "a"), ALL_LAYERS, "not known"),
        (REFUSED, ALL_LAYERS, "seccomp"),
        (REFUSED, ALL_LAYERS - {Layer.SECCOMP}, "not known"),
    ],
)
def test_a_layer_is_named_only_where_it_is_on_and_the_sign_tells(statement, layers, stopped_by):
    assert _judged(ATTACK, [statement], layers, 0.0).stopped_by == stopped_by


def test_every_family_is_attacked():
    assert {attack.family for attack in ATTACKS} == set(Family)
