"""What the suite found: a value, for tables and for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bichat.attacks.attack import Attack, Outcome, Statement

#: How reasons begin that a machine, not the suite, gives for not trying.
_LACKING: Final = ("this machine", "this host")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one attack."""

    attack: Attack
    outcome: Outcome
    observed: str
    """In words: the first thing that got through, else the signs that it held; why it was not tried."""
    stopped_by: str
    """Layers and parts of bichat, as far as the signs tell; `not known` where they do not; empty when nothing stopped it."""
    duration_s: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "attack": self.attack.name,
            "family": self.attack.family.value,
            "tries": self.attack.tries,
            "expected": self.attack.expected,
            "observed": self.observed,
            "stopped_by": self.stopped_by,
            "outcome": self.outcome.value,
            "duration_s": round(self.duration_s, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All attacks at one level."""

    level: str
    uid: int
    """The server's; as root, guests have another."""
    available: bool
    """Whether this host gives sandboxes of the level."""
    reason: str = ""
    """Why it does not."""
    lacks: tuple[str, ...] = ()
    """What the level does not give here, as each result says it."""
    results: tuple[Result, ...] = ()

    def of(self, outcome: Outcome) -> tuple[Result, ...]:
        """Those with this outcome."""
        return tuple(result for result in self.results if result.outcome is outcome)

    @property
    def got_through(self) -> tuple[Result, ...]:
        """Attacks that did."""
        return self.of(Outcome.GOT_THROUGH)

    @property
    def broken(self) -> tuple[Result, ...]:
        """Attacks that were not tried although this machine has what they try: the suite itself did not work."""
        return tuple(each for each in self.of(Outcome.NOT_TRIED) if not each.observed.startswith(_LACKING))

    @property
    def counts(self) -> dict[str, int]:
        """How many attacks had each outcome."""
        return {outcome.value: len(self.of(outcome)) for outcome in Outcome}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "level": self.level,
            "uid": self.uid,
            "available": self.available,
            "reason": self.reason,
            "lacks": list(self.lacks),
            "counts": self.counts,
            "attacks": [result.to_dict() for result in self.results],
        }


def summed(statements: list[Statement]) -> tuple[Outcome, str]:
    """The outcome of an attack with these statements, and what was seen, in words.

    It got through if anything did; it was tried if anything was.
    """
    by_outcome = {outcome: [each for each in statements if each.outcome is outcome] for outcome in Outcome}
    for outcome in (Outcome.GOT_THROUGH, Outcome.HELD):
        if found := by_outcome[outcome]:
            return outcome, _words(found)
    why = by_outcome[Outcome.NOT_TRIED]
    return Outcome.NOT_TRIED, _words(why) if why else "nothing was seen"


def _words(statements: list[Statement]) -> str:
    """The first of them, with how many more there are; signs that are equal are said once."""
    first = statements[0]
    if first.outcome is not Outcome.HELD:
        more = f" (and {len(statements) - 1} more)" if len(statements) > 1 else ""
        return f"{first.what}{more}"
    if len(statements) == 1:
        return f"{first.what}: {first.sign}" if first.what else first.sign
    signs = dict.fromkeys(each.sign for each in statements)
    return f"{len(statements)} tries: {', '.join(signs)}"
