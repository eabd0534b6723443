"""Which planner answers to which name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import SecretStr

from bichat.conversation.planner import PlannerError
from bichat.conversation.planners.choice import configured_planners
from bichat.settings.settings import Settings


def test_without_a_model_code_runs_and_every_other_name_is_refused():
    planners = configured_planners(Settings())

    assert planners.names == ("local-python",)
    assert planners.planner("local-python").name == "local-python"
    with pytest.raises(PlannerError) as caught:
        planners.planner("gpt-4o")
    assert caught.value.reason == "not_configured"


def test_a_configured_model_answers_to_every_other_name():
    planners = configured_planners(Settings(model="openai:gpt-4o", model_api_key=SecretStr("k")))

    assert planners.names == ("local-python", "gpt-4o")
    assert {planners.planner(name).name for name in ("gpt-4o", "o5", "")} == {"openai:gpt-4o"}
    assert planners.planner("local-python").name == "local-python"
    assert planners.planner("gpt-4o").sees_images


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize("sees", [True, False])
def test_whether_a_model_sees_can_be_said(kind, sees):
    planners = configured_planners(Settings(model=f"{kind}:x", model_sees_images=sees))

    assert planners.planner("x").sees_images is sees


def test_what_speaks_to_providers_is_loaded_for_those_alone_who_configure_one():
    code = (
        "import sys; from bichat.conversation.planners.choice import configured_planners\n"
        "from bichat.settings.settings import Settings; configured_planners(Settings())\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert set(done.stdout.split()) & {"pydantic_ai", "openai", "anthropic"} == set()
