"""A short soak: what `make soak` does with thousands of executions, with sixty; counts are judged, no time is."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from soak.kinds import KINDS, PACKAGES
from soak.report import tables, verdict
from soak.soak import soak

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces]


async def test_sixty_mixed_executions_of_two_tenants_leave_no_more_than_there_was(bare_settings, needs_namespaces_here):
    settings = bare_settings(environment="ready", ready_sandboxes=1)

    with anyio.fail_after(120):
        soaked = await soak(settings, 60, kinds=KINDS.keys() - PACKAGES)

    start, _, end = soaked.looks
    assert end.descriptors <= start.descriptors
    assert end.processes <= start.processes
    assert end.temporary_files <= start.temporary_files == 0
    latency, held = tables(soaked)
    assert len(latency.rows) == len(KINDS) - len(PACKAGES)
    assert [row[0] for row in held.rows][:2] == ["descriptors", "threads"]


async def test_a_soak_that_leaves_a_descriptor_behind_is_not_flat(bare_settings, needs_namespaces_here):
    with anyio.fail_after(60):
        soaked = await soak(bare_settings(environment="ready", ready_sandboxes=1), 20, kinds=["one-shot"])
    assert soaked.end is not None
    soaked.end = replace(soaked.end, descriptors=soaked.end.descriptors + 1)

    assert any(fault.startswith("descriptors") for fault in verdict(soaked))
