"""Every step that can fail is explained with something that the reader can do."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

import bichat.sandbox
from bichat.sandbox.isolation.explain import explain

FOLDER = Path(bichat.sandbox.__file__).parent
#: The steps as launcher and enclosure name them, read from their source so that a new one is met here.
STEPS = sorted(
    {
        step
        for name in ("launcher", "porter", "zygote")
        for step in re.findall(
            r'(?:step\.name = |"failed": )"([a-z ]+)"', (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        )
    }
    | set(re.findall(r'step\("([a-z -]+)", ', (FOLDER / "enclosure.py").read_text(encoding="utf-8")))
)
NUMBERS = (None, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOSPC, errno.EAGAIN, errno.EMFILE, errno.EINVAL)


def test_the_steps_were_found():
    assert {"user namespace", "pivot", "landlock", "seccomp", "fork", "guest", "hand over"} <= set(STEPS)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_a_reason_and_a_remedy(step, number):
    explanation = explain(step, number, "what the kernel said")

    assert explanation.reason
    assert explanation.remedy.endswith((".", ")"))


@pytest.mark.parametrize(
    "step, number, word",
    [
        ("user namespace", errno.EPERM, "unprivileged_userns_clone"),
        ("mount namespace", errno.EPERM, "seccomp profile"),
        ("user namespace", errno.ENOSPC, "max_user_namespaces"),
        ("root folder", errno.EPERM, "apparmor"),
        ("process view", errno.EACCES, "apparmor"),
        ("pivot", errno.EPERM, "pivot_root"),
        ("host name", errno.EPERM, "sethostname"),
        ("landlock", errno.EOPNOTSUPP, "lsm="),
        ("seccomp", errno.EINVAL, "CONFIG_SECCOMP_FILTER"),
        ("seccomp", errno.EBUSY, "--explain-denials"),
        ("fork", errno.EAGAIN, "ulimit -u"),
        ("unused uid", errno.EINVAL, "uids"),
        ("hand over", errno.EMFILE, "ulimit -n"),
    ],
)
def test_the_remedy_names_what_to_look_at(step, number, word):
    assert word in explain(step, number, "what the kernel said").remedy


def test_an_unknown_failure_is_told_as_it_was():
    assert "what the kernel said" in explain("a step of tomorrow", errno.EIO, "what the kernel said").reason
