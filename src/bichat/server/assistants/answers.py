"""What the objects of the Assistants API look like: tables for the OpenAPI document."""

from __future__ import annotations

from typing import Final

from bichat.server import naming
from bichat.server.assistants.requests import ASSISTANT as ASSISTANT_REQUEST
from bichat.server.assistants.run_requests import RUN as RUN_REQUEST
from bichat.server.assistants.tools import RESOURCES, TOOLS
from bichat.server.schemas import (
    COUNT,
    NOTES,
    Array,
    Choice,
    Id,
    Nullable,
    Text,
    Variants,
    answer,
    constant,
    deleted,
    list_of,
)

_WHEN: Final = Nullable(COUNT)
_ASSISTANT_ID: Final = Id((naming.ASSISTANT,))
_THREAD_ID: Final = Id((naming.THREAD,))
_RUN_ID: Final = Id((naming.RUN,))
_FILE_ID: Final = Id((naming.FILE,))
#: Told to programs for the first version.
_FILES: Final = Array(_FILE_ID)
#: Told as they were asked for.
_SAMPLED: Final = {name: ASSISTANT_REQUEST.fields[name] for name in ("temperature", "top_p", "response_format")} | {
    "reasoning_effort": Nullable(ASSISTANT_REQUEST.fields["reasoning_effort"])
}
ASSISTANT: Final = answer(
    "Assistant",
    {
        "id": _ASSISTANT_ID,
        "object": constant("assistant"),
        "created_at": COUNT,
        "name": Nullable(Text()),
        "description": Nullable(Text()),
        "model": Text(),
        "instructions": Nullable(Text()),
        "tools": TOOLS,
        "tool_resources": RESOURCES,
        "metadata": NOTES,
        "file_ids": _FILES,
        **_SAMPLED,
    },
    optional=("file_ids",),
)
ASSISTANTS: Final = list_of(ASSISTANT, "AssistantList")
ASSISTANT_DELETED: Final = deleted("assistant", naming.ASSISTANT)
THREAD: Final = answer(
    "Thread",
    {
        "id": _THREAD_ID,
        "object": constant("thread"),
        "created_at": COUNT,
        "metadata": NOTES,
        "tool_resources": RESOURCES,
    },
)
THREAD_DELETED: Final = deleted("thread", naming.THREAD)
_LINK: Final = Variants(
    what="annotations",
    kinds={
        "file_path": answer(
            "",
            {
                "text": Text(),
                "start_index": COUNT,
                "end_index": COUNT,
                "file_path": answer("", {"file_id": _FILE_ID}),
            },
        )
    },
)
_CONTENT: Final = Variants(
    what="content",
    name="MessageBlock",
    kinds={
        "text": answer("", {"text": answer("", {"value": Text(), "annotations": Array(_LINK)})}),
        "refusal": answer("", {"refusal": Text()}),
        "image_file": answer(
            "", {"image_file": answer("", {"file_id": _FILE_ID, "detail": Text()}, optional=("detail",))}
        ),
        "image_url": answer("", {"image_url": answer("", {"url": Text(), "detail": Text()})}),
    },
)
MESSAGE: Final = answer(
    "Message",
    {
        "id": Id((naming.MESSAGE,)),
        "object": constant("thread.message"),
        "created_at": COUNT,
        "assistant_id": Nullable(_ASSISTANT_ID),
        "thread_id": _THREAD_ID,
        "run_id": Nullable(_RUN_ID),
        "status": Choice(("in_progress", "completed", "incomplete")),
        "incomplete_details": Nullable(answer("", {"reason": Text()})),
        "incomplete_at": _WHEN,
        "completed_at": _WHEN,
        "role": Choice(("user", "assistant")),
        "content": Array(_CONTENT),
        "attachments": Array(answer("", {"file_id": _FILE_ID, "tools": Array(answer("", {"type": Text()}))})),
        "metadata": NOTES,
        "file_ids": _FILES,
    },
    optional=("file_ids",),
)
MESSAGES: Final = list_of(MESSAGE, "MessageList")
MESSAGE_DELETED: Final = deleted("thread.message", naming.MESSAGE)
_USAGE: Final = answer(
    "RunUsage",
    {
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "prompt_token_details": answer("", {"cached_tokens": COUNT}),
        "completion_tokens_details": answer("", {"reasoning_tokens": COUNT}),
    },
)
_ERROR: Final = Nullable(answer("", {"code": Text(), "message": Text()}))
_AWAITED: Final = answer(
    "",
    {
        "id": Text(),
        "type": constant("function"),
        "function": answer("", {"name": Text(), "arguments": Text()}),
    },
)
_SAME: Final = ("parallel_tool_calls", "tool_choice", "tools", "truncation_strategy")
_TOKENS: Final = ("max_completion_tokens", "max_prompt_tokens")
RUN: Final = answer(
    "Run",
    {
        "id": _RUN_ID,
        "object": constant("thread.run"),
        "created_at": COUNT,
        "assistant_id": _ASSISTANT_ID,
        "thread_id": _THREAD_ID,
        "status": Choice(
            (
                *("queued", "in_progress", "requires_action", "cancelling"),
                *("completed", "incomplete", "failed", "cancelled", "expired"),
            )
        ),
        **dict.fromkeys(("started_at", "expires_at", "cancelled_at", "failed_at", "completed_at"), _WHEN),
        "required_action": Nullable(
            answer(
                "",
                {
                    "type": constant("submit_tool_outputs"),
                    "submit_tool_outputs": answer("", {"tool_calls": Array(_AWAITED)}),
                },
            )
        ),
        "last_error": _ERROR,
        "model": Text(),
        "instructions": Text(),
        "tool_resources": RESOURCES,
        "metadata": NOTES,
        "incomplete_details": Nullable(answer("", {"reason": Nullable(Text())})),
        "usage": Nullable(_USAGE),
        **_SAMPLED,
        **{name: RUN_REQUEST.fields[name] for name in _SAME},
        **{name: Nullable(RUN_REQUEST.fields[name]) for name in _TOKENS},
    },
)
RUNS: Final = list_of(RUN, "RunList")
_OUTPUT: Final = Variants(
    what="outputs",
    kinds={
        "logs": answer("", {"logs": Text()}),
        "image": answer("", {"image": answer("", {"file_id": _FILE_ID})}),
    },
)
_CALL: Final = Variants(
    what="calls",
    kinds={
        "code_interpreter": answer(
            "", {"id": Text(), "code_interpreter": answer("", {"input": Text(), "outputs": Array(_OUTPUT)})}
        ),
        "function": answer(
            "",
            {
                "id": Text(),
                "function": answer("", {"name": Text(), "arguments": Text(), "output": Nullable(Text())}),
            },
        ),
    },
)
_DETAILS: Final = Variants(
    what="details",
    kinds={
        "message_creation": answer("", {"message_creation": answer("", {"message_id": Id((naming.MESSAGE,))})}),
        "tool_calls": answer("", {"tool_calls": Array(_CALL)}),
    },
)
STEP: Final = answer(
    "Step",
    {
        "id": Id((naming.STEP,)),
        "object": constant("thread.run.step"),
        "created_at": COUNT,
        "run_id": _RUN_ID,
        "assistant_id": _ASSISTANT_ID,
        "thread_id": _THREAD_ID,
        "type": Choice(("message_creation", "tool_calls")),
        "status": Choice(("in_progress", "cancelled", "failed", "completed", "expired")),
        **dict.fromkeys(("cancelled_at", "completed_at", "expired_at", "expires_at", "failed_at"), _WHEN),
        "last_error": _ERROR,
        "step_details": _DETAILS,
        # Counted as of responses: a step has what the turn took that made it.
        "usage": Nullable(_USAGE),
        "metadata": NOTES,
    },
)
STEPS: Final = list_of(STEP, "StepList")
_COUNTS: Final = answer("", dict.fromkeys(("in_progress", "completed", "failed", "cancelled", "total"), COUNT))
_STORE_ID: Final = Id((naming.VECTOR_STORE,))
VECTOR_STORE: Final = answer(
    "VectorStore",
    {
        "id": _STORE_ID,
        "object": constant("vector_store"),
        "created_at": COUNT,
        "name": Text(),
        "usage_bytes": COUNT,
        "file_counts": _COUNTS,
        "status": constant("completed"),
        "expires_after": Nullable(answer("", {"anchor": constant("last_active_at"), "days": COUNT})),
        "expires_at": _WHEN,
        "last_active_at": COUNT,
        "metadata": NOTES,
    },
)
VECTOR_STORES: Final = list_of(VECTOR_STORE, "VectorStoreList")
VECTOR_STORE_DELETED: Final = deleted("vector_store", naming.VECTOR_STORE)
VECTOR_STORE_FILE: Final = answer(
    "VectorStoreFile",
    {
        "id": _FILE_ID,
        "object": constant("vector_store.file"),
        "created_at": COUNT,
        "vector_store_id": _STORE_ID,
        "status": constant("completed"),
        "usage_bytes": COUNT,
        "last_error": _ERROR,
        "chunking_strategy": answer("", {"type": constant("other")}),
        "attributes": NOTES,
    },
)
VECTOR_STORE_FILES: Final = list_of(VECTOR_STORE_FILE, "VectorStoreFileList")
VECTOR_STORE_FILE_DELETED: Final = deleted("vector_store.file", naming.FILE)
FILE_BATCH: Final = answer(
    "VectorStoreFileBatch",
    {
        "id": Id((naming.FILE_BATCH,)),
        "object": constant("vector_store.files_batch"),
        "created_at": COUNT,
        "vector_store_id": _STORE_ID,
        "status": constant("completed"),
        "file_counts": _COUNTS,
    },
)
