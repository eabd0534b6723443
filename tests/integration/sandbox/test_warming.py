"""A preloading zygote warms up beside a plain one: nobody waits for imports that he did not ask for."""

from __future__ import annotations

from pathlib import Path

from bichat.domain import Status
from bichat.sandbox.supervisor import Supervisor

IMPORTED = "import sys; answer = sorted({'wave', 'sqlite3'} & set(sys.modules)); print(answer)"


def test_code_runs_at_once_while_the_libraries_are_still_imported(portal, bare_environment, limits, attack, tmp_path):
    async def run():
        async with Supervisor(bare_environment, spool_folder=Path(tmp_path), preload=("wave",)) as supervisor:
            first = await attack(supervisor, IMPORTED, limits=limits)
            await supervisor.warmed()
            second = await attack(supervisor, IMPORTED, limits=limits)
            return first, second

    first, second = portal.call(run)

    assert first.status is Status.COMPLETED
    assert second.stdout == "['wave']\n"


def test_leaving_does_not_wait_for_imports_under_way_and_leaves_no_process(
    portal, bare_environment, limits, attack, family, tmp_path
):
    async def run():
        async with Supervisor(bare_environment, spool_folder=Path(tmp_path), preload=("wave", "this")) as supervisor:
            await attack(supervisor, "pass", limits=limits)
            return (await supervisor.zygote()).pid

    pid = portal.call(run)

    assert family(pid) == []


def test_a_preloaded_zygote_that_dies_is_warmed_up_again_without_a_pause(
    portal, bare_environment, limits, attack, tmp_path
):
    async def run():
        async with Supervisor(bare_environment, spool_folder=Path(tmp_path), preload=("wave",)) as supervisor:
            await supervisor.warmed()
            old = await supervisor.zygote()
            await old.end()
            meanwhile = await attack(supervisor, "print('runs')", limits=limits)
            await supervisor.warmed()
            again = await attack(supervisor, IMPORTED, limits=limits)
            return meanwhile, again

    meanwhile, again = portal.call(run)

    assert meanwhile.stdout == "runs\n"
    assert again.stdout == "['wave']\n"
