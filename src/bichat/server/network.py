"""Whether containers have a network: they have none, and whoever asks for one is told so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bichat.server import checks
from bichat.server.problems import FieldError


class NoNetwork:
    """The schema of `network_policy`: one that asks for no network."""

    def check(self, value: Any, param: str) -> None:
        """See `bichat.server.schemas.Schema`."""
        kind = checks.mapping(value, param).get("type")
        if kind != "disabled":
            checks.one_of(kind, f"{param}.type", ("disabled", "allowlist"))
            raise FieldError(
                "Containers have no network here: an allow-list cannot be carried out. Leave network_policy out, or "
                "say {'type': 'disabled'}, and upload the files that the code needs.",
                param=param,
                wire_code="unsupported_parameter",
            )

    def told(self) -> dict[str, Any]:
        """See `bichat.server.schemas.Schema`."""
        return {"type": "object", "properties": {"type": {"enum": ["disabled"]}}, "required": ["type"]}

    def takes(self, value: Any) -> bool:
        """See `bichat.server.schemas.Schema`."""
        return isinstance(value, Mapping)
