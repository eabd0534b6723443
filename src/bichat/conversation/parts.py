"""What the parts of messages hold, by their kind.  A message is one item of a conversation, and its first part's kind says
what item it is; `Part.content` is JSON.

kind           content
text           `text`; of answers only `citations`: list of `Citation` as JSON, and `shown`: likewise, of the images that
               were displayed since the text before, where there are some
refusal        `text`
image          of a user: `file_id` (of a `FileRecord`) or `url` (`data:` or `https:`), `detail`
file           of a user: `file_id`, `name`, `tools` where it was given to a thread; or `url`; or `data` (base64) and `name`
               of both: `is_own` where the file came with the message, and goes with it
reasoning      `text`; `provider`: what the provider wants back, opaque
code           a call of the code interpreter, alone in its message: `call_id`, `code`, `session_id`, `execution_id`,
               `outputs`: list of `{"type": "logs", "logs"}` and `{"type": "image", "output_id", "name", "mime_type"}`,
               `files`: list of `{"output_id", "name", "mime_type", "size_bytes", "source"}`, `told`: the text that the
               model was given, `error`: None, or the error's JSON
tool_call      a call of a tool, alone in its message: `call_id`, `name`, `arguments` (text of JSON)
tool_result    what came of one, alone in its message: `call_id`, `output`: text, or a list of text and image contents

The status of a message: `in_progress`, `interpreting` (a code call that runs), `completed`, `incomplete`, `failed`.
Roles: what a user, a developer or the system said, `user` and `system`; all that a run made, and what a caller replays of
that, `assistant`; results of tools, `user`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

TEXT: Final = "text"
#: In the content of a text that stands in the place of something else, for models alone, and that nobody has said.
NOTE: Final = "note"
REFUSAL: Final = "refusal"
IMAGE: Final = "image"
FILE: Final = "file"
REASONING: Final = "reasoning"
CODE: Final = "code"
TOOL_CALL: Final = "tool_call"
TOOL_RESULT: Final = "tool_result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A file that an answer names, or that belongs to it although it is not named."""

    output_id: str
    session_id: str
    name: str
    mime_type: str
    text: str = ""
    """As it stands in the answer, `sandbox:/mnt/data/sales.csv`; empty where the answer does not name it."""
    start: int = 0
    """Where that begins in the answer's text, in code points."""
    end: int = 0
    is_shown: bool = False
    """Whether it is an image that was displayed, and no file that code finds under this name."""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a part."""
        return asdict(self)
