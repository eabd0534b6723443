"""What comes out by the streams and by the channel: bounded, and believed only where it harms nobody."""

from __future__ import annotations

import pickle
from dataclasses import replace

import anyio
import pytest

from bichat.domain import Status
from bichat.sandbox.sandbox import Ended
from bichat.sizes import KIB, MIB

CHANNEL = """
import socket, struct, json
channel = next(number for number, target in descriptors().items() if target.startswith("socket:"))
def frame(payload):
    return struct.pack(">I", len(payload)) + payload
"""


def test_a_flood_of_output_is_killed_and_its_head_kept(run_code, limits):
    outcome = run_code(
        "while True: os.write(1, b'y' * 65536)", limits=replace(limits, output_bytes=MIB, output_kill_bytes=4 * MIB)
    )

    assert outcome.status is Status.OUTPUT_LIMIT
    assert outcome.ended.stdout.total_bytes >= 4 * MIB
    assert len(outcome.stdout) <= MIB + KIB
    assert outcome.stdout.startswith("yyyy")


def test_a_flood_by_both_streams_and_many_processes_is_killed(run_code, limits):
    outcome = run_code(
        """
        os.fork(); os.fork()
        while True:
            os.write(1, b"a" * 4096)
            os.write(2, b"b" * 4096)
        """,
        limits=limits,
    )

    assert outcome.status is Status.OUTPUT_LIMIT


def test_a_child_that_floods_after_the_end_is_cut_off(run_code, limits):
    outcome = run_code(
        """
        if os.fork() == 0:
            while True:
                os.write(1, b"y" * 65536)
        """,
        limits=limits,
    )

    assert outcome.status in {Status.COMPLETED, Status.OUTPUT_LIMIT}
    assert len(outcome.stdout) <= limits.output_bytes + KIB


def test_bytes_that_are_no_text_survive(run_code):
    outcome = run_code(r"os.write(1, b'\xff\xfe\x00 \x1b[31m'); print('\ud800')")

    assert outcome.status is Status.COMPLETED
    assert "\\xff\\xfe\x00 \x1b[31m" in outcome.stdout
    outcome.stdout.encode("utf-8")


def test_closing_every_descriptor_ends_the_own_execution_only(run_code):
    outcome = run_code("os.write(1, b'before'); os.closerange(0, 1024)")

    assert outcome.status in {Status.ERROR, Status.KILLED}
    assert outcome.stdout == "before"
    assert run_code("answer(1)").answer == 1


def test_a_forged_end_is_the_guests_own_result_and_nothing_more(run_code):
    outcome = run_code(
        CHANNEL
        + """
os.write(channel, frame(json.dumps({"cell": 1, "done": {"status": "error", "name": ["x"], "message": {}, "errno": []}}).encode()))
while True:
    pass
"""
    )

    assert outcome.status is Status.ERROR


GARBAGE = {
    "no JSON": 'os.write(channel, frame(b"garbage"))',
    "no object": 'os.write(channel, frame(b"[1]"))',
    "a length of four gigabytes": r'os.write(channel, b"\xff\xff\xff\xff")',
    "endless nesting": 'os.write(channel, frame(b"[" * 100_000))',
    "a number that takes for ever": 'os.write(channel, frame(b"1" * 100_000))',
    "floods of frames": 'while True: os.write(channel, frame(b"{}") * 1000)',
    "floods of large frames": 'while True: os.write(channel, frame(b\'{"x":[\' + b"[]," * 300_000 + b"[]]}"))',
}


