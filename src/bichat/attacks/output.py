"""Attacks by what comes out: floods, forged and broken frames, closed channels.  The server must go on as it was."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from bichat.attacks.attack import SMALL, Attack, Family, Statement, expect, through
from bichat.attacks.ground import Ground
from bichat.domain import Status
from bichat.sandbox.sandbox import Ended
from bichat.sizes import KIB, MIB

#: What the server may have grown by after one attack: it keeps at most `output_bytes` and what it decodes at once.
_GROWTH_BYTES: Final = 96 * MIB


async def _server_goes_on(ground: Ground, attack: Attack) -> list[Statement]:
    """Run it; then the server is no larger than it should be, has kept no more than it should, and serves the next."""
    before = _resident_bytes()
    ran = await ground.run(attack.code, limits=attack.limits)
    grown = _resident_bytes() - before
    kept = len(ran.text) + len(ran.ended.stderr.text)
    said = ran.judged(attack)
    if grown > _GROWTH_BYTES:
        said.append(through(f"the server grew by {grown // MIB} MiB"))
    if kept > 2 * attack.limits.output_bytes + 4 * KIB:
        said.append(through(f"the server kept {kept} characters"))
    if not await ground.is_well():
        said.append(through("no sandbox runs code any more"))
    return said


def _resident_bytes() -> int:
    """Memory of this process now (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


_output = partial(
    Attack,
    family=Family.OUTPUT,
    driver=_server_goes_on,
    signs=dict.fromkeys(("completed", "error", "killed", "ProcessExited"), ("supervisor",)),
    expected="the own execution ends, and the server goes on, no larger than before",
)
_garbage = partial(_output, ends=frozenset({"ProtocolError"}))
_FOR_EVER: Final = "\nimport time\ntime.sleep(3)\nthrough('it ran on for three seconds')\n"


async def _forged_end(ground: Ground, attack: Attack) -> list[Statement]:
    """What it claims must not hide what the kernel knows: the process that has ended so is dead or is killed."""
    ran = await ground.run(attack.code, limits=attack.limits)
    well = await ground.is_well()
    return [
        expect(ran.ended.status is Status.ERROR, "supervisor", f"it claims an error, and has {ran.ended.status.value}"),
        expect(well, "supervisor", "the next one runs"),
    ]


async def _claimed_success(ground: Ground, attack: Attack) -> list[Statement]:
    """A crash is a crash, whatever was printed before it."""
    ran = await ground.run(attack.code, limits=attack.limits)
    return [expect(ran.ended.status is Status.KILLED, "supervisor", f"reported as {ran.ended.status.value}")]


async def _spoilt_second_cell(ground: Ground, attack: Attack) -> list[Statement]:
    """A guest that ends its cell and stops listening is found out at the next one."""
    async with ground.sandbox(attack.limits) as sandbox:
        first = await ground.execute(sandbox, attack.code, limits=attack.limits)
        events = sandbox.execute("# " + "x" * (1 << 20), name="next.py", timeout_s=1.0)
        endings = [event async for event in events if isinstance(event, Ended)]
    second = endings[0].status
    what = f"first {first.status.value}, second {second.value}"
    return [expect(second in {Status.TIMEOUT, Status.KILLED, Status.SESSION_LOST}, second.value, what)]


ATTACKS: Final = (
    _output(
        name="flood-of-output",
        tries="to print without end",
        limits=replace(SMALL, output_bytes=MIB, output_kill_bytes=4 * MIB),
        ends=frozenset({"output_limit"}),
        code="""
        for _ in range(8_000):
            os.write(1, b"y" * 65536)
        through("500 MiB were printed")
        """,
    ),
    _output(
        name="flood-by-many-on-both-streams",
        tries="to print on both streams from many processes",
        limits=replace(SMALL, output_bytes=MIB, output_kill_bytes=4 * MIB),
        ends=frozenset({"output_limit"}),
        code="""
        os.fork(), os.fork()
        for _ in range(30_000):
            os.write(1, b"a" * 4096)
            os.write(2, b"b" * 4096)
        through("all was printed")
        """,
    ),
    _output(
        name="flood-after-the-end",
        tries="to have a child print on after the code's end, into somebody else's result",
        limits=replace(SMALL, output_bytes=MIB, output_kill_bytes=4 * MIB),
        ends=frozenset({"output_limit", "completed"}),
        code="""
        if os.fork() == 0:
            for _ in range(8_000):
                os.write(1, b"y" * 65536)
            os._exit(0)
        """,
    ),
    _output(
        name="one-line-without-end",
        tries="to print one line of hundreds of megabytes by one call",
        limits=replace(SMALL, output_bytes=MIB, output_kill_bytes=4 * MIB),
        ends=frozenset({"output_limit", "out_of_memory", "MemoryError"}),
        code="""
        sys.stdout.write("x" * (100 << 20))
        sys.stdout.flush()
        through("100 MiB in one line")
        """,
    ),
    _output(
        name="bytes-that-are-no-text",
        tries="to break the reader with bytes that are no text, lone surrogates, and steering characters",
        ends=frozenset({"completed"}),
        code=r"""
        os.write(1, b"\xff\xfe\x00\x1b[2J\x1b]0;x\x07\xc0\x80" * 1000)
        print("\ud800\u202e" * 1000)
        """,
    ),
    _garbage(
        name="frame-that-is-no-json",
        tries="to break the server with a frame that is no JSON",
        code="os.write(channel(), frame(b'garbage'))" + _FOR_EVER,
    ),
    _garbage(
        name="frame-that-is-no-object",
        tries="to break it with JSON of another shape",
        code="os.write(channel(), frame(b'[1]'))" + _FOR_EVER,
    ),
    _garbage(
        name="frame-of-four-gigabytes",
        tries="to have it set four gigabytes aside",
        code=r"os.write(channel(), b'\xff\xff\xff\xff')" + _FOR_EVER,
    ),
    _garbage(
        name="frame-nested-without-end",
        tries="to exhaust its stack with nested brackets",
        code="os.write(channel(), frame(b'[' * 100_000))" + _FOR_EVER,
    ),
    _garbage(
        name="frame-of-one-number",
        tries="to keep it busy with a number of a hundred thousand digits",
        code="os.write(channel(), frame(b'1' * 100_000))" + _FOR_EVER,
    ),
    _garbage(
        name="flood-of-frames",
        tries="to keep it busy with empty frames",
        code="for _ in range(10_000): os.write(channel(), frame(b'{}') * 1000)" + _FOR_EVER,
    ),
    _garbage(
        name="flood-of-large-frames",
        tries="to fill its memory with frames that it decodes",
        limits=replace(SMALL, timeout_s=15.0),  # of a busy processor
        code="""for _ in range(300): os.write(channel(), frame(b'{"x":[' + b'[],' * 300_000 + b'[]]}'))""" + _FOR_EVER,
    ),
    _output(
        name="half-a-frame",
        tries="to have it wait for the rest of a frame for ever",
        limits=replace(SMALL, timeout_s=0.5),
        ends=frozenset({"timeout"}),
        code="os.write(channel(), (1000).to_bytes(4, 'big') + b'{')" + _FOR_EVER,
    ),
    _output(
        name="values-without-end",
        tries="to display so many large values that the server drowns in them",
        ends=frozenset({"completed", "ProtocolError", "timeout", "output_limit"}),
        code="""
        body = b'"' + b"x" * (4 << 20) + b'"'
        for number in range(40):
            message = b'{"display": {"cell": 1, "printed": [0, 0], "data": {"text/plain": ' + body + b"}}}"
            sent = 0
            whole = frame(message)
            while sent < len(whole):
                sent += os.write(channel(), whole[sent:])
        """,
    ),
    _output(
        name="forged-end",
        tries="to send the frame that says that the code has ended, with fields of the wrong kinds, and to run on",
        driver=_forged_end,
        limits=replace(SMALL, timeout_s=1.0),
        expected="its own result is spoilt, nobody else's",
        code="""
        done = {"cell": 1, "done": {"status": "error", "name": ["x"], "message": {}, "errno": []}}
        os.write(channel(), frame(done))
        import time
        time.sleep(3)
        """,
    ),
    _output(
        name="claimed-success",
        tries="to say that all went well, and to crash",
        driver=_claimed_success,
        expected="the crash is reported",
        code="""
        print('{"done": {"status": "completed"}}', flush=True)
        ctypes.string_at(0)
        """,
    ),
    _output(
        name="frames-without-meaning",
        tries="to steer the server with messages that only its own processes send",
        ends=frozenset({"completed"}),
        code="""
        for message in ({}, {"ready": True}, {"done": 1}, {"ended": 0, "guest": 1}, {"failed": "x"}, {"handles": []},
                        {"restart": True}, {"interrupted": 1}):
            os.write(channel(), frame(message))
        """,
    ),
    _output(
        name="closed-descriptors",
        tries="to close all descriptors, so that the server waits for a word that never comes",
        ends=frozenset({"error", "killed", "ProcessExited", "completed"}),
        code="os.closerange(0, 1024)",
    ),
    _output(
        name="deaf-guest",
        tries="to end its cell and take no more code, so that the server hangs when it sends the next",
        driver=_spoilt_second_cell,
        limits=replace(SMALL, timeout_s=1.0),
        expected="the next cell is ended",
        code="""
        import signal
        os.write(channel(), frame({"cell": 1, "done": {"status": "completed"}}))
        os.kill(os.getpid(), signal.SIGSTOP)
        """,
        signs={"timeout": ("wall clock",), "killed": ("supervisor",)},
    ),
    _output(
        name="read-what-is-meant-for-others",
        tries="to read from the channel what the server sends to others or sends next",
        expected="there is nothing to read",
        signs={"EAGAIN": ("supervisor",)},
        code="""
        import socket
        taken = socket.socket(fileno=os.dup(channel()))
        taken.setblocking(False)
        attempt("reading the channel", taken.recv, 1)
        """,
    ),
    _output(
        name="exception-that-fights-back",
        tries="to break the report of an error: by its name, its text, its traceback",
        ends=frozenset({"error", "completed", "killed", "Hostile", "MemoryError", "out_of_memory"}),
        code="""
        class Hostile(Exception):
            def __str__(self):
                raise SystemExit(0)
            __repr__ = __str__
        Hostile.__name__ = "A" * (1 << 20)
        raise Hostile
        """,
    ),
)
