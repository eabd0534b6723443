"""The planner behind which is a model: one turn is one streamed request to its provider.

`pydantic-ai` and the provider's own client speak to it; tries again are ours alone, and only while nothing of the answer
has come: no text, no call, nothing that somebody could have acted upon.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Final
from uuid import uuid4

import anyio
import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    InstructionPart,
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from bichat.conversation.planner import (
    PlannerError,
    ReasoningDelta,
    ReasoningEnded,
    Sampling,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Turn,
    TurnEnded,
    TurnEvent,
)
from bichat.conversation.planners.provider_errors import failure
from bichat.conversation.planners.provider_messages import Sight, model_messages
from bichat.conversation.planners.provider_transport import HEADERS, BoundedTransport

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"
OLLAMA: Final = "ollama"
#: Where each is when nobody says otherwise.
BASE_URLS: Final = {
    OPENAI: "https://api.openai.com/v1",
    ANTHROPIC: "https://api.anthropic.com",
    OLLAMA: "http://127.0.0.1:11434/v1",
}
#: What stands in for a key where none is needed: the clients want one.
_NO_KEY: Final = "none"
_TRIES: Final = 3
#: Of text, reasoning and arguments in one turn: all of it is kept, and each call is read as a whole.
MOST_CHARS: Final = 4 << 20
_EFFORTS: Final = frozenset({"minimal", "low", "medium", "high", "xhigh", "max"})
_CALL_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in seconds."""

    connect_s: float = 10.0
    chunk_s: float = 120.0
    """Between two pieces of an answer, and until its first one."""
    turn_s: float = 900.0
    """A whole turn, all its tries included."""
    backoff_s: float = 0.5
    """Before the second try; twice as long before the third."""
    wait_s: float = 20.0
    """Most that is waited where a provider says when to come back; where it says more, the turn fails at once."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model, and where it is."""

    kind: str
    """`openai`, `anthropic`, `ollama`."""
    model: str
    base_url: str = ""
    """The provider's own if empty; with another one `openai` is any server that speaks OpenAI's chat completions."""
    key: str = field(default="", repr=False)
    sees_images: bool | None = None
    """None: what is known of the model says so."""

    @property
    def is_providers_own(self) -> bool:
        """Whether it is the service that the kind is named after, on the public internet."""
        return self.kind != OLLAMA and self.base_url.rstrip("/") in ("", BASE_URLS[self.kind])


