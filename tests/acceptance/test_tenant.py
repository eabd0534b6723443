"""`bichat tenant`, as an operator runs it."""

from __future__ import annotations

import json

import pytest


def test_a_quota_that_was_set_holds_is_shown_and_can_be_taken_away(fresh_bichat):
    fresh = fresh_bichat("tenant", "show", "acme", "--json")
    fresh_bichat("tenant", "set", "acme", "--quota-bytes", "1.5g", "--quota-files", "1000", "--retention-days", "90")
    shown = fresh_bichat("tenant", "show", "acme")
    changed = fresh_bichat("tenant", "set", "acme", "--quota-files", "none", "--json")

    nothing = {"tenant": "acme", "size_bytes": 0, "files": 0, "row_bytes": 0}
    unbounded = {"quota_bytes": None, "quota_files": None, "retention_days": None}
    assert json.loads(fresh.stdout) == nothing | unbounded
    assert shown.stdout.decode().splitlines() == [
        "bytes:  0 B of 1.5 GiB",
        "files:  0 of 1,000",
        "kept:   for 90 days",
    ]
    assert json.loads(changed.stdout) == nothing | unbounded | {"quota_bytes": 3 << 29, "retention_days": 90.0}


def test_a_quota_of_nothing_keeps_no_file_and_loses_no_output(bichat, tmp_path):
    places = {
        "BICHAT_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/kept.db",
        "BICHAT_STORAGE_URL": f"file://{tmp_path}/kept",
    }
    bichat("tenant", "set", "local", "--quota-bytes", "0", variables=places)

    done = bichat("run", "--save", "-c", "open('a.csv', 'w').write('1,2'); print('made')", variables=places)

    assert (done.returncode, done.stdout) == (0, b"made\n")
    assert b"a.csv  not kept: the tenant's quota is used up" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "../acme"],
        ["set", "acme"],
        ["set", "acme", "--quota-bytes", "999999999999g"],
        ["set", "acme", "--quota-files", "-1"],
        ["set", "acme", "--retention-days", "nan"],
        ["set", "acme", "--retention-days", "1e9"],
    ],
)
def test_what_is_no_tenant_and_no_number_is_bad_usage(fresh_bichat, arguments):
    done = fresh_bichat("tenant", *arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
