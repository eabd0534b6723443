"""What the objects of responses and conversations look like: tables for the OpenAPI document."""

from __future__ import annotations

from typing import Final

from bichat.server import naming
from bichat.server.responses.requests import FIELDS
from bichat.server.responses.response import ECHOED
from bichat.server.schemas import (
    ANY_OBJECT,
    COUNT,
    NOTES,
    Array,
    Choice,
    Either,
    Id,
    Nullable,
    Text,
    Variants,
    answer,
    constant,
    deleted,
    list_of,
)

_STATUS: Final = Choice(("in_progress", "completed", "incomplete"))
_FILE_ID: Final = Nullable(Id((naming.FILE,)))
_CONTENT: Final = Variants(
    what="content",
    name="Content",
    kinds={
        "input_text": answer("", {"text": Text()}),
        "output_text": answer("", {"text": Text(), "annotations": Array(ANY_OBJECT), "logprobs": Array(ANY_OBJECT)}),
        "refusal": answer("", {"refusal": Text()}),
        "input_image": answer("", {"detail": Text(), "file_id": _FILE_ID, "image_url": Nullable(Text())}),
        "input_file": answer("", {"file_id": _FILE_ID, "filename": Nullable(Text()), "file_data": Nullable(Text())}),
    },
)
_OUTPUT: Final = Variants(
    what="outputs", kinds={"logs": answer("", {"logs": Text()}), "image": answer("", {"url": Text()})}
)
ITEM: Final = Variants(
    what="items",
    name="Item",
    kinds={
        "message": answer(
            "",
            {
                "id": Id((naming.MESSAGE,)),
                "status": _STATUS,
                "content": Array(_CONTENT),
                "role": Choice(("user", "assistant", "system", "developer")),
            },
        ),
        "reasoning": answer(
            "",
            {
                "id": Id((naming.REASONING,)),
                "summary": Array(Variants(what="summaries", kinds={"summary_text": answer("", {"text": Text()})})),
                "content": Nullable(Array(ANY_OBJECT)),
                "encrypted_content": Nullable(Text()),
                "status": _STATUS,
            },
        ),
        "code_interpreter_call": answer(
            "",
            {
                "id": Id((naming.CODE_CALL,)),
                "status": Choice((*_STATUS.words, "interpreting", "failed")),
                "code": Text(),
                "container_id": Text(),
                "outputs": Nullable(Array(_OUTPUT)),
            },
        ),
        "function_call": answer(
            "",
            {
                "id": Id((naming.FUNCTION_CALL,)),
                "status": _STATUS,
                "arguments": Text(),
                "call_id": Text(),
                "name": Text(),
            },
        ),
        "function_call_output": answer(
            "",
            {
                "id": Id((naming.FUNCTION_OUTPUT,)),
                "status": _STATUS,
                "call_id": Text(),
                "output": Either((Text(), Array(_CONTENT))),
            },
        ),
    },
)
ITEMS: Final = list_of(ITEM, "ItemList")
_USAGE: Final = answer(
    "ResponseUsage",
    {
        "input_tokens": COUNT,
        "input_tokens_details": answer("", {"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": answer("", {"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    },
)
#: Fields that are told as they were asked for look as they do in requests.
_ECHOED: Final = {name: Nullable(FIELDS[name]) for name in ECHOED}
RESPONSE: Final = answer(
    "Response",
    {
        **_ECHOED,
        "conversation": Nullable(answer("", {"id": Id((naming.CONVERSATION,))})),
        "created_at": COUNT,
        "completed_at": Nullable(COUNT),
        "error": Nullable(answer("", {"code": Text(), "message": Text(), "type": Text()})),
        "id": Id((naming.RESPONSE,)),
        "incomplete_details": Nullable(
            answer("", {"reason": Choice(("max_output_tokens", "content_filter", "max_messages"))})
        ),
        "metadata": NOTES,
        "model": Text(),
        "object": constant("response"),
        "output": Array(ITEM),
        "status": Choice(("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")),
        "usage": Nullable(_USAGE),
    },
)
RESPONSE_DELETED: Final = deleted("response", naming.RESPONSE)
CONVERSATION: Final = answer(
    "Conversation",
    {
        "id": Id((naming.CONVERSATION,)),
        "object": constant("conversation"),
        "created_at": COUNT,
        "metadata": NOTES,
    },
)
CONVERSATION_DELETED: Final = deleted("conversation", naming.CONVERSATION)
