"""`bichat db`, as an operator runs it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing


def test_a_database_is_made_looked_at_and_found_good(fresh_bichat):
    missing = fresh_bichat("db", "current")
    made = fresh_bichat("db", "upgrade", "--json")
    again = fresh_bichat("db", "upgrade")
    good = fresh_bichat("db", "check", "--json")

    assert (missing.returncode, b"bichat db upgrade" in missing.stderr) == (3, True)
    newest = json.loads(made.stdout)["after"]
    assert json.loads(made.stdout) == {"before": "", "after": newest}
    assert again.stdout.decode() == f"The database has the version {newest} already.\n"
    assert good.returncode == 0
    assert json.loads(good.stdout)["ok"] is True


def test_tables_that_are_otherwise_are_told_with_exit_code_1(fresh_bichat, tmp_path):
    fresh_bichat("db", "upgrade")
    with closing(sqlite3.connect(tmp_path / "data" / "bichat.db")) as connection:
        connection.execute("DROP INDEX bichat_files_tenant_newest")
        connection.commit()

    done = fresh_bichat("db", "check")

    assert done.returncode == 1
    assert b"bichat_files_tenant_newest" in done.stdout


def test_an_address_that_leads_nowhere_is_told_without_its_password(fresh_bichat):
    secret = "s3cr3t"
    for address in (f"postgresql://ann:{secret}@127.0.0.1:1/db", f"mysql://ann:{secret}@host/db"):
        done = fresh_bichat("db", "upgrade", variables={"BICHAT_DATABASE_URL": address})

        assert done.returncode == 3
        assert secret.encode() not in done.stdout + done.stderr
