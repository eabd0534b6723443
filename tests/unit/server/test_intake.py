"""What a process takes of requests' bodies at a time."""

from __future__ import annotations

import pytest

from bichat.server.intake import Intake
from bichat.server.problems import RefusedError


def test_one_caller_has_half_of_it_and_gets_it_back():
    intake = Intake(100)
    intake.hold("ann", 50)

    with pytest.raises(RefusedError, match="with this key") as refused:
        intake.hold("ann", 1)
    assert refused.value.retry_after_s

    intake.hold("bob", 50)
    with pytest.raises(RefusedError, match="by this server"):
        intake.hold("cat", 1)
    intake.release("ann", 50)
    intake.hold("cat", 50)