class ProviderPlanner:
    """Implements `Planner`.  Belongs to the event loop that its first turn runs in."""

    def __init__(self, endpoint: Endpoint, *, patience: Patience | None = None) -> None:
        """Opens nothing before the first turn."""
        self._endpoint = endpoint
        self._patience = patience or Patience()
        self.name = f"{endpoint.kind}:{endpoint.model}"
        self.model = endpoint.model

    async def aclose(self) -> None:
        """Give back the connections; turns that run end with an error."""
        await self._http.aclose()

    @property
    def sees_images(self) -> bool:
        """As was said, or as is known of the model."""
        if self._endpoint.sees_images is not None:
            return self._endpoint.sees_images
        return bool(self._model.profile.get("supports_image_input", True))

    async def turn(self, turn: Turn) -> AsyncGenerator[TurnEvent]:
        """See `Planner.turn`.

        Raises:
            PlannerError: for any reason but `not_configured` and `no_code`.
        """
        deadline, left = time.monotonic() + self._patience.turn_s, MOST_CHARS
        for number in range(1, _TRIES + 1):
            has_begun = False
            try:
                async with aclosing(self._try(turn, deadline - time.monotonic())) as events:
                    async for event in events:
                        has_begun = True
                        left = _less(left, event)
                        yield event
            except PlannerError:
                raise
            except Exception as error:  # noqa: BLE001  # clients of providers raise what they like
                failed = failure(error, has_begun=has_begun, key=self._endpoint.key)
            else:
                return
            wait = self._wait(failed.error.retry_after_s, number)
            is_last = number == _TRIES or has_begun or not failed.may_retry
            if is_last or wait > self._patience.wait_s or time.monotonic() + wait >= deadline:
                raise failed.error from None  # what it came from may hold the key
            await anyio.sleep(wait)

    def _wait(self, asked: float | None, number: int) -> float:
        backoff = self._patience.backoff_s * 2 ** (number - 1) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret
        return max(asked or 0.0, backoff)

    async def _try(self, turn: Turn, seconds: float) -> AsyncGenerator[TurnEvent]:
        """One request."""
        sight = Sight(sees_images=self.sees_images, takes_urls=self._endpoint.is_providers_own)
        messages = model_messages(turn.history, sight)
        if not messages:
            raise PlannerError("there is nothing to answer: the input is empty", reason="refused")
        used = {part.tool_call_id for each in messages for part in each.parts if isinstance(part, ToolCallPart)}
        events = _Events(used)
        async with model_request_stream(
            self._model,
            messages,
            model_settings=self._settings(turn, seconds),
            model_request_parameters=_parameters(turn),
        ) as stream:
            async for event in stream:
                for ours in events.read(event):
                    yield ours
            for ours in events.last(stream.get()):
                yield ours

    def _settings(self, turn: Turn, seconds: float) -> ModelSettings:
        sampling = turn.sampling
        settings: dict[str, Any] = {"request_timeout": max(seconds, 0.001), "max_retries": 0}
        given = {"max_tokens": sampling.max_output_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p}
        settings |= {name: value for name, value in given.items() if value is not None}
        names = {spec.name for spec in turn.tools}
        if turn.tool_choice in names - {"auto", "none", "required"}:
            settings["tool_choice"] = [turn.tool_choice]
        elif names:
            settings["tool_choice"] = turn.tool_choice if turn.tool_choice in ("none", "required") else "auto"
        if names and sampling.parallel_tool_calls is not None:
            settings["parallel_tool_calls"] = sampling.parallel_tool_calls
        if self._endpoint.kind == ANTHROPIC:
            settings |= _anthropic(sampling, has_tools=bool(names))
        else:
            if sampling.reasoning_effort is not None:
                settings["openai_reasoning_effort"] = sampling.reasoning_effort
            if sampling.text_format and sampling.text_format.get("type") == "json_object":
                settings["extra_body"] = {"response_format": {"type": "json_object"}}
        return ModelSettings(**settings)

    @cached_property
    def _http(self) -> httpx2.AsyncClient:
        wait = self._patience
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        return httpx2.AsyncClient(
            transport=BoundedTransport(_certificates(), limits),
            headers=HEADERS,
            timeout=httpx2.Timeout(wait.chunk_s, connect=wait.connect_s),
        )

    @cached_property
    def _model(self) -> Model:
        """Everything is given: the clients would read the environment where something is not."""
        at = self._endpoint
        base_url = at.base_url or BASE_URLS[at.kind]
        if at.kind == ANTHROPIC:
            anthropic = AsyncAnthropic(
                api_key=at.key or _NO_KEY, base_url=base_url, http_client=self._http, max_retries=0
            )
            anthropic.auth_token = None
            return AnthropicModel(at.model, provider=AnthropicProvider(anthropic_client=anthropic))
        client = AsyncOpenAI(
            api_key=at.key or _NO_KEY,
            base_url=base_url,
            http_client=self._http,
            max_retries=0,
        )
        client.organization = client.project = None
        # A stream that ends without saying why may be one that broke.
        whole = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
        if at.kind == OLLAMA:
            return OllamaModel(at.model, provider=OllamaProvider(openai_client=client), profile=whole)
        if at.is_providers_own:
            return OpenAIChatModel(at.model, provider=OpenAIProvider(openai_client=client), profile=whole)
        provider = OpenAICompatibleProvider("compatible", openai_client=client)
        return OpenAIChatModel(at.model, provider=provider, profile=whole)


