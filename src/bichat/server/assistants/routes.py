"""The endpoints of assistants, threads, messages, runs and steps."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from bichat.repository.records import Conversation, Definition, Message, Run
from bichat.server import naming
from bichat.server.answers import JsonAnswer
from bichat.server.assistants import answers
from bichat.server.assistants.objects import RESOURCES, assistant_object, for_version, run_object, thread_object
from bichat.server.assistants.requests import ASSISTANT as ASSISTANT_BODY
from bichat.server.assistants.requests import (
    ASSISTANT_CHANGE,
    MESSAGE,
    METADATA_CHANGE,
    THREAD,
    THREAD_CHANGE,
    checked,
    read_assistant,
    read_message,
    read_thread,
)
from bichat.server.assistants.run_requests import OUTPUTS, RUN, THREAD_RUN, read_outputs, read_run
from bichat.server.assistants.runs import Runs
from bichat.server.assistants.threads import ASSISTANT, Threads
from bichat.server.attempts import Attempts, attempt_of, is_repeated
from bichat.server.document import operation
from bichat.server.forms import json_body
from bichat.server.limiter import Ticket
from bichat.server.lists import as_list, asked, parameters, part
from bichat.server.responses.stream import EventStream
from bichat.server.schemas import Id
from bichat.server.services import Caller

#: Milliseconds after which a client that waits for the end of a run may look again.
_POLL_MS: Final = 100
#: What their pollers send.
_POLLER: Final = "x-stainless-poll-helper"

_OF_RUN: Final = {**parameters(naming.MESSAGE), "run_id": Id((naming.RUN,))}

router = APIRouter()


def _service(request: Request) -> Threads:
    return request.app.state.threads


def _runs(request: Request) -> Runs:
    return request.app.state.runs


def _caller(request: Request) -> Caller:
    return request.state.caller


def _told(request: Request, told: dict[str, Any]) -> Response:
    """Of an assistant or a message, or of a list of them."""
    beta = request.headers.get("openai-beta", "")
    if told["object"] == "list":
        return JsonAnswer({**told, "data": [for_version(each, beta) for each in told["data"]]})
    return JsonAnswer(for_version(told, beta))


def _deleted(wire_id: str, kind: str) -> Response:
    return JsonAnswer({"id": wire_id, "object": f"{kind}.deleted", "deleted": True})


async def _metadata(request: Request) -> dict[str, str]:
    body = checked(await json_body(request, may_be_empty=True), METADATA_CHANGE)
    return body.get("metadata") or {}


# ---------------------------------------------------------------------------------------------------------- assistants


@router.post("/assistants", openapi_extra=operation(body=ASSISTANT_BODY, gives=answers.ASSISTANT))
async def create_assistant(request: Request) -> Response:
    """An assistant: a model's name, instructions and tools under an id."""
    service, caller = _service(request), _caller(request)
    ask = read_assistant(await json_body(request), is_new=True)
    resources = await service.resources(caller, ask.resources) if ask.resources is not None else {}
    content = {**ask.fields, RESOURCES: resources}
    made = Definition(tenant=caller.tenant, user=caller.user, kind=ASSISTANT, content=content)
    return _told(request, assistant_object(await service.definitions.add(caller.tenant, made)))


@router.get("/assistants", openapi_extra=operation(query=parameters(naming.ASSISTANT), gives=answers.ASSISTANTS))
async def list_assistants(request: Request) -> Response:
    """All of the tenant's."""
    service, caller = _service(request), _caller(request)
    definitions = service.definitions
    found = await part(
        partial(definitions.page, caller.tenant, kind=ASSISTANT),
        asked(request.query_params, naming.ASSISTANT),
        partial(definitions.get, caller.tenant, kind=ASSISTANT),
    )
    return _told(request, as_list(list(map(assistant_object, found.rows)), has_more=found.has_more))


@router.get("/assistants/{assistant_id}", openapi_extra=operation(gives=answers.ASSISTANT))
async def get_assistant(request: Request, assistant_id: str) -> Response:
    """One of them."""
    return _told(request, assistant_object(await _service(request).assistant(_caller(request), assistant_id)))


@router.post("/assistants/{assistant_id}", openapi_extra=operation(body=ASSISTANT_CHANGE, gives=answers.ASSISTANT))
async def change_assistant(request: Request, assistant_id: str) -> Response:
    """It, with what is given in the place of what there was; runs that go on keep what they began with."""
    service, caller = _service(request), _caller(request)
    before = await service.assistant(caller, assistant_id)
    ask = read_assistant(await json_body(request), is_new=False)
    content = {**before.content, **ask.fields}
    if ask.resources is not None:
        content[RESOURCES] = {**content.get(RESOURCES, {}), **await service.resources(caller, ask.resources)}
    changed = await service.definitions.change(caller.tenant, before.id, kind=ASSISTANT, content=content)
    return _told(request, assistant_object(changed))


