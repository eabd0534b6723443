"""SECURITY.md: every test that it names is there, and every layer is switched off somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from bichat.sandbox.isolation.layers import Layer

ROOT = Path(__file__).parents[2]
ATTACKS = ROOT / "tests" / "integration" / "sandbox"


def test_every_test_that_proves_a_promise_exists():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

    named = re.findall(r"`((?:tests/unit/)?test_\w+\.py)`", page)

    assert len(named) > 10
    for name in named:
        assert (ROOT / name).is_file() or (ATTACKS / name).is_file(), name


def test_every_layer_is_switched_off_by_a_test_that_sees_what_happens():
    tests = "".join(path.read_text(encoding="utf-8") for path in ATTACKS.glob("test_*.py"))

    for layer in Layer:
        assert re.search(rf"ALL_LAYERS - \{{[^}}]*Layer\.{layer.name}\b", tests), layer
