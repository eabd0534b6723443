"""Soon."""

from __future__ import annotations

from bichat.attacks.attack import Attack

ATTACKS: tuple[Attack, ...] = ()
