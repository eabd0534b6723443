"""Frames from a guest that may send anything, and control messages with descriptors beside them."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.sandbox import wire
from bichat.sandbox.wire import MAX_DISPLAY_BYTES, MAX_FRAME_BYTES, FrameError, FrameReader, encode_frame
from bichat.sizes import MIB

messages = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=20), max_size=3)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        yield left, right


@given(st.lists(messages, max_size=4), st.integers(min_value=1, max_value=64))
def test_frames_arrive_whole_however_they_are_split(sent, size):
    stream = b"".join(map(encode_frame, sent))
    reader = FrameReader()

    received = [
        message for start in range(0, len(stream), size) for message in reader.feed(stream[start : start + size])
    ]

    assert received == sent


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_garbage_is_an_error_of_one_kind_or_waits_for_more(chunks):
    reader = FrameReader(max_bytes=1024)

    try:
        received = [message for chunk in chunks for message in reader.feed(chunk)]
    except FrameError:
        return

    assert all(isinstance(message, dict) for message in received)


@given(st.text(alphabet=st.characters(categories=["Cs", "Ll", "Cc"])))
def test_any_text_of_a_guest_survives(text):
    (received,) = FrameReader().feed(encode_frame({"text": text}))

    # A pair of surrogates is one character written in two: JSON gives it back as the one.
    assert received["text"].encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"[1]", b"1", b"null", b'"text"', b"{", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000],
)
def test_a_payload_that_is_no_object_is_an_error(payload):
    frame = len(payload).to_bytes(4, "big") + payload

    with pytest.raises(FrameError):
        list(FrameReader().feed(frame))


def test_a_length_above_the_limit_is_an_error_before_its_payload_is_held():
    with pytest.raises(FrameError):
        list(FrameReader(max_bytes=1000).feed((1001).to_bytes(4, "big")))


def test_a_frame_of_exactly_the_limit_is_taken():
    payload = json.dumps({"x": "y" * 100}).encode()

    assert list(FrameReader(max_bytes=len(payload)).feed(encode_frame({"x": "y" * 100}))) == [{"x": "y" * 100}]


def test_payloads_are_given_as_they_came_and_not_looked_into():
    payloads = [b"no json", b"", b"{}", b"\xff" * 10]
    stream = b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)

    assert list(FrameReader().payloads(stream)) == payloads


def test_the_longest_code_fits_into_a_frame_to_the_guest_and_a_displayed_value_has_its_own_bound():
    longest = encode_frame({"code": "\x01" * (4 * MIB), "name": "x" * 1000, "cell": 1, "final": True})

    assert len(longest) < MAX_FRAME_BYTES
    with pytest.raises(FrameError):
        list(FrameReader(MAX_DISPLAY_BYTES).feed(longest))


def test_descriptors_travel_beside_a_control_message_and_are_closed_on_exec(pair):
    left, right = pair
    reader, writer = os.pipe()
    try:
        wire.send_control(left, {"hello": 1}, [reader])
        received = wire.receive_control(right)
    finally:
        os.close(reader)
        os.close(writer)

    assert received is not None
    message, (descriptor,) = received
    assert message == {"hello": 1}
    assert os.get_inheritable(descriptor) is False
    os.close(descriptor)


def test_the_end_of_the_peer_is_none(pair):
    left, right = pair
    left.close()

    assert wire.receive_control(right) is None


@pytest.mark.parametrize(
    "payload", [b"x", b"[]", b"1", b"{", b"\xff", b"[" * 10_000, b" " * wire.MAX_CONTROL_BYTES + b"{}"]
)
def test_what_is_no_control_message_is_an_error_of_the_system_and_leaves_no_descriptor_open(
    pair, payload, open_descriptors
):
    left, right = pair
    socket.send_fds(left, [payload], [left.fileno()] * 3)
    before = open_descriptors()

    with pytest.raises(OSError) as caught:
        wire.receive_control(right)

    assert caught.value.errno == errno.EBADMSG
    assert open_descriptors() == before


def test_descriptors_that_come_with_no_message_are_closed(pair, open_descriptors):
    left, right = pair
    socket.send_fds(left, [b""], [left.fileno()] * 3)
    before = open_descriptors()

    assert wire.receive_control(right) is None
    assert open_descriptors() == before


def test_a_control_message_above_its_limit_is_not_sent(pair):
    with pytest.raises(OSError, match="above"):
        wire.send_control(pair[0], {"x": "y" * wire.MAX_CONTROL_BYTES})


def test_descriptors_that_found_no_room_are_an_error_and_none_is_leaked(pair, open_descriptors):
    left, right = pair
    wire.send_control(left, {"hello": 1}, [0, 1, 2])
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    free = set(range(highest + 1)) - set(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2 - len(free) if not free else min(free) + 1, hard))
    try:
        with pytest.raises(OSError, match="lost"):
            wire.receive_control(right)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert open_descriptors() == before


def test_a_whole_number_that_would_take_long_to_read_comes_as_text():
    short, long = "9" * wire.MAX_DIGITS, "-" + "9" * (wire.MAX_DIGITS + 1)

    assert wire.decode_payload(f'{{"short": {short}, "long": {long}}}'.encode()) == {"short": int(short), "long": long}
