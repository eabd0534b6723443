"""Bodies of answers."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse


class JsonAnswer(JSONResponse):
    """JSON in ASCII: what code prints and people send may hold lone surrogates, which have no other form."""

    def render(self, content: Any) -> bytes:
        """See `Response.render`."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
