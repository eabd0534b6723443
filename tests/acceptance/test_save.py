"""`bichat run --save` and `bichat prune`: what came out is kept, found again, and deleted when its time has come."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

CODE = "open('sales.csv', 'w').write('north,3')\nprint('made')"


@pytest.fixture
def places(tmp_path, own_data_dir):
    return {
        "BICHAT_DATA_DIR": str(own_data_dir),
        "BICHAT_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/kept.db",
        "BICHAT_STORAGE_URL": f"file://{tmp_path}/kept",
    }


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("content")]


def test_ids_and_addresses_are_printed_and_the_file_lies_in_the_storage(bichat, places):
    done = bichat("run", "--save", "-c", CODE, variables=places)

    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (0, b"made\n")
    assert lines[0].startswith("execution ")
    assert lines[1].startswith("sales.csv  ")
    assert lines[2].strip().startswith("http://127.0.0.1:8400/files/local/")
    assert contents(bichat.folder / "kept") == [b"north,3"]
    assert not (bichat.folder / "bichat-output").exists()


def test_the_json_names_the_rows(bichat, places):
    done = bichat("run", "--save", "--json", "-c", CODE, variables=places)

    result = json.loads(done.stdout)
    (artifact,) = result["artifacts"]
    with sqlite3.connect(bichat.folder / "kept.db") as database:
        rows = database.execute("select name, size_bytes, url, source from bichat_code_interpreter_outputs").fetchall()
        statuses = database.execute("select status from bichat_executions").fetchall()
    database.close()
    assert rows == [("sales.csv", 7, artifact["url"], "file")]
    assert statuses == [("completed",)]
    assert artifact["url"] == f"/outputs/{artifact['id']}"
    assert artifact["not_kept"] == result["not_recorded"] == ""
    assert "signature=" in artifact["download_url"]


def test_a_file_that_cannot_be_kept_is_named_with_the_reason_and_the_output_is_there(bichat, places):
    done = bichat("run", "--save", "-c", CODE, variables=places | {"BICHAT_STORAGE_URL": "none://"})

    assert done.stdout == b"made\n"
    assert b"sales.csv  not kept: this installation keeps no files" in done.stderr


def test_a_storage_that_cannot_be_used_is_told_before_anything_runs(bichat, places):
    (bichat.folder / "kept").write_text("a file where the folder should be")

    done = bichat("run", "--save", "-c", CODE, variables=places)

    assert (done.returncode, done.stdout) == (3, b"")
    assert b"the storage folder" in done.stderr


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"BICHAT_STORAGE_URL": "ftp://host/files"}, b"no such kind of storage"),
        ({"BICHAT_STORAGE_URL": "s3://key:secret@bucket"}, b"credentials do not belong"),
        ({"BICHAT_DATABASE_URL": "mysql://host/bichat"}, b"BICHAT_DATABASE_URL"),
    ],
)
def test_a_place_that_there_is_not_is_refused_before_anything_runs(bichat, places, variables, words):
    done = bichat("run", "--save", "-c", CODE, variables=places | variables)

    assert done.returncode in (2, 3)
    assert done.stdout == b""
    assert words in done.stderr
    assert b"secret" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_was_deleted_in_the_database_is_removed_from_the_storage(bichat, places):
    bichat("run", "--save", "-c", CODE, variables=places)
    with sqlite3.connect(bichat.folder / "kept.db") as database:
        database.execute("update bichat_code_interpreter_outputs set created_at = '2001-01-01 00:00:00.000000'")
        database.execute(
            "insert into bichat_tenants (tenant, retention_days, created_at) values ('local', 1, '2001-01-01 00:00:00.000000')"
        )
    database.close()

    would = json.loads(bichat("prune", "--dry-run", "--json", variables=places).stdout)
    assert (would["dry_run"], would["outputs"], would["size_bytes"]) == (True, 1, 7)
    assert contents(bichat.folder / "kept") == [b"north,3"]

    done = bichat("prune", variables=places)

    assert done.returncode == 0, done.stderr
    assert b"1 outputs and 0 uploads of 7 B were deleted." in done.stdout
    assert contents(bichat.folder / "kept") == []
