"""Everything that a server needs, opened in its order and closed in the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import anyio.to_thread

from bichat.agent.toolbox import CodeToolbox
from bichat.archive.opening import open_places
from bichat.conversation.core import Core
from bichat.conversation.planner import Planners
from bichat.conversation.planners.choice import configured_planners
from bichat.interpreter import CodeInterpreter
from bichat.live_sessions import LiveSessions
from bichat.server.readiness import Readiness
from bichat.server.services import Services
from bichat.settings.secret import load_secret
from bichat.settings.settings import Settings
from bichat.storage import DownloadLinks


@asynccontextmanager
async def open_services(
    settings: Settings, *, planners: Planners | None = None, preload: bool = True
) -> AsyncGenerator[Services]:
    """The services of one process, which all end with the block.

    Args:
        settings: what the operator has chosen.
        planners: which models there are; those of `settings` by default.
        preload: see `CodeInterpreter`; with it sandboxes are made ready at once, and not by the first who needs one.

    Raises:
        StorageError, DatabaseError, UserInputError: storage or database cannot be used.
    """
    async with (
        open_places(settings) as (storage, repository),
        CodeInterpreter(settings=settings, preload=preload, storage=storage, repository=repository) as interpreter,
        aclosing(configured_planners(settings)) as chosen,
    ):
        archive = interpreter.archive
        if archive is None:
            raise AssertionError("an interpreter with storage and repository has an archive")
        sessions = LiveSessions(interpreter, settings, archive)
        toolbox = CodeToolbox(sessions, repository, storage, is_strict=settings.strict_containers)
        links = DownloadLinks(await anyio.to_thread.run_sync(load_secret, settings.data_dir), settings.public_url)
        async with (
            sessions,
            Core(repository, archive.upkeep, planners or chosen, toolbox) as core,
            Readiness(interpreter) as readiness,
        ):
            if preload:
                readiness.begin()
            yield Services(
                settings=settings,
                interpreter=interpreter,
                archive=archive,
                sessions=sessions,
                core=core,
                readiness=readiness,
                links=links,
            )
