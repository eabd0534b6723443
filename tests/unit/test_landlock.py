"""What is asked of Landlock, by the kernel's ABI version."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest

from bichat.sandbox.isolation import landlock

#: (ABI, size of the structure, number of file rights, network rights, scopes), from landlock.rst.
VERSIONS = [
    (1, 8, 13, 0, 0),
    (2, 8, 14, 0, 0),
    (3, 8, 15, 0, 0),
    (4, 16, 15, 3, 0),
    (5, 16, 16, 3, 0),
    (6, 24, 16, 3, 3),
    (7, 24, 16, 3, 3),
]


@pytest.mark.parametrize("abi, size, rights, network, scopes", VERSIONS, ids=[f"abi{row[0]}" for row in VERSIONS])
def test_each_version_is_asked_for_all_that_it_offers_and_nothing_more(abi, size, rights, network, scopes):
    attributes = landlock.ruleset_attributes(abi)

    assert len(attributes) == size
    assert struct.unpack("=QQQ", attributes.ljust(24, b"\0")) == ((1 << rights) - 1, network, scopes)


@pytest.mark.parametrize("abi", range(1, 8))
def test_what_may_be_done_to_read_only_files_is_known_to_every_version(abi):
    assert landlock.READ_ONLY & landlock.handled_rights(abi) == landlock.READ_ONLY


@pytest.mark.parametrize("abi", range(1, 8))
def test_reading_gives_no_right_to_change_anything(abi):
    changes = landlock.handled_rights(abi) & ~landlock.READ_ONLY

    assert changes & landlock.WRITE_FILE
    assert not landlock.READ_ONLY & changes


@pytest.mark.skipif(landlock.abi_version() == 0, reason="this kernel has no Landlock")
def test_an_empty_list_of_rules_means_that_nothing_is_allowed(tmp_path):
    """Not that nothing is restricted."""
    (tmp_path / "own").write_text("x", encoding="utf-8")
    code = f"""
import os
from bichat.sandbox.isolation import kernel, landlock
kernel.forbid_new_privileges()
landlock.restrict((), ())
def tried(what, *arguments):
    try:
        what(*arguments)
    except PermissionError:
        return "refused"
    return "allowed"
own = {str(tmp_path)!r}
print(tried(open, own + "/own"), tried(open, own + "/own", "a"), tried(open, own + "/new", "w"), tried(os.mkdir, own + "/folder"),
      tried(os.unlink, own + "/own"), tried(os.listdir, own), tried(os.listdir, "/"), tried(open, "/dev/null"),
      tried(os.execv, "/bin/sh", ["sh", "-c", "echo allowed"]))
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == ["refused"] * 9
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.skipif(landlock.abi_version() == 0, reason="this kernel has no Landlock")
def test_a_rule_for_a_path_that_is_not_there_allows_nothing_else(tmp_path):
    code = f"""
import os
from bichat.sandbox.isolation import kernel, landlock
kernel.forbid_new_privileges()
landlock.restrict(("/no/such/folder", ""), ("/nor/this",))
try:
    os.listdir({str(tmp_path)!r})
except PermissionError:
    print("refused")
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "refused\n"
