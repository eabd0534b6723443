"""A host that cannot give the full level: code does not run, and the refusal says what is missing and what to do."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = Path(__file__).with_name("without_call.py")
NUMBERS = {
    "x86_64": {"unshare": 272, "mount": 165, "landlock": 446, "seccomp": 317},
    "aarch64": {"unshare": 97, "mount": 40, "landlock": 446, "seccomp": 277},
}


def _on_a_host_without(call, bichat, *arguments):
    number = NUMBERS[platform.machine()][call]
    return subprocess.run(
        [sys.executable, WITHOUT, str(number), *bichat.command, *arguments],
        cwd=bichat.folder,
        env=bichat.variables,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "call, reason, remedy",
    [
        ("unshare", b"forbids user namespaces", b"seccomp profile"),
        ("mount", b"mount", b"AppArmor"),
        ("landlock", b"Landlock", b"5.13"),
        ("seccomp", b"seccomp filter", b"CONFIG_SECCOMP_FILTER"),
    ],
)
def test_code_does_not_run_behind_fewer_walls(bichat, call, reason, remedy):
    done = _on_a_host_without(call, bichat, "run", "-c", "print('ran'); open('a', 'w').write('ran')")

    assert done.returncode == 3
    assert done.stdout == b""
    assert not (bichat.folder / "bichat-output").exists()
    assert reason in done.stderr
    assert remedy in done.stderr
    assert b"Traceback" not in done.stderr


def test_doctor_says_what_is_missing(bichat):
    done = _on_a_host_without("unshare", bichat, "doctor", "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert report["level"] is None
    assert report["ok"] is False
    assert [check["on"] for check in report["checks"]] == [False]
    assert "user namespaces" in report["checks"][0]["detail"]
    assert report["checks"][0]["remedy"]
