"""What a guest says, frame by frame and byte by byte: put in its order, bounded, and never believed beyond its own result."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from bichat.domain import Limits
from bichat.errors import SandboxLostError
from bichat.events import Displayed, Stderr, Stdout
from bichat.sandbox import wire
from bichat.sandbox.connection import Connection, Output
from bichat.sandbox.opening import GuestEnds
from bichat.sandbox.transcript import Transcript
from bichat.sizes import KIB, MIB

pytestmark = pytest.mark.anyio

CELL = 7
GUEST = 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Guest:
    """The other ends: what a guest, its init and the kernel do."""

    connection: Connection
    transcript: Transcript
    channel: socket.socket
    output: int
    errors: int
    init: socket.socket
    process: subprocess.Popen[bytes]

    def send(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self.channel.sendall(wire.encode_frame(message))

    def show(self, text: str, printed: object = None) -> None:
        self.send({"display": {"data": {"text/plain": text}, "printed": printed}})

    def heard(self) -> list[object]:
        """Everything that there is to hear now; of what was displayed the plain text alone."""
        outputs: list[Output] = []
        for _ in range(40):
            outputs += self.connection.advance(self.transcript)
        return [output.result.text if isinstance(output, Displayed) else output for output in outputs]

    def drained(self) -> list[object]:
        drained = self.connection.drain(self.transcript, 1 << 30)
        return [output.result.text if isinstance(output, Displayed) else output for output in drained]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for the tree: it ends when its input does."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process


@pytest.fixture
async def guest(tmp_path: Path, process: subprocess.Popen[bytes]) -> AsyncGenerator[Guest]:
    ours, theirs = socket.socketpair()
    box, init = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output, their_output = os.pipe()
    errors, their_errors = os.pipe()
    pidfd = os.pidfd_open(process.pid)
    connection = Connection(GuestEnds(channel=ours, output=output, errors=errors), box, pidfd, GUEST)
    transcript = Transcript(Limits(output_bytes=1 * MIB), CELL, tmp_path)
    connection.begin()
    yield Guest(connection, transcript, theirs, their_output, their_errors, init, process)
    connection.close()
    for end in (theirs, box, init):
        end.close()
    for descriptor in (their_output, their_errors, pidfd):
        with suppress(OSError):  # the test did
            os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------- in order


async def test_prints_and_displays_come_in_the_order_in_which_they_happened(guest):
    os.write(guest.output, b"one\n")
    guest.show("A", [4, 0])
    os.write(guest.errors, b"two\n")
    guest.show("B", [4, 4])
    os.write(guest.output, b"three\n")
    guest.show("C", [10, 4])
    guest.send({"done": {"status": "completed"}, "cell": CELL})

    assert guest.heard() == [Stdout("one\n"), "A", Stderr("two\n"), "B", Stdout("three\n"), "C"]
    assert guest.transcript.outcome == {"status": "completed"}


async def test_what_was_printed_after_a_display_is_not_read_before_it(guest):
    os.write(guest.output, b"beforeafter")
    guest.show("A", [6, 0])

    assert guest.heard() == [Stdout("before"), "A", Stdout("after")]


async def test_the_count_goes_on_through_all_executions(guest, tmp_path):
    os.write(guest.output, b"first")
    assert guest.heard() == [Stdout("first")]
    guest.connection.begin()
    guest.transcript = Transcript(Limits(), CELL + 1, tmp_path)

    os.write(guest.output, b"secondthird")
    guest.show("A", [11, 0])

    assert guest.heard() == [Stdout("second"), "A", Stdout("third")]


async def test_a_display_behind_more_than_one_read_of_output_waits_for_all_of_it(guest):
    os.set_blocking(guest.output, False)
    size = os.write(guest.output, b"x" * (1 << 20))  # a full pipe
    guest.show("A", [size, 0])

    heard = guest.heard()

    assert heard[-1] == "A"
    assert sum(len(event.text) for event in heard[:-1] if isinstance(event, Stdout)) == size


@pytest.mark.parametrize(
    "printed",
    [
        None,
        [],
        [1],
        [1, 2, 3],
        "12",
        [10**4000, 10**4000],
        [-(10**9), -5],
        [True, False],
        [1.5, 2.5],
        ["1", "2"],
        [None, None],
        {"0": 1},
        [[1], [2]],
    ],
    ids=str,
)
async def test_a_count_that_makes_no_sense_keeps_nothing_waiting(guest, printed):
    os.write(guest.output, b"x")
    guest.show("A", printed)
    guest.send({"done": {"status": "completed"}, "cell": CELL})

    assert sorted(guest.heard(), key=str) == sorted([Stdout("x"), "A"], key=str)
    assert guest.transcript.outcome is not None
    assert not guest.connection.garbled


async def test_a_count_above_what_was_printed_waits_for_nothing(guest):
    guest.show("A", [1000, 1000])
    os.write(guest.output, b"x")

    assert set(map(str, guest.heard())) == {"A", str(Stdout("x"))}


async def test_a_character_split_between_two_writes_comes_out_whole(guest):
    euro = "\N{EURO SIGN}".encode()
    os.write(guest.output, euro[:2])
    assert guest.heard() == []
    os.write(guest.output, euro[2:] + b"\xff")

    assert guest.heard() == [Stdout("\N{EURO SIGN}\\xff")]


async def test_what_was_said_before_the_end_is_heard_after_it(guest):
    os.write(guest.output, b"last words")
    guest.show("A", [4, 0])
    guest.channel.close()
    os.close(guest.output)
    guest.process.communicate()

    assert guest.drained() == [Stdout("last"), "A", Stdout(" words")]


async def test_a_stream_that_is_closed_does_not_keep_the_supervisor_busy(guest):
    os.write(guest.output, b"x")
    for closed in (guest.output, guest.errors):
        os.close(closed)
    guest.channel.close()
    assert guest.heard() == [Stdout("x")]

    with anyio.move_on_after(0.05) as scope:
        await guest.connection.wait()

    assert scope.cancelled_caught


# -------------------------------------------------------------------------------------------------------- not believed


@pytest.mark.parametrize(
    "frame",
    [
        {"done": {"status": "completed"}, "cell": CELL + 1},
        {"done": {"status": "completed"}, "cell": CELL - 1},
        {"done": {"status": "completed"}, "cell": str(CELL)},
        {"done": {"status": "completed"}},
        {"done": "completed", "cell": CELL},
        {"done": None, "cell": CELL},
        {"ready": True},
        {},
        {"ended": 0, "guest": GUEST},
        {"interrupted": True},
        {"handles": ["process"]},
        {"display": None},
        {"display": []},
        {"display": {}},
        {"display": {"data": {}}},
        {"display": {"data": []}},
        {"display": {"data": {"text/plain": 1}}},
        {"display": {"data": {"image/png": "no base64"}}},
        {"display": {"data": {"image/png": base64.b64encode(b"<script>").decode()}}},
        {"clear": None},
        {"clear": {"wait": "x"}},
        {"code": "import os", "name": "x", "cell": CELL},
    ],
    ids=lambda frame: json.dumps(frame)[:60],
)
async def test_a_frame_that_makes_no_sense_is_passed_over(guest, frame):
    guest.send(frame)
    guest.show("after")

    assert guest.heard() == ["after"]
    assert guest.transcript.outcome is None
    assert not guest.connection.garbled
    assert not guest.connection.dead
    assert guest.connection.exit_code is None


async def test_of_two_accounts_of_the_end_the_first_counts(guest):
    guest.send(
        {"done": {"status": "error", "name": "A"}, "cell": CELL}, {"done": {"status": "completed"}, "cell": CELL}
    )
    guest.heard()

    assert guest.transcript.outcome == {"status": "error", "name": "A"}


def frames(payload: bytes, count: int) -> Iterable[bytes]:
    frame = len(payload).to_bytes(4, "big") + payload
    for _ in range(count):
        yield frame


@pytest.mark.parametrize(
    "chunks",
    [
        [b"\xff\xff\xff\xff"],
        [(wire.MAX_DISPLAY_BYTES + 1).to_bytes(4, "big")],
        [b"\0\0\0\0"],
        [b"\0\0\0\1x"],
        [b"\0\0\0\2[]"],
        [b"GET / HTTP/1.1\r\n\r\n"],
        frames(b"[" * 100_000, 1),
        frames(b'{"a":' * 100_000, 1),
        frames(b'{"clear": {}, "x": "' + b"x" * 1000 + b'"}', 10_000),
        frames(b"{}", 200_000),
    ],
    ids=[
        "length",
        "too long",
        "empty",
        "no json",
        "list",
        "http",
        "nested",
        "nested objects",
        "chatter",
        "flood",
    ],
)
async def test_what_is_no_frame_or_too_much_spoils_the_channel_and_nothing_more_is_read(guest, chunks):
    guest.channel.setblocking(False)
    for chunk in chunks:
        rest = memoryview(bytes(chunk))
        while rest and not guest.connection.garbled:
            try:
                rest = rest[guest.channel.send(rest) :]
            except BlockingIOError:
                guest.heard()
    guest.heard()

    assert guest.connection.garbled
    with suppress(BlockingIOError):
        guest.send({"done": {"status": "completed"}, "cell": CELL})
    assert guest.heard() == []
    assert guest.transcript.outcome is None


async def test_a_flood_of_displays_is_counted_and_not_kept(guest):
    guest.channel.setblocking(False)
    frame = memoryview(wire.encode_frame({"display": {"data": {"text/plain": "x" * 100_000}}}))
    for _ in range(1000):
        rest = frame
        while rest:
            try:
                rest = rest[guest.channel.send(rest) :]
            except BlockingIOError:
                guest.heard()
    guest.channel.setblocking(True)
    guest.send({"done": {"status": "completed"}, "cell": CELL})
    guest.heard()

    results = guest.transcript.results
    assert len(results.listed()) + results.omitted == 1000
    assert len(results.listed()) <= 200
    assert guest.transcript.outcome == {"status": "completed"}
    assert not guest.connection.garbled


async def test_a_display_of_too_many_elements_is_counted_and_not_decoded(guest):
    many = {"display": {"data": {"application/json": [[]] * 400_000}}}
    frame = wire.encode_frame(many)
    assert len(frame) < wire.MAX_DISPLAY_BYTES
    guest.channel.setblocking(False)
    rest = memoryview(frame)
    while rest:
        try:
            rest = rest[guest.channel.send(rest) :]
        except BlockingIOError:
            guest.heard()
    guest.heard()

    assert (guest.transcript.results.listed(), guest.transcript.results.omitted) == ((), 1)


async def test_displays_that_have_too_many_elements_together_are_counted_and_not_decoded(guest):
    frame = wire.encode_frame({"display": {"data": {"application/json": [[]] * 200_000}}})
    guest.channel.setblocking(False)
    for _ in range(10):
        rest = memoryview(frame)
        while rest:
            try:
                rest = rest[guest.channel.send(rest) :]
            except BlockingIOError:
                guest.heard()
    guest.heard()

    results = guest.transcript.results
    assert len(results.listed()) + results.omitted == 10
    assert sum(len(shown.result.data["application/json"]) for shown in results.listed()) <= 1_000_000


async def test_the_allowance_starts_again_with_each_execution(guest, tmp_path):
    for _ in range(3):
        guest.connection.begin()
        guest.transcript = Transcript(Limits(), CELL, tmp_path)
        for chunk in frames(b'{"clear": {"wait": true}, "x": "' + b"x" * 3000 + b'"}', 1000):
            guest.channel.sendall(chunk)
            list(guest.connection.advance(guest.transcript))

    assert not guest.connection.garbled


async def test_frames_come_whole_however_they_are_split(guest):
    stream = b"".join(wire.encode_frame({"display": {"data": {"text/plain": str(n)}}}) for n in range(5))
    heard: list[object] = []
    for at in range(len(stream)):
        guest.channel.send(stream[at : at + 1])
        heard += guest.heard()

    assert heard == ["0", "1", "2", "3", "4"]


# -------------------------------------------------------------------------------------------------- the kernel and init


async def test_the_end_of_the_tree_is_the_kernels_word(guest):
    guest.channel.close()
    guest.heard()
    assert not guest.connection.dead
    guest.process.communicate()

    with anyio.fail_after(5):
        await guest.connection.wait()
    guest.heard()

    assert guest.connection.dead


async def test_how_the_guest_ended_is_told_over_the_box_and_for_this_guest_alone(guest):
    wire.send_control(guest.init, {"ended": 1, "guest": GUEST + 1})
    wire.send_control(guest.init, {"ended": -9, "guest": GUEST})
    guest.heard()

    assert guest.connection.exit_code == -9


@pytest.mark.parametrize("message", [{"handles": ["guest"]}, {"failed": "fork", "errno": 11}], ids=str)
async def test_what_comes_from_the_next_guest_is_left_for_who_waits_for_it(guest, message):
    wire.send_control(guest.init, {"ended": -9, "guest": GUEST})
    wire.send_control(guest.init, message, [0])
    wire.send_control(guest.init, {"ended": 0, "guest": GUEST})
    guest.heard()
    guest.connection.look()

    received = wire.receive_control(guest.connection._box)

    assert guest.connection.exit_code == -9
    assert received is not None
    assert received[0] == message
    os.close(received[1][0])


async def test_an_interrupt_counts_as_delivered_when_init_says_so(guest):
    guest.connection.interrupt()
    guest.connection.interrupt()
    assert wire.receive_control(guest.init) == ({"interrupt": True}, [])
    assert wire.receive_control(guest.init) == ({"interrupt": True}, [])
    delivered = anyio.Event()

    async def wait() -> None:
        await guest.connection.interrupted()
        delivered.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        wire.send_control(guest.init, {"interrupted": True})
        await anyio.wait_all_tasks_blocked()
        assert not delivered.is_set()
        wire.send_control(guest.init, {"interrupted": True})
        with anyio.fail_after(3):
            await delivered.wait()


async def test_nobody_waits_for_an_interrupt_of_an_init_that_is_gone(guest):
    guest.connection.interrupt()
    guest.init.close()

    with anyio.fail_after(3):
        await guest.connection.interrupted()


# ------------------------------------------------------------------------------------------------------------- sending


async def test_a_message_longer_than_the_socket_holds_waits_for_a_guest_that_takes_it(guest):
    message = {"code": "x" * 8 * MIB}
    received: list[dict[str, Any]] = []
    guest.channel.setblocking(False)

    async def take() -> None:
        reader = wire.FrameReader()
        while not received:
            await anyio.wait_readable(guest.channel)
            received.extend(reader.feed(guest.channel.recv(256 * KIB)))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await guest.connection.send(message)

    assert received == [message]


async def test_a_message_to_a_guest_that_is_gone_says_so(guest):
    guest.channel.close()

    with pytest.raises(SandboxLostError):
        await guest.connection.send({"code": "x" * 8 * MIB})


# -------------------------------------------------------------------------------------------------------------- closing


async def test_closing_lets_everybody_go_who_waits(guest):
    outcomes: list[str] = []

    async def wait() -> None:
        await guest.connection.wait()
        outcomes.append("waited")

    async def send() -> None:
        try:
            await guest.connection.send({"code": "x" * 8 * MIB})
        except SandboxLostError:
            outcomes.append("lost")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            guest.connection.close()

    assert sorted(outcomes) == ["lost", "waited"]
    assert guest.connection.dead


async def test_after_closing_nothing_is_read_also_in_the_middle_of_a_round(guest):
    os.write(guest.output, b"x" * 100)
    guest.show("A", [50, 0])
    guest.show("B", [100, 0])
    round_under_way = guest.connection.advance(guest.transcript)
    assert next(round_under_way) == Stdout("x" * 50)

    guest.connection.close()
    # Whoever gets the numbers next must not be read, nor closed.
    reader, writer = os.pipe()
    try:
        os.write(writer, b"another's")
        assert [event for event in round_under_way if isinstance(event, Stdout)] == []
        guest.connection.close()
        assert guest.heard() == []
        assert guest.drained() == []
        with anyio.fail_after(3):
            await guest.connection.wait()
            await guest.connection.interrupted()
        assert os.read(reader, 100) == b"another's"
    finally:
        os.close(reader)
        os.close(writer)


async def test_opening_and_closing_keeps_no_descriptor(guest, tmp_path, open_descriptors):
    def one() -> None:
        ours, theirs = socket.socketpair()
        box, init = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, their_output = os.pipe()
        errors, their_errors = os.pipe()
        process = os.pidfd_open(os.getpid())
        connection = Connection(GuestEnds(channel=ours, output=output, errors=errors), box, process, GUEST)
        connection.close()
        for end in (theirs, box, init):
            end.close()
        for descriptor in (their_output, their_errors, process):
            os.close(descriptor)

    before = open_descriptors()
    for _ in range(10):
        one()

    assert open_descriptors() == before
