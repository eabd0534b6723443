"""The web application: OpenAI's wire, and what operators look at."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import bichat
from bichat.errors import BichatError
from bichat.server import chat, containers, files, models, status
from bichat.server.answers import JsonAnswer
from bichat.server.assistants import routes as assistants
from bichat.server.assistants import vector_stores
from bichat.server.assistants.runs import Runs
from bichat.server.assistants.threads import Threads
from bichat.server.attempts import Attempts
from bichat.server.document import describe
from bichat.server.door import Door, caller_of
from bichat.server.frame import Frame
from bichat.server.intake import Intake
from bichat.server.limiter import Limiter
from bichat.server.problems import error_body, error_headers, status_of
from bichat.server.reference import HEADERS, page
from bichat.server.responses import routes as responses
from bichat.server.responses.service import Responses
from bichat.server.services import Services
from bichat.sizes import GIB, MIB

logger = logging.getLogger("bichat.server")

#: Where the wire is served: as by OpenAI, and as by Azure, whose clients put another prefix before it.
PREFIXES = ("/v1", "/openai/v1", "/openai")


#: Of JSON that is held in memory at a time, and of forms that lie in the folder for temporary files.
MOST_BODIES_BYTES = 256 * MIB
MOST_FORMS_BYTES = 4 * GIB


def create_app(open_services: Callable[[], AbstractAsyncContextManager[Services]], *, is_local: bool = True) -> FastAPI:
    """The application of one process.

    Args:
        open_services: opens what it stands on, for as long as it serves.
        is_local: whether only programs on this machine reach it; see `Door`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_services() as services:
            app.state.services = services
            app.state.limiter = Limiter(
                per_minute=services.settings.key_requests_per_minute, at_once=services.settings.key_requests_at_once
            )
            app.state.bodies, app.state.forms = Intake(MOST_BODIES_BYTES), Intake(MOST_FORMS_BYTES)
            app.state.door = Door(services.repository, is_local=is_local)
            app.state.threads = Threads(services)
            app.state.runs = Runs(services, app.state.threads)
            async with (
                Attempts(services.repository) as app.state.attempts,
                Responses(services.core, services.archive, services.settings.bounds) as app.state.responses,
            ):
                yield

    app = FastAPI(
        title="bichat",
        version=bichat.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        default_response_class=JsonAnswer,
        # Its logs would hold what exceptions say.
        telemetry={"auto_configure": True, "logs": False, "operation_spans": False},
    )
    for number, prefix in enumerate(PREFIXES):
        app.include_router(_wire(), prefix=prefix, include_in_schema=number == 0)
    app.include_router(chat.deployments, prefix="/openai", dependencies=[Depends(caller_of)], include_in_schema=False)
    app.include_router(status.router)
    describe(app)
    app.add_api_route("/reference", _reference, include_in_schema=False)
    app.add_exception_handler(BichatError, _told)
    app.add_exception_handler(HTTPException, _not_served)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_middleware(Frame)
    return app


def _wire() -> APIRouter:
    router = APIRouter()
    for part in (
        files.router,
        containers.router,
        models.router,
        responses.router,
        chat.router,
        assistants.router,
        vector_stores.router,
    ):
        router.include_router(part, dependencies=[Depends(caller_of)])
    return router


async def _reference(request: Request) -> Response:
    """What the OpenAPI document says, for people."""
    return Response(page(request.app.openapi()), media_type="text/html", headers=HEADERS)


async def _told(_: Request, error: Any) -> Response:
    code = status_of(error)
    if code >= 500:
        logger.error("a request failed: %s", error)
    headers = error_headers(error)
    if code == 401:
        headers["www-authenticate"] = "Bearer"
    return JsonAnswer(error_body(error), status_code=code, headers=headers)


async def _not_served(request: Request, error: Any) -> Response:
    if error.status_code == 404:
        message = f"Invalid URL ({request.method} {request.url.path[:200]})"
    elif error.status_code == 405:
        message = f"Not allowed to {request.method} on {request.url.path[:200]}"
    else:
        message = str(error.detail)
    return _plain(error.status_code, message, headers=error.headers)


async def _not_understood(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(each) for each in first["loc"][1:])
    return _plain(400, f"Invalid '{where}': {first['msg']}.", param=where or None)


def _plain(status_code: int, message: str, *, param: str | None = None, headers: Any = None) -> Response:
    kind = "server_error" if status_code >= 500 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": None}}
    return JsonAnswer(body, status_code=status_code, headers=headers)
