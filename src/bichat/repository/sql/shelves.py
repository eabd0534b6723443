"""Every table that records of the port lie in."""

from __future__ import annotations

from typing import Final

from bichat.repository import records, schema
from bichat.repository.sql.shelf import Shelf

CONVERSATIONS: Final = Shelf(records.Conversation, schema.conversations, "conversation")
MESSAGES: Final = Shelf(records.Message, schema.messages, "message")
RUNS: Final = Shelf(records.Run, schema.runs, "run")
SESSIONS: Final = Shelf(records.SessionRecord, schema.sessions, "session")
EXECUTIONS: Final = Shelf(records.ExecutionRecord, schema.executions, "execution")
OUTPUTS: Final = Shelf(records.CodeInterpreterOutput, schema.outputs, "output")
FILES: Final = Shelf(records.FileRecord, schema.files, "file")
DEFINITIONS: Final = Shelf(records.Definition, schema.definitions, "definition")
KEYS: Final = Shelf(records.ApiKey, schema.api_keys, "key")
AUDIT: Final = Shelf(records.AuditEntry, schema.audit_log, "entry", moment="at")
LEFTOVERS: Final = Shelf(records.Leftover, schema.leftovers, "leftover")
