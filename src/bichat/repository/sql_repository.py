"""The repository in a database that speaks SQL."""

from __future__ import annotations

from bichat.repository.database import Database
from bichat.repository.sql.audit import SqlAudit
from bichat.repository.sql.conversations import SqlConversations
from bichat.repository.sql.definitions import SqlDefinitions
from bichat.repository.sql.executions import SqlExecutions
from bichat.repository.sql.kept_files import SqlFiles, SqlOutputs
from bichat.repository.sql.keys import SqlKeys
from bichat.repository.sql.leftovers import SqlLeftovers
from bichat.repository.sql.messages import SqlMessages
from bichat.repository.sql.outbox import SqlOutbox
from bichat.repository.sql.runs import SqlRuns
from bichat.repository.sql.sessions import SqlSessions
from bichat.repository.sql.tenants import SqlTenants
from bichat.repository.sql.upkeep import SqlUpkeep


class SqlRepository:
    """Implements `ChatRepository` on SQLite and PostgreSQL; `open_repository` makes one."""

    def __init__(self, database: Database) -> None:
        """`database` has the schema of this program's version."""
        self._database = database
        self.conversations = SqlConversations(database)
        self.messages = SqlMessages(database)
        self.runs = SqlRuns(database)
        self.sessions = SqlSessions(database)
        self.executions = SqlExecutions(database)
        self.outputs = SqlOutputs(database)
        self.files = SqlFiles(database)
        self.definitions = SqlDefinitions(database)
        self.keys = SqlKeys(database)
        self.tenants = SqlTenants(database)
        self.audit = SqlAudit(database)
        self.outbox = SqlOutbox(database)
        self.leftovers = SqlLeftovers(database)
        self.upkeep = SqlUpkeep(database)

    async def close(self) -> None:
        """See `ChatRepository.close`."""
        await self._database.close()
