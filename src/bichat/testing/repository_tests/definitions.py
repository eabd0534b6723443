"""What callers describe once and name by its id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from bichat.errors import ConflictError, NotFoundError, UserInputError
from bichat.repository import ChatRepository
from bichat.repository.records import Definition
from bichat.testing.repository_tests.chat import everything, moment, tenant_name


class DefinitionTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_a_definition_comes_back_is_changed_and_goes(self, repository: ChatRepository, tenant: str) -> None:
        content = {"model": "m", "name": None, "tools": [{"type": "a\0\ud800"}]}
        made = Definition(tenant=tenant, user="ann", kind="assistant", content=content)
        await repository.definitions.add(tenant, made)

        assert await repository.definitions.get(tenant, made.id, kind="assistant") == made
        changed = await repository.definitions.change(tenant, made.id, kind="assistant", content={"model": "n"})
        assert changed == replace(made, content={"model": "n"})
        assert await repository.definitions.get(tenant, made.id, kind="assistant") == changed
        with pytest.raises(ConflictError):
            await repository.definitions.add(tenant, made)
        await repository.definitions.delete(tenant, made.id, kind="assistant")
        with pytest.raises(NotFoundError):
            await repository.definitions.get(tenant, made.id, kind="assistant")

    async def test_definitions_are_listed_by_kind_newest_first(self, repository: ChatRepository, tenant: str) -> None:
        made = [
            Definition(tenant=tenant, kind=kind, content={"number": number}, created_at=moment(number))
            for number in range(9)
            for kind in ("assistant", "vector_store")
        ]
        for each in made:
            await repository.definitions.add(tenant, each)

        found = await everything(repository.definitions.page, tenant, kind="assistant", limit=4)

        assert found == [each for each in reversed(made) if each.kind == "assistant"]
        again = await everything(repository.definitions.page, tenant, kind="assistant", limit=4, oldest_first=True)
        assert again == found[::-1]

    async def test_a_definition_of_another_tenant_or_kind_is_not_found(
        self, repository: ChatRepository, tenant: str
    ) -> None:
        other = tenant_name()
        made = await repository.definitions.add(tenant, Definition(tenant=tenant, kind="assistant", content={}))
        for whose, kind, number in ((other, "assistant", made.id), (tenant, "other", made.id), (tenant, "a", "x")):
            attempts: list[Callable[[], Awaitable[Any]]] = [
                lambda whose=whose, kind=kind, number=number: repository.definitions.get(whose, number, kind=kind),
                lambda whose=whose, kind=kind, number=number: repository.definitions.delete(whose, number, kind=kind),
                lambda whose=whose, kind=kind, number=number: repository.definitions.change(
                    whose, number, kind=kind, content={}
                ),
            ]
            for attempt in attempts:
                with pytest.raises(NotFoundError):
                    await attempt()
        for nobody in ("", "a/b"):
            with pytest.raises(UserInputError):
                await repository.definitions.page(nobody, kind="assistant")
            with pytest.raises(UserInputError):
                await repository.definitions.add(nobody, Definition(tenant=nobody, kind="a", content={}))

        assert (await repository.definitions.page(other, kind="assistant")).items == ()
        await repository.tenants.delete(tenant)
        assert (await repository.definitions.page(tenant, kind="assistant")).items == ()