@pytest.mark.parametrize("code", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_on_the_channel_ends_the_execution_at_once(run_code, code):
    outcome = run_code(CHANNEL + code + "\nimport signal; signal.pause()")

    assert outcome.status is Status.KILLED
    assert outcome.error.name == "ProtocolError"


def test_half_a_frame_is_waited_for_until_the_timeout(run_code, limits):
    outcome = run_code(
        CHANNEL + 'os.write(channel, struct.pack(">I", 1000) + b"{")\nimport signal; signal.pause()',
        limits=replace(limits, timeout_s=0.5, grace_s=0.2),
    )

    assert outcome.status is Status.TIMEOUT


def test_frames_without_meaning_are_passed_over(run_code):
    outcome = run_code(
        CHANNEL
        + """
for message in ({}, {"ready": True}, {"done": 1}, {"done": None}, {"ended": 0}, {"failed": "x"}):
    os.write(channel, frame(json.dumps(message).encode()))
answer("honest")
"""
    )

    assert outcome.answer == "honest"
    assert outcome.status is Status.COMPLETED


def test_the_name_of_an_exception_may_be_as_long_as_it_likes(run_code):
    outcome = run_code("raise type('A' * (20 << 20), (Exception,), {})('long')")

    assert outcome.status is Status.ERROR
    assert outcome.error.message == "long"
    assert len(outcome.error.name) <= 64 * KIB + KIB


def test_an_exception_that_fights_back_is_reported_all_the_same(run_code):
    outcome = run_code(
        """
        class Hostile(Exception):
            def __str__(self): raise SystemExit(0)
            __repr__ = __str__
        raise Hostile
        """
    )

    assert outcome.status in {Status.ERROR, Status.COMPLETED}


def test_the_guest_cannot_read_what_the_server_sends_next_nor_fill_its_memory(run_code):
    outcome = run_code(
        CHANNEL
        + """
taken = socket.socket(fileno=os.dup(channel))
taken.setblocking(False)
answer(attempt(taken.recv, 1))
"""
    )

    assert outcome.answer == "EAGAIN"


def test_a_guest_that_takes_no_more_code_is_timed_out(portal, supervise, open_sandbox, limits, with_probe):
    stopping = with_probe(
        CHANNEL
        + """
import signal
os.write(channel, frame(json.dumps({"cell": 1, "done": {"status": "completed"}}).encode()))
os.kill(os.getpid(), signal.SIGSTOP)
"""
    )

    async def statuses(sandbox) -> list[Status]:
        with anyio.fail_after(20):
            executions = (
                sandbox.execute(code, name="main.py", timeout_s=1) for code in (stopping, "# " + "x" * (1 << 20))
            )
            return [event.status for events in executions async for event in events if isinstance(event, Ended)]

    with open_sandbox(supervise()) as sandbox:
        found = portal.call(statuses, sandbox)

    assert found == [Status.COMPLETED, Status.TIMEOUT]


def test_a_forged_object_stays_bytes_wherever_a_guest_puts_it(run_code, tmp_path):
    """In a file, on its streams, on its channel, in the name and the message of an error: nothing is ever made of it."""
    mark = tmp_path / "mark"
    forged = f"""
class Forged:
    def __reduce__(self):
        return os.mkdir, ({str(mark)!r},)
import pickle
forged = pickle.dumps(Forged())
"""
    shown = (
        forged
        + """
open("result.pkl", "wb").write(forged)
os.write(1, forged)
os.write(2, forged)
raise type(forged.decode("latin-1").replace("\\0", ""), (Exception,), {})(forged)
"""
    )

    outcome = run_code(shown)
    on_channel = run_code(CHANNEL + forged + "os.write(channel, frame(forged))\nimport signal; signal.pause()")

    content = outcome.files["result.pkl"].read_bytes()
    mark.mkdir()
    with pytest.raises(FileExistsError):  # what becomes of it where it is loaded
        pickle.loads(content)
    mark.rmdir()
    assert outcome.files["result.pkl"].mime_type == "application/x-pickle"
    assert outcome.status is Status.ERROR
    assert "mkdir" in outcome.stdout
    assert "mkdir" in outcome.stderr
    assert on_channel.error.name == "ProtocolError"
    assert not mark.exists()
