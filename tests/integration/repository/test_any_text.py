"""Whatever a guest prints, names or displays: both databases give it back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bichat.repository.text import fit_name, plain_json
from bichat.testing.repository_tests.chat import Chat, everything

pytestmark = pytest.mark.anyio

_ANYTHING = st.text(st.characters(exclude_categories=())) | st.text("\0␛\ud800\udfff0af'\"\\%:")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    code=_ANYTHING,
    out=_ANYTHING,
    name=_ANYTHING,
    shown=st.dictionaries(_ANYTHING, _ANYTHING | st.floats(allow_nan=False, allow_infinity=False)),
)
async def test_code_output_names_and_results_come_back_as_they_were(repository, code, out, name, shown):
    chat = Chat(repository, "acme")
    execution = await chat.execution(code=code)
    made = await chat.output(execution, name=name, url=out)
    ended = replace(execution, status="error", stdout=out, stderr=out, results=(shown,), error={"message": out})

    finished = await repository.executions.finish("acme", ended)

    assert await repository.executions.get("acme", execution.id) == finished
    assert (finished.code, finished.stdout, finished.stderr) == (code, out, out)
    assert (finished.results, finished.error) == ((plain_json(shown),), plain_json({"message": out}))
    assert (made.name, made.url) == (fit_name(name), out)
    assert await everything(repository.outputs.page, "acme", execution_id=execution.id) == [made]
