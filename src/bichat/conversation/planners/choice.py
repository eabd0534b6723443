"""Which planner answers to a model's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bichat.conversation.planner import Planner, PlannerError
from bichat.conversation.planners.local_python import LocalPython
from bichat.errors import UserInputError
from bichat.settings.settings import LOCAL_PYTHON, Settings

if TYPE_CHECKING:
    from bichat.conversation.planners.provider import ProviderPlanner


class ConfiguredPlanners:
    """Implements `Planners`: `local-python` by its name, and the provider's model by any other.

    Whoever asks for `gpt-4o` where another model is configured gets that one: programs that name a model go on to work.
    """

    def __init__(self, provider: ProviderPlanner | None = None) -> None:
        """None: there is no model."""
        self._local = LocalPython()
        self._provider = provider

    def planner(self, model: str) -> Planner:
        """See `Planners.planner`."""
        if model == LOCAL_PYTHON:
            return self._local
        if self._provider is None:
            raise PlannerError(
                f"the model {model[:100]!r} cannot answer: no model is configured here",
                reason="not_configured",
                remedy="Set BICHAT_MODEL (docs/how-to/models.md), or ask for the model local-python and send Python.",
            )
        return self._provider

    @property
    def names(self) -> tuple[str, ...]:
        """See `Planners.names`."""
        return (LOCAL_PYTHON,) if self._provider is None else (LOCAL_PYTHON, self._provider.model)

    async def aclose(self) -> None:
        """Give back the connections to the provider."""
        if self._provider is not None:
            await self._provider.aclose()


def configured_planners(settings: Settings) -> ConfiguredPlanners:
    """The planners that the settings ask for.  The first one with a provider takes seconds: its libraries are large.

    Raises:
        UserInputError: there is to be a model, and what speaks to its provider is not installed.
    """
    if not settings.model:
        return ConfiguredPlanners()
    try:
        from bichat.conversation.planners.provider import Endpoint, ProviderPlanner
    except ImportError as error:
        raise UserInputError(
            f"BICHAT_MODEL is set, and {error.name} is not installed",
            stage="settings",
            remedy="Install what it needs: pip install 'bichat[agent]'.",
        ) from error
    kind, _, model = settings.model.partition(":")
    endpoint = Endpoint(
        kind=kind,
        model=model,
        base_url=settings.model_base_url,
        key=settings.model_api_key.get_secret_value(),
        sees_images=settings.model_sees_images,
    )
    return ConfiguredPlanners(ProviderPlanner(endpoint))