@router.delete("/assistants/{assistant_id}", openapi_extra=operation(gives=answers.ASSISTANT_DELETED))
async def delete_assistant(request: Request, assistant_id: str) -> Response:
    """Delete it; runs that were made with it stay, and go on."""
    service, caller = _service(request), _caller(request)
    assistant = await service.assistant(caller, assistant_id)
    await service.definitions.delete(caller.tenant, assistant.id, kind=ASSISTANT)
    return _deleted(assistant_id, "assistant")


# ------------------------------------------------------------------------------------------------------------- threads


async def _thread(request: Request, thread_id: str) -> Conversation:
    return await _service(request).thread(_caller(request), thread_id)


@router.post("/threads", openapi_extra=operation(body=THREAD, may_be_empty=True, gives=answers.THREAD))
async def create_thread(request: Request) -> Response:
    """A thread, with its first messages."""
    ask = read_thread(await json_body(request, may_be_empty=True))
    return JsonAnswer(thread_object(await _service(request).make_thread(_caller(request), ask)))


@router.post("/threads/runs", openapi_extra=operation(body=THREAD_RUN, gives=answers.RUN, streams=True))
async def create_thread_and_run(request: Request) -> Response:
    """A thread and a run in it."""
    runs, caller = _runs(request), _caller(request)
    ask = read_run(await json_body(request), makes_thread=True)
    attempt = attempt_of(request, caller)
    attempts: Attempts = request.app.state.attempts
    run = await attempts.begun(caller, attempt, partial(runs.start_with_thread, caller, ask, attempt))
    await attempts.is_answered(request, run)
    if ask.streams:
        return EventStream(runs.stream(caller, run, thread=await runs.thread_of(run)))
    return JsonAnswer(run_object(run, status="queued"))


@router.get("/threads/{thread_id}", openapi_extra=operation(gives=answers.THREAD))
async def get_thread(request: Request, thread_id: str) -> Response:
    """A thread."""
    return JsonAnswer(thread_object(await _thread(request, thread_id)))


@router.post("/threads/{thread_id}", openapi_extra=operation(body=THREAD_CHANGE, gives=answers.THREAD))
async def change_thread(request: Request, thread_id: str) -> Response:
    """It, with other metadata, or other files for its tools."""
    thread = await _thread(request, thread_id)
    ask = read_thread(await json_body(request), is_new=False)
    return JsonAnswer(thread_object(await _service(request).change_thread(_caller(request), thread, ask)))


@router.delete("/threads/{thread_id}", openapi_extra=operation(gives=answers.THREAD_DELETED))
async def delete_thread(request: Request, thread_id: str) -> Response:
    """Delete it with its messages, its runs and its session."""
    await _service(request).delete_thread(_caller(request), await _thread(request, thread_id))
    return _deleted(thread_id, "thread")


# ------------------------------------------------------------------------------------------------------------ messages


async def _message(request: Request, thread: Conversation, message_id: str) -> Message:
    return await _service(request).message(_caller(request), thread, message_id)


async def _shown(request: Request, message: Message) -> Response:
    (shown,) = await _service(request).shown(_caller(request), [message])
    return _told(request, shown)


@router.post("/threads/{thread_id}/messages", openapi_extra=operation(body=MESSAGE, gives=answers.MESSAGE))
async def create_message(request: Request, thread_id: str) -> Response:
    """A message that is put into a thread; not while a run goes on."""
    thread = await _thread(request, thread_id)
    said = read_message(await json_body(request))
    return _told(request, await _service(request).add_message(_caller(request), thread, said))


@router.get("/threads/{thread_id}/messages", openapi_extra=operation(query=_OF_RUN, gives=answers.MESSAGES))
async def list_messages(request: Request, thread_id: str) -> Response:
    """What was said in a thread, newest first; with `run_id` by one run."""
    thread = await _thread(request, thread_id)
    return _told(request, await _service(request).messages(_caller(request), thread, request.query_params))


@router.get("/threads/{thread_id}/messages/{message_id}", openapi_extra=operation(gives=answers.MESSAGE))
async def get_message(request: Request, thread_id: str, message_id: str) -> Response:
    """One message."""
    return await _shown(request, await _message(request, await _thread(request, thread_id), message_id))


@router.post(
    "/threads/{thread_id}/messages/{message_id}",
    openapi_extra=operation(body=METADATA_CHANGE, may_be_empty=True, gives=answers.MESSAGE),
)
async def change_message(request: Request, thread_id: str, message_id: str) -> Response:
    """It, with other metadata."""
    message = await _message(request, await _thread(request, thread_id), message_id)
    metadata = await _metadata(request)
    return await _shown(request, await _service(request).change_message(_caller(request), message, metadata))


