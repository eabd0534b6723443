"""The descriptors that lead into a sandbox."""

from __future__ import annotations

import os
import subprocess

from bichat.sandbox.opening import GuestPipes, Opening, Pids


def test_the_pids_behind_a_descriptor_are_known_until_the_process_is_gone():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        descriptor = os.pidfd_open(process.pid)
        try:
            assert Pids.of(descriptor) == Pids(host=process.pid, inner=process.pid)
            process.communicate()
            assert Pids.of(descriptor).host == -1
        finally:
            os.close(descriptor)


def test_closing_twice_closes_nobody_elses_descriptors():
    pipes = GuestPipes()
    pipes.abandon()
    reader, writer = os.pipe()  # which has the numbers that have become free
    try:
        pipes.abandon()
        pipes.ours.close()
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_what_is_abandoned_leaves_no_descriptor(open_descriptors):
    before = open_descriptors()

    for _ in range(3):
        GuestPipes().abandon()
        pipes = GuestPipes()
        pipes.let_go()
        pipes.ours.close()
        Opening().abandon()
        opening = Opening()
        opening.let_go()
        opening.abandon()

    assert open_descriptors() == before
