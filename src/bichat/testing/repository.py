"""What every `ChatRepository` promises, as tests.

    class TestMyRepository(RepositoryConformance):
    @pytest.fixture
        async def repository(self):
            yield MyRepository(...)

The fixture gives a repository that nobody else uses meanwhile; what other tests left in it does not matter.
"""

from __future__ import annotations

import pytest

from bichat.repository import ChatRepository
from bichat.testing.repository_tests.chat import Chat, tenant_name
from bichat.testing.repository_tests.conversations import ConversationTests
from bichat.testing.repository_tests.definitions import DefinitionTests
from bichat.testing.repository_tests.deletions import DeletionTests
from bichat.testing.repository_tests.kept_files import KeptFileTests
from bichat.testing.repository_tests.keys import KeyTests
from bichat.testing.repository_tests.leftovers import LeftoverTests
from bichat.testing.repository_tests.messages import MessageTests
from bichat.testing.repository_tests.ownership import OwnershipTests
from bichat.testing.repository_tests.quotas import QuotaTests
from bichat.testing.repository_tests.records import RecordTests
from bichat.testing.repository_tests.runs import RunTests
from bichat.testing.repository_tests.upkeep import UpkeepTests
from bichat.testing.repository_tests.work import WorkTests


class RepositoryConformance(
    RecordTests,
    OwnershipTests,
    MessageTests,
    ConversationTests,
    RunTests,
    WorkTests,
    KeptFileTests,
    QuotaTests,
    DeletionTests,
    UpkeepTests,
    KeyTests,
    LeftoverTests,
    DefinitionTests,
):
    """Subclass it; see the module."""

    @pytest.fixture
    def tenant(self) -> str:
        return tenant_name()

    @pytest.fixture
    def chat(self, repository: ChatRepository, tenant: str) -> Chat:
        return Chat(repository, tenant)
