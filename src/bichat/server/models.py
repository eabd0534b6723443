"""`/v1/models`: what can answer."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends

from bichat.server.document import operation
from bichat.server.door import caller_of, services_of
from bichat.server.problems import MissingError
from bichat.server.schemas import COUNT, Array, Text, answer, constant
from bichat.server.services import Caller, Services

#: When models were made is not known here; the wire wants a moment.
_CREATED: Final = 1_767_225_600

MODEL: Final = answer("Model", {"id": Text(), "object": constant("model"), "created": COUNT, "owned_by": Text()})
MODELS: Final = answer("ModelList", {"object": constant("list"), "data": Array(MODEL)})

router = APIRouter(tags=["models"])
Who = Annotated[Caller, Depends(caller_of)]
What = Annotated[Services, Depends(services_of)]


@router.get("/models", openapi_extra=operation(gives=MODELS))
async def page(_: Who, services: What) -> dict[str, Any]:
    """`local-python`, and the configured model."""
    return {"object": "list", "data": [_model(name) for name in services.core.planners.names]}


@router.get("/models/{name:path}", openapi_extra=operation(gives=MODEL))
async def retrieve(name: str, _: Who, services: What) -> dict[str, Any]:
    """One of them.  Other names are answered too, by the configured model, but are none of their own."""
    if name not in services.core.planners.names:
        raise MissingError(f"The model '{name[:100]}' does not exist.", param="model", wire_code="model_not_found")
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "bichat"}
