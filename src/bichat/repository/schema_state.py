"""What `bichat db` tells of a database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """What stands in a database, and what should."""

    place: str
    """Its address, without the password."""
    version: str
    """Empty where there are no tables yet."""
    newest: str
    differences: tuple[str, ...]
    """What is otherwise than the migrations made it; looked for in the newest version alone."""
