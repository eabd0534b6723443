"""What is asked of Landlock, by the kernel's ABI version."""

from __future__ import annotations

import struct

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
