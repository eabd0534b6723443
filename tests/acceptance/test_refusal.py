"""A host that cannot give what is asked for: code does not run, and the refusal says what is missing and what to do.

Where it forbids namespaces alone, and nobody insists on them, code runs at the level `landlock`, and that is said.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = Path(__file__).with_name("without_call.py")
NUMBERS = {
    "x86_64": {"unshare": 272, "mount": 165, "landlock": 446, "seccomp": 317, "sethostname": 170},
    "aarch64": {"unshare": 97, "mount": 40, "landlock": 446, "seccomp": 277, "sethostname": 161},
}


NAMESPACES = {"BICHAT_ISOLATION": "namespaces"}
#: Where guests of root cannot reach the environment, which lies in root's own home, say, there is no level for them.
OUT_OF_REACH = b"every user may pass"


def _on_a_host_without(calls, bichat, *arguments, variables=None):
    numbers = ",".join(str(NUMBERS[platform.machine()][call]) for call in calls.split())
    return subprocess.run(
        [sys.executable, WITHOUT, numbers, *bichat.command, *arguments],
        cwd=bichat.folder,
        env={**bichat.variables, **(variables or {})},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "calls, reason, remedy",
    [
        ("unshare", b"forbids user namespaces", b"seccomp profile"),
        ("mount", b"mount", b"AppArmor"),
        ("landlock", b"Landlock", b"5.13"),
        ("unshare landlock", b"forbids user namespaces", b"seccomp profile"),
        ("seccomp", b"seccomp filter", b"CONFIG_SECCOMP_FILTER"),
        ("sethostname", b"naming the host", b"allow sethostname"),
        ("unshare", b"forbids user namespaces", b"Or let BICHAT_ISOLATION be landlock"),
    ],
)
def test_code_does_not_run_behind_fewer_walls_than_were_asked_for(bichat, calls, reason, remedy):
    code = "print('ran'); open('a', 'w').write('ran')"
    done = _on_a_host_without(calls, bichat, "run", "-c", code, variables=NAMESPACES)

    assert done.returncode == 3
    assert done.stdout == b""
    assert not (bichat.folder / "bichat-output").exists()
    assert reason in done.stderr
    assert remedy in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("calls", ["unshare landlock", "mount landlock", "unshare seccomp"])
def test_code_does_not_run_below_the_lowest_level(bichat, calls):
    done = _on_a_host_without(calls, bichat, "run", "-c", "print('ran')")

    assert done.returncode == 3
    assert done.stdout == b""
    assert b"bichat: " in done.stderr
    assert b"BICHAT_ISOLATION" not in done.stderr  # it has been tried
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("calls", ["unshare", "mount"])
def test_where_namespaces_are_forbidden_code_runs_at_the_level_landlock_and_the_result_says_so(bichat, calls):
    code = "open('/mnt/data/a.txt', 'w').write('ran')"
    done = _on_a_host_without(calls, bichat, "run", "--json", "-c", code)

    if done.returncode == 3 and os.geteuid() == 0:
        assert OUT_OF_REACH in done.stderr + done.stdout
        return
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert result["isolation"]["level"] == "landlock"
    assert any(lack.startswith("namespaces") for lack in result["isolation"]["lacks"])
    assert (bichat.folder / "bichat-output" / "a.txt").read_text(encoding="utf-8") == "ran"


def test_doctor_says_at_which_level_code_runs_and_what_that_lacks(bichat):
    done = _on_a_host_without("unshare", bichat, "doctor", "--json")

    report = json.loads(done.stdout)
    if done.returncode == 3 and os.geteuid() == 0:
        assert OUT_OF_REACH.decode() in report["checks"][0]["remedy"]
        return
    assert done.returncode == 0
    assert report["level"] == "landlock"
    assert report["ok"] is True
    assert any(lack.startswith("namespaces") for lack in report["lacks"])
    assert {check["name"] for check in report["checks"] if check["on"]} >= {"landlock", "seccomp", "signals"}


def test_doctor_says_what_is_missing_for_the_level_that_is_asked_for(bichat):
    done = _on_a_host_without("unshare", bichat, "doctor", "--json", variables=NAMESPACES)

    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert report["level"] is None
    assert report["ok"] is False
    assert [check["on"] for check in report["checks"]] == [False]
    assert "user namespaces" in report["checks"][0]["detail"]
    assert "BICHAT_ISOLATION" in report["checks"][0]["remedy"]


def test_a_level_that_there_is_not_is_a_bad_setting(bichat):
    done = bichat("run", "-c", "1", variables={"BICHAT_ISOLATION": "gvisor"})

    assert done.returncode == 2
    assert b"BICHAT_ISOLATION" in done.stderr
    assert b"'gvisor'" in done.stderr


def test_that_the_settings_rule_out_a_level_which_is_attacked_is_said(bichat):
    done = _on_a_host_without("landlock", bichat, "doctor", "--attack", "--level", "landlock", variables=NAMESPACES)

    assert done.returncode == 3
    assert b"BICHAT_ISOLATION is namespaces: here no code runs at the level landlock" in done.stderr