class _Events:
    """Makes our events of those of `pydantic-ai`."""

    def __init__(self, used: set[str]) -> None:
        """`used`: ids of calls that were made before; some servers begin anew with every answer."""
        self._used = used
        self._calls: dict[int, str] = {}

    def read(self, event: object) -> list[TurnEvent]:
        """Ours for one of theirs; empty pieces are left out."""
        match event:
            case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                return [TextDelta(_sound(text))] if text else []
            case (
                PartStartEvent(part=ThinkingPart(content=text))
                | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text))
            ):
                return [ReasoningDelta(_sound(text))] if text else []
            case PartEndEvent(part=ThinkingPart() as part):
                return [ReasoningEnded(_opaque(part))]
            case PartStartEvent(index=index, part=ToolCallPart(tool_name=name, args=args, tool_call_id=call_id)):
                self._calls[index] = call_id = self._unused(call_id)
                return [ToolCallBegun(call_id, _sound(name)), *_arguments(call_id, args)]
            case PartDeltaEvent(index=index, delta=ToolCallPartDelta(args_delta=args)):
                return _arguments(self._calls[index], args)
            case _:
                return []

    def last(self, response: ModelResponse) -> list[TurnEvent]:
        """What is known at the end; a refusal is text, with the finish that says so."""
        usage = response.usage
        refusal = (response.provider_details or {}).get("refusal")
        match response.finish_reason:
            case "length" | "content_filter" as finish:
                pass
            case "error":
                raise PlannerError("the provider ended its answer with an error", reason="cut_off")
            case "tool_call":
                finish = "tool_calls"
            case _:
                finish = "tool_calls" if self._calls else "stop"
        ended = TurnEnded(
            finish,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cache_read_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.output_reasoning_tokens or usage.details.get("reasoning_tokens", 0),
            model=response.model_name or "",
        )
        return [TextDelta(refusal), ended] if isinstance(refusal, str) and refusal else [ended]

    def _unused(self, call_id: str) -> str:
        if call_id in self._used or not _CALL_ID.fullmatch(call_id):
            call_id = f"call_{uuid4().hex}"
        self._used.add(call_id)
        return call_id


def _less(left: int, event: TurnEvent) -> int:
    if isinstance(event, (TextDelta, ReasoningDelta, ToolCallDelta)):
        left -= len(event.text)
    if left < 0:
        raise PlannerError(f"the model's answer has more than {MOST_CHARS:,} characters", reason="malformed")
    return left


def _sound(text: str) -> str:
    """Without halves of characters, which no provider takes back."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes a quarter of a second."""
    return httpx2.create_ssl_context()


def _arguments(call_id: str, args: object) -> list[TurnEvent]:
    if not args:
        return []
    return [ToolCallDelta(call_id, _sound(args) if isinstance(args, str) else json.dumps(args, ensure_ascii=False))]


def _opaque(part: ThinkingPart) -> dict[str, Any]:
    """What its provider wants back; nothing where it wants nothing but the text."""
    names = ("id", "signature", "provider_name", "provider_details")
    return {name: value for name in names if (value := getattr(part, name)) is not None}


def _parameters(turn: Turn) -> ModelRequestParameters:
    tools = [
        ToolDefinition(
            name=spec.name,
            description=spec.description or None,
            parameters_json_schema=dict(spec.parameters),
            strict=spec.is_strict,
        )
        for spec in turn.tools
    ]
    wanted = turn.sampling.text_format or {}
    form: dict[str, Any] = {}
    if wanted.get("type") == "json_schema":
        schema = OutputObjectDefinition(
            json_schema=dict(wanted["schema"]),
            name=wanted.get("name"),
            description=wanted.get("description"),
            strict=wanted.get("strict"),
        )
        form = {"output_mode": "native", "output_object": schema}
    instructions = [InstructionPart(content=turn.instructions)] if turn.instructions else []
    return ModelRequestParameters(function_tools=tools, instruction_parts=instructions, **form)


def _anthropic(sampling: Sampling, *, has_tools: bool) -> dict[str, Any]:
    """Its own names for what others call effort."""
    if sampling.text_format and sampling.text_format.get("type") == "json_object":
        raise PlannerError(
            "this provider gives no JSON without a schema", reason="refused", remedy="Ask for a json_schema."
        )
    effort = sampling.reasoning_effort
    if effort is None:
        return {}
    settings: dict[str, Any] = {"thinking": effort if effort in _EFFORTS else effort != "none"}
    if has_tools and effort != "none":
        # Calls are replayed one by one, and thinking must stand before each.
        settings["parallel_tool_calls"] = False
    return settings
