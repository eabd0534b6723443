"""Paths that code is written for, and what becomes of them in a room on the host."""

from __future__ import annotations

import pytest

from bichat.sandbox.guest.place import Place


@pytest.mark.parametrize(
    "code, localised",
    [
        ("open('/mnt/data/a.csv')", "open('/r/data/a.csv')"),
        ('open("/tmp/a")', 'open("/r/tmp/a")'),
        ("!ls -la /mnt/data", "!ls -la /r/data"),
        ("%%writefile /mnt/data/a.py", "%%writefile /r/data/a.py"),
        ("f'/mnt/data/{name}'", "f'/r/data/{name}'"),
        ("Path('/mnt') / 'data'", "Path('/mnt') / 'data'"),
        ("a = x/tmp", "a = x/tmp"),
        ("'https://example.org/tmp/x'", "'https://example.org/tmp/x'"),
        (
            "'/tmpfiles', '/mnt/database', '/var/tmp/x', '/tmp.old'",
            "'/tmpfiles', '/mnt/database', '/var/tmp/x', '/tmp.old'",
        ),
        ("'sandbox:/mnt/data/a.png'", "'sandbox:/mnt/data/a.png'"),
        ("cp a /tmp;cp b /mnt/data/", "cp a /r/tmp;cp b /r/data/"),
    ],
)
def test_whole_paths_where_one_can_begin_are_replaced_and_nothing_else(code: str, localised: str):
    assert Place("/r").localised(code) == localised


def test_lines_stay_where_they_are():
    code = "a = 1\nopen('/mnt/data/x')\n\nb = 2\n"

    assert [line[:1] for line in Place("/r").localised(code).splitlines()] == ["a", "o", "", "b"]