@router.delete("/threads/{thread_id}/messages/{message_id}", openapi_extra=operation(gives=answers.MESSAGE_DELETED))
async def delete_message(request: Request, thread_id: str, message_id: str) -> Response:
    """Delete it; not while a run goes on."""
    thread = await _thread(request, thread_id)
    message = await _message(request, thread, message_id)
    await _service(request).delete_message(_caller(request), thread, message)
    return _deleted(message_id, "thread.message")


# ---------------------------------------------------------------------------------------------------------------- runs


async def _run(request: Request, thread_id: str, run_id: str) -> Run:
    return await _service(request).run(_caller(request), await _thread(request, thread_id), run_id)


async def _shown_run(request: Request, run: Run) -> Response:
    shown = await _runs(request).shown_run(run)
    return JsonAnswer(shown, headers={"openai-poll-after-ms": str(_POLL_MS)})


@router.post("/threads/{thread_id}/runs", openapi_extra=operation(body=RUN, gives=answers.RUN, streams=True))
async def create_run(request: Request, thread_id: str) -> Response:
    """An answer of an assistant's in a thread; it goes on by itself."""
    runs, caller = _runs(request), _caller(request)
    thread = await _thread(request, thread_id)
    ask = read_run(await json_body(request))
    attempt = attempt_of(request, caller)
    attempts: Attempts = request.app.state.attempts
    run = await attempts.begun(caller, attempt, partial(runs.start, caller, thread, ask, attempt))
    await attempts.is_answered(request, run)
    if ask.streams:
        return EventStream(runs.stream(caller, run))
    return JsonAnswer(run_object(run, status="queued"))


@router.get("/threads/{thread_id}/runs", openapi_extra=operation(query=parameters(naming.RUN), gives=answers.RUNS))
async def list_runs(request: Request, thread_id: str) -> Response:
    """The runs of a thread."""
    thread = await _thread(request, thread_id)
    return JsonAnswer(await _runs(request).runs(_caller(request), thread, request.query_params))


@router.get("/threads/{thread_id}/runs/{run_id}", openapi_extra=operation(gives=answers.RUN))
async def get_run(request: Request, thread_id: str, run_id: str) -> Response:
    """One run; a client's poller is answered once there is something new, or after a while."""
    run = await _run(request, thread_id, run_id)
    if _POLLER in request.headers:
        # It asks as often as it was told at first: many at a time would use up what their key has for a minute.
        ticket: Ticket = request.state.ticket
        ticket.leave()  # who only waits is not under way
        run = await _runs(request).settled(_caller(request), run, ticket.pause_s)
    return await _shown_run(request, run)


@router.post(
    "/threads/{thread_id}/runs/{run_id}",
    openapi_extra=operation(body=METADATA_CHANGE, may_be_empty=True, gives=answers.RUN),
)
async def change_run(request: Request, thread_id: str, run_id: str) -> Response:
    """It, with other metadata."""
    run = await _run(request, thread_id, run_id)
    metadata = await _metadata(request)
    return await _shown_run(request, await _runs(request).change_run(_caller(request), run, metadata))


@router.post("/threads/{thread_id}/runs/{run_id}/cancel", openapi_extra=operation(gives=answers.RUN))
async def cancel_run(request: Request, thread_id: str, run_id: str) -> Response:
    """Have it end."""
    run = await _run(request, thread_id, run_id)
    return await _shown_run(request, await _runs(request).cancel(_caller(request), run))


@router.post(
    "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs",
    openapi_extra=operation(body=OUTPUTS, gives=answers.RUN, streams=True),
)
async def submit_tool_outputs(request: Request, thread_id: str, run_id: str) -> Response:
    """What came of the functions that it waits for, of all of them."""
    runs, caller = _runs(request), _caller(request)
    run = await _run(request, thread_id, run_id)
    outputs, streams = read_outputs(await json_body(request))
    resumed, steps, after = await runs.submit(caller, run, outputs, is_retry=is_repeated(request))
    if streams:
        return EventStream(runs.stream(caller, resumed, resumed=(steps, after)))
    return JsonAnswer(run_object(resumed, status="queued"))


# --------------------------------------------------------------------------------------------------------------- steps


@router.get(
    "/threads/{thread_id}/runs/{run_id}/steps",
    openapi_extra=operation(query=parameters(naming.STEP), gives=answers.STEPS),
)
async def list_steps(request: Request, thread_id: str, run_id: str) -> Response:
    """What a run has done, newest first."""
    run = await _run(request, thread_id, run_id)
    return JsonAnswer(await _runs(request).steps(_caller(request), run, request.query_params))


@router.get("/threads/{thread_id}/runs/{run_id}/steps/{step_id}", openapi_extra=operation(gives=answers.STEP))
async def get_step(request: Request, thread_id: str, run_id: str, step_id: str) -> Response:
    """One step."""
    run = await _run(request, thread_id, run_id)
    return JsonAnswer(await _runs(request).step(_caller(request), run, step_id))
