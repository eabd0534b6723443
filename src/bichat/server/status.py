"""`/healthz`, `/readyz`, and downloads by signed addresses: what needs no key."""

from __future__ import annotations

from typing import Annotated, Any, Final

import anyio
from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

import bichat
from bichat.errors import BichatError
from bichat.server.content import download
from bichat.server.document import operation
from bichat.server.door import caller_of, services_of
from bichat.server.schemas import ANY_OBJECT, Array, Choice, Nullable, Text, answer, constant
from bichat.server.services import Caller, Services

HEALTH: Final = answer(
    "Health",
    {
        "status": constant("ok"),
        "version": Text(),
        "isolation": Nullable(answer("", {"level": Text(), "lacks": Array(Text())})),
    },
)
READY: Final = answer(
    "Readiness", {"status": Choice(("ready", "unready")), "reasons": ANY_OBJECT}, optional=("reasons",)
)

router = APIRouter(tags=["status"])
Who = Annotated[Caller, Depends(caller_of)]
What = Annotated[Services, Depends(services_of)]


@router.get("/healthz", openapi_extra=operation(gives=HEALTH, is_open=True))
async def health(services: What) -> dict[str, Any]:
    """That the process lives, and what stands between code and host."""
    isolation = services.interpreter.isolation
    return {
        "status": "ok",
        "version": bichat.__version__,
        "isolation": None if isolation is None else {"level": isolation.level, "lacks": list(isolation.lacks)},
    }


@router.get("/readyz", openapi_extra=operation(gives=READY, is_open=True, may_be_unready=True))
async def ready(services: What) -> Response:
    """Whether requests can be answered: the database does, and a sandbox can be had."""
    reasons: dict[str, str] = {}
    try:
        with anyio.fail_after(5):
            await services.repository.keys.exist()
    except (BichatError, TimeoutError) as error:
        reasons["database"] = getattr(error, "code", "timeout")
    if reason := await services.readiness.reason():
        reasons["sandbox"] = reason
    return JSONResponse(
        {"status": "unready", "reasons": reasons} if reasons else {"status": "ready"}, 503 if reasons else 200
    )


@router.get("/outputs/{output_id}", include_in_schema=False)
async def output(output_id: str, request: Request, caller: Who, services: What) -> Response:
    """What an execution left behind, for whoever may have it: `Artifact.url`."""
    kept = await services.repository.outputs.get(caller.tenant, output_id)
    return await download(request, services.storage, kept, kept.storage_key)


@router.get("/files/{tenant}/{name}", include_in_schema=False)
async def signed(tenant: str, name: str, request: Request, services: What) -> Response:
    """A file by a signed address, for whoever has that."""
    key = f"{tenant}/{name}"
    services.links.check(key, request.query_params.get("expires", ""), request.query_params.get("signature", ""))
    kept = await services.storage.stat(key)
    return await download(request, services.storage, kept, key)
