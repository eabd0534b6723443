"""What a run is asked for, and what it may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

from bichat.conversation.planner import Sampling, ToolSpec
from bichat.repository.records import Part, Role

Json = Mapping[str, Any]

#: `tool_choice` that means the code interpreter.
CODE_TOOL: Final = "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One item that goes into a run."""

    role: Role
    parts: tuple[Part, ...]
    status: str = "completed"
    is_kept: bool = True
    """False: nothing of it stays once it is over, whether or not somebody is left to delete it (`Core.forget`)."""
    metadata: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeOptions:
    """Where a run's code is to run."""

    session_id: str = ""
    """In this session and in no other; else in the conversation's last one, or in a new one."""
    file_ids: tuple[str, ...] = ()
    """Uploaded files that a new session has from the start."""
    memory: str | None = None
    """Of a new session, such as `"4g"`; the installation's default if None."""
    is_strict: bool = False
    """Whether a session of the conversation's that has ended is an error, and not opened again with its files."""
    is_thread: bool = False
    """Whether a new session belongs to the conversation and goes with it, lives for an hour, and has uploaded files
    under their ids and their names, as threads have; one of those that is not there any more is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a run is asked for."""

    inputs: Sequence[Said] = ()
    """What goes into it, behind all that was said before."""
    conversation_id: str | None = None
    """The conversation that goes on; a new one if neither this nor `previous_run_id` is given."""
    previous_run_id: str | None = None
    """The run that this one follows, wherever others went on from it."""
    user: str = ""
    """Whose it is within the tenant."""
    model: str
    instructions: str = ""
    code: CodeOptions | None = None
    """None: no code is run."""
    client_tools: tuple[ToolSpec, ...] = ()
    """What the caller carries out himself."""
    waits_for_caller: bool = False
    """Whether a call of those makes the run wait (`RunState.WAITING`); else it ends with it, completed."""
    tool_choice: str = "auto"
    """For the first turn, as `Turn.tool_choice`."""
    sampling: Sampling = field(default_factory=Sampling)
    max_tool_calls: int | None = None
    """Calls of tools on our side that are carried out; the model is given no tools after them."""
    max_input_tokens: int | None = None
    """Of all turns together: the run is `incomplete` where the next turn would begin beyond it."""
    last_messages: int | None = None
    """Of what was said before, the messages that the model is given, newest first, with what lies between them."""
    lives_s: float | None = None
    """Seconds after its making at which it expires, waiting for its caller counted; None: as long as `Bounds` say."""
    truncates: bool = False
    """Whether old items are left out when there is more than the model may be given; else that is an error."""
    is_kept: bool = True
    """False: nothing of it stays once it is over, whether or not somebody is left to delete it (`Core.forget`)."""
    attempt: str = ""
    """See `Run.attempt`."""
    digest: str = ""
    """Of what was sent, where an attempt is known by a name."""
    metadata: Json = field(default_factory=dict[str, Any])
    view: Json = field(default_factory=dict[str, Any])
    """What whoever asks wants back with the run, in `Run.request["view"]`."""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a run's row: all but the inputs, which are rows of their own."""
        values = asdict(replace(self, inputs=()))  # there may be thousands
        del values["inputs"]
        return values

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """The other way."""
        given: dict[str, Any] = dict(values)
        code: dict[str, Any] | None = given["code"] and dict(given["code"])
        if code is not None:
            code["file_ids"] = tuple(code["file_ids"])
            given["code"] = CodeOptions(**code)
        given["client_tools"] = tuple(ToolSpec(**spec) for spec in given["client_tools"])
        given["sampling"] = Sampling(**given["sampling"])
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one run may take."""

    turns: int = 40
    """Requests to the model; then the run is `incomplete`."""
    tool_calls: int = 200
    """Calls that are carried out; the model is given no tools after them."""
    run_s: float = 1800.0
    """Seconds until it is `expired`, waiting for its caller not counted."""
    caller_s: float = 600.0
    """Seconds that it waits for its caller."""
    history_chars: int = 600_000
    """Text of what was said before that a model is given."""
    history_items: int = 12_000
