"""The plan of a sandbox's root folder: what is shown, and that nothing else is."""

from __future__ import annotations

import os

import pytest

from bichat.sandbox.isolation.rootfs import plan_root

FORBIDDEN = (
    "/",
    "/etc",
    "/etc/shadow",
    "/etc/passwd",
    "/home",
    "/root",
    "/var",
    "/run",
    "/sys",
    "/proc",
    "/dev",
    "/usr",
)


def test_nothing_is_shown_but_programs_libraries_and_harmless_files():
    plan = plan_root(())

    assert not set(FORBIDDEN) & set(plan.binds)
    assert all(path.startswith(("/usr/", "/etc/", "/bin", "/sbin", "/lib")) for path in plan.binds)
    assert not [path for path in plan.binds if path.startswith("/etc/") and ("shadow" in path or "ssh" in path)]


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_of_a_system_prefix_only_programs_and_libraries_are_shown(prefix):
    plan = plan_root((prefix,))

    assert prefix not in plan.binds
    assert not [
        path
        for path in plan.binds
        if path.startswith("/usr/local/") and path not in {"/usr/local/bin", "/usr/local/lib"}
    ]


def test_a_prefix_is_shown_at_its_own_path(tmp_path):
    assert str(tmp_path) in plan_root((str(tmp_path),)).binds


def test_a_prefix_that_does_not_exist_is_left_out(tmp_path):
    assert plan_root((str(tmp_path / "missing"),)).binds == plan_root(()).binds


def test_what_lies_below_something_shown_is_not_shown_twice(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()

    plan = plan_root((str(inner), str(tmp_path), str(inner)))

    assert plan.binds.count(str(tmp_path)) == 1
    assert str(inner) not in plan.binds


def test_a_neighbour_whose_name_begins_alike_is_shown(tmp_path):
    one, two = tmp_path / "env", tmp_path / "env2"
    one.mkdir()
    two.mkdir()

    assert {str(one), str(two)} <= set(plan_root((str(one), str(two))).binds)


def test_folders_that_the_host_merged_are_links_and_the_others_are_shown():
    plan = plan_root(())

    for path in ("/bin", "/lib"):
        assert (path in plan.links) == os.path.islink(path)
        assert path not in plan.links or plan.links[path] == os.readlink(path)


def test_landlock_lets_the_guest_read_what_the_plan_shows_and_no_folder_above_it(tmp_path):
    plan = plan_root((str(tmp_path),))

    assert set(plan.binds) <= set(plan.readable)
    assert not {"/", "/usr", "/dev", "/mnt", str(tmp_path.parent)} & set(plan.readable)


def test_devices_are_those_without_state():
    assert set(plan_root(()).devices) == {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
