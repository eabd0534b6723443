"""The endpoints of responses and conversations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from bichat.conversation.run_events import item_payload
from bichat.errors import BichatError
from bichat.repository.records import Conversation, Message
from bichat.server import naming
from bichat.server.answers import JsonAnswer
from bichat.server.attempts import Attempts, attempt_of
from bichat.server.document import operation
from bichat.server.forms import json_body
from bichat.server.lists import Pages, as_list, asked, number_in, parameters, part
from bichat.server.problems import FieldError, MissingError
from bichat.server.responses import answers
from bichat.server.responses.inputs import ITEM, read_input
from bichat.server.responses.items import Rendering, is_hidden, item_of
from bichat.server.responses.requests import BODY, INCLUDE, read_ask, read_include
from bichat.server.responses.service import Responses
from bichat.server.responses.stream import EventStream
from bichat.server.schemas import Array, Flag, Integer, Metadata, Object
from bichat.server.services import Caller

#: Items that are put into a conversation with one request.
_MOST_ADDED: Final = 20
#: In a conversation row's metadata: the caller's own.
_METADATA: Final = "metadata"
#: How soon a response that goes on may be looked at again.
_POLL_MS: Final = 100

router = APIRouter()


def _service(request: Request) -> Responses:
    return request.app.state.responses


def _caller(request: Request) -> Caller:
    return request.state.caller


def _included(request: Request) -> frozenset[str]:
    query = request.query_params
    return frozenset(read_include([*query.getlist("include"), *query.getlist("include[]")]))


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise FieldError(f"Invalid '{name}': true or false is taken.", param=name)
    return value == "true"


#: Parameters of queries.
_INCLUDED: Final = {"include": INCLUDE}
_LISTED: Final = {**parameters(*naming.ITEMS), **_INCLUDED}
#: Of an event.
_NUMBER: Final = Integer(least=0, most=10**12 - 1)
_WATCHED: Final = {**_INCLUDED, "stream": Flag(usual=False), "starting_after": _NUMBER}
_ADDED: Final = Array(ITEM, _MOST_ADDED)
CONVERSATION_BODY: Final = Object(name="ConversationRequest", fields={"items": _ADDED, "metadata": Metadata()})
CONVERSATION_CHANGE: Final = Object(name="ConversationChange", fields={"metadata": Metadata()}, required=("metadata",))
ITEMS_BODY: Final = Object(name="ItemsRequest", fields={"items": _ADDED}, required=("items",))


# ----------------------------------------------------------------------------------------------------------- responses


@router.post("/responses", openapi_extra=operation(body=BODY, gives=answers.RESPONSE, streams=True))
async def create_response(request: Request) -> Response:
    """Ask for a response: whole, as a stream, or in the background."""
    service, caller = _service(request), _caller(request)
    ask = read_ask(await json_body(request), user=caller.user)
    attempts: Attempts = request.app.state.attempts
    attempt = attempt_of(request, caller)
    ask = replace(ask, run=attempt.of(ask.run))
    run = await attempts.begun(caller, attempt, partial(service.start, caller, ask))
    if ask.streams:
        await attempts.is_answered(request, run)
        return EventStream(service.stream(caller, run, ask=ask))
    if ask.is_background:
        shown = await service.shown(caller, run, frozenset(ask.run.view["include"]))
        await attempts.is_answered(request, run)
        return JsonAnswer(shown)
    shown = await service.wait(caller, ask, run)
    if await attempts.is_answered(request, run):
        await service.forget_unstored(caller, ask, run.id)
    return JsonAnswer(shown)


@router.get("/responses/{response_id}", openapi_extra=operation(query=_WATCHED, gives=answers.RESPONSE, streams=True))
async def get_response(request: Request, response_id: str) -> Response:
    """A response as it is now; with `stream=true` its events behind the one numbered `starting_after`."""
    service, caller = _service(request), _caller(request)
    run = await service.get(caller, response_id)
    include = _included(request)
    after = number_in(request.query_params, "starting_after", _NUMBER)
    if _flag(request, "stream"):
        return EventStream(service.stream(caller, run, after=-1 if after is None else after, include=include))
    return JsonAnswer(await service.shown(caller, run, include), headers={"openai-poll-after-ms": str(_POLL_MS)})


@router.post("/responses/{response_id}/cancel", openapi_extra=operation(gives=answers.RESPONSE))
async def cancel_response(request: Request, response_id: str) -> Response:
    """End a response; one that is over stays as it is."""
    service, caller = _service(request), _caller(request)
    run = await service.cancel(caller, await service.get(caller, response_id))
    return JsonAnswer(await service.shown(caller, run, frozenset()))


@router.delete("/responses/{response_id}", openapi_extra=operation(gives=answers.RESPONSE_DELETED))
async def delete_response(request: Request, response_id: str) -> Response:
    """Delete a response with what went into it and came out of it."""
    service, caller = _service(request), _caller(request)
    await service.delete(caller, await service.get(caller, response_id))
    return JsonAnswer({"id": response_id, "object": "response.deleted", "deleted": True})


@router.get("/responses/{response_id}/input_items", openapi_extra=operation(query=_LISTED, gives=answers.ITEMS))
async def list_input_items(request: Request, response_id: str) -> Response:
    """What went into a response."""
    service, caller = _service(request), _caller(request)
    run = await service.get(caller, response_id)

    return await _listed(request, service, caller, partial(service.core.inputs, caller.tenant, run.id))


async def _listed(request: Request, service: Responses, caller: Caller, pages: Pages[Message]) -> Response:
    wanted, include = asked(request.query_params, *naming.ITEMS), _included(request)
    found = await part(
        pages,
        wanted,
        partial(service.repository.messages.get, caller.tenant),
        is_listed=lambda message: not is_hidden(item_payload(message)),
    )
    items = await service.rendered(caller, found.rows, include)
    return JsonAnswer(as_list(items, has_more=found.has_more))


# ------------------------------------------------------------------------------------------------------- conversations


def _conversation_object(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": naming.on_wire(naming.CONVERSATION, conversation.id),
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "metadata": dict(conversation.metadata.get(_METADATA, {})),
    }


async def _conversation(request: Request, wire_id: str) -> Conversation:
    found = naming.row_id(wire_id, naming.CONVERSATION)
    if not found:
        raise MissingError(f"Conversation with id '{wire_id[:100]}' not found.", param="conversation_id")
    return await _service(request).conversation(_caller(request), found)


@router.post("/conversations", openapi_extra=operation(body=CONVERSATION_BODY, gives=answers.CONVERSATION))
async def create_conversation(request: Request) -> Response:
    """A conversation, with some items in it from the start."""
    service, caller = _service(request), _caller(request)
    body = await json_body(request)
    CONVERSATION_BODY.check(body, "")
    inputs = read_input(body.get("items") or [], "items")
    metadata: Any = body.get("metadata") or {}
    # Looked up before there is a conversation: what cannot be found leaves none behind.
    said = await service.resolved(caller, inputs)
    made = Conversation(tenant=caller.tenant, user=caller.user, metadata={_METADATA: metadata})
    conversation = await service.repository.conversations.add(caller.tenant, made)
    try:
        await service.add_items(caller, conversation, said)
    except BichatError:
        await service.repository.conversations.delete(caller.tenant, conversation.id)
        raise
    return JsonAnswer(_conversation_object(conversation))


@router.get("/conversations/{conversation_id}", openapi_extra=operation(gives=answers.CONVERSATION))
async def get_conversation(request: Request, conversation_id: str) -> Response:
    """A conversation."""
    return JsonAnswer(_conversation_object(await _conversation(request, conversation_id)))


@router.post(
    "/conversations/{conversation_id}", openapi_extra=operation(body=CONVERSATION_CHANGE, gives=answers.CONVERSATION)
)
async def update_conversation(request: Request, conversation_id: str) -> Response:
    """Other metadata in the place of what there was."""
    service, caller = _service(request), _caller(request)
    conversation = await _conversation(request, conversation_id)
    body = await json_body(request)
    CONVERSATION_CHANGE.check(body, "")
    metadata: dict[str, Any] = {**conversation.metadata, _METADATA: body["metadata"] or {}}
    changed = await service.repository.conversations.change(caller.tenant, conversation.id, metadata=metadata)
    return JsonAnswer(_conversation_object(changed))


@router.delete("/conversations/{conversation_id}", openapi_extra=operation(gives=answers.CONVERSATION_DELETED))
async def delete_conversation(request: Request, conversation_id: str) -> Response:
    """Delete a conversation with all that was said in it."""
    service, caller = _service(request), _caller(request)
    conversation = await _conversation(request, conversation_id)
    await service.delete_conversation(caller, conversation)
    return JsonAnswer({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@router.get("/conversations/{conversation_id}/items", openapi_extra=operation(query=_LISTED, gives=answers.ITEMS))
async def list_items(request: Request, conversation_id: str) -> Response:
    """What was said in a conversation."""
    service, caller = _service(request), _caller(request)
    conversation = await _conversation(request, conversation_id)
    pages = partial(service.repository.messages.page, caller.tenant, conversation.id)
    return await _listed(request, service, caller, pages)


@router.post(
    "/conversations/{conversation_id}/items",
    openapi_extra=operation(query=_INCLUDED, body=ITEMS_BODY, gives=answers.ITEMS),
)
async def create_items(request: Request, conversation_id: str) -> Response:
    """Items that go into a conversation without anybody answering."""
    service, caller = _service(request), _caller(request)
    conversation = await _conversation(request, conversation_id)
    body, include = await json_body(request), _included(request)
    ITEMS_BODY.check(body, "")
    made = await service.add_items(caller, conversation, read_input(body["items"], "items"))
    return JsonAnswer(as_list(await service.rendered(caller, made, include), has_more=False))


async def _item(request: Request, conversation: Conversation, item_id: str) -> Message:
    found = naming.row_id(item_id, *naming.ITEMS)
    problem = MissingError(f"Item with id '{item_id[:100]}' not found.", param="item_id")
    if not found:
        raise problem
    message = await _service(request).message(_caller(request), found, problem)
    shown = item_of(message, Rendering())
    if message.conversation_id != conversation.id or shown is None or shown["id"] != item_id:
        raise problem
    return message


@router.get(
    "/conversations/{conversation_id}/items/{item_id}", openapi_extra=operation(query=_INCLUDED, gives=answers.ITEM)
)
async def get_item(request: Request, conversation_id: str, item_id: str) -> Response:
    """One item of a conversation."""
    service, caller = _service(request), _caller(request)
    message = await _item(request, await _conversation(request, conversation_id), item_id)
    (shown,) = await service.rendered(caller, [message], _included(request))
    return JsonAnswer(shown)


@router.delete("/conversations/{conversation_id}/items/{item_id}", openapi_extra=operation(gives=answers.CONVERSATION))
async def delete_item(request: Request, conversation_id: str, item_id: str) -> Response:
    """Delete one item; the conversation that it was in."""
    service, caller = _service(request), _caller(request)
    conversation = await _conversation(request, conversation_id)
    message = await _item(request, conversation, item_id)
    await service.delete_item(caller, message)
    return JsonAnswer(_conversation_object(conversation))
