"""All of the repository in memory."""

from __future__ import annotations

from bichat.testing.memory.chats import MemoryConversations, MemoryMessages, MemoryRuns
from bichat.testing.memory.definitions import MemoryDefinitions
from bichat.testing.memory.keeping import (
    MemoryAudit,
    MemoryKeys,
    MemoryLeftovers,
    MemoryOutbox,
    MemoryTenants,
    MemoryUpkeep,
)
from bichat.testing.memory.kept_files import MemoryFiles, MemoryOutputs
from bichat.testing.memory.tables import Tables
from bichat.testing.memory.work import MemoryExecutions, MemorySessions


class MemoryRepository:
    """Implements `ChatRepository` for the tasks of one event loop."""

    def __init__(self) -> None:
        tables = Tables()
        self.conversations = MemoryConversations(tables)
        self.messages = MemoryMessages(tables)
        self.runs = MemoryRuns(tables)
        self.sessions = MemorySessions(tables)
        self.executions = MemoryExecutions(tables)
        self.outputs = MemoryOutputs(tables)
        self.files = MemoryFiles(tables)
        self.definitions = MemoryDefinitions(tables)
        self.keys = MemoryKeys(tables)
        self.tenants = MemoryTenants(tables)
        self.audit = MemoryAudit(tables)
        self.outbox = MemoryOutbox(tables)
        self.leftovers = MemoryLeftovers(tables)
        self.upkeep = MemoryUpkeep(tables)

    async def close(self) -> None:
        """Nothing is to be ended."""
