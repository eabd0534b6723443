"""Starting a launcher process, in as little time as that takes: `bichat run` does it before it reads its arguments."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bichat.sandbox import wire
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.environments.variables import PRELOAD_VARIABLES
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sandbox.plan import LaunchPlan

_BOOT: Final = Path(__file__).with_name("boot.py")
_TMP: Final = "/tmp"  # noqa: S108  # the guest's own
#: Longest wait for the kernel to end a zygote with all its sandboxes.
_END_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Launched:
    """A launcher that has been told its plan; its zygote answers on `control` when it is ready, or says why not."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    life: int
    """A descriptor that tells the launcher, when it is closed, that nobody is there any more who could end it."""
    environment: Environment
    layers: frozenset[Layer]

    def let_go(self) -> None:
        """Close what leads to it; may be called again."""
        if self.control.fileno() >= 0:
            self.control.close()
            os.close(self.life)

    def end(self) -> None:
        """Have the zygote and every sandbox of it killed, and wait until they are gone.  May be called again."""
        self.let_go()
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)  # one that somebody has stopped would not hear of the other
        try:
            self.process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def launch(
    environment: Environment, *, preload: tuple[str, ...], layers: frozenset[Layer] = ALL_LAYERS, scratch: str = ""
) -> Launched:
    """Start a launcher for `environment` whose zygote imports `preload`.

    `scratch` is the zygote's own folder on the host, where `layers` give it no file system of its own.

    Raises:
        OSError: the process could not be started.
    """
    own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    closed = Layer.CLOSED_DESCRIPTORS in layers
    with theirs:
        try:
            their_life, life = os.pipe()
        except BaseException:
            own.close()
            raise
        for descriptor in (theirs.fileno(), their_life):
            os.set_inheritable(descriptor, not closed)  # positional in the standard library
        try:
            process = subprocess.Popen(  # our own file, under the environment's own Python
                [str(environment.python), "-I", "-B", str(_BOOT), str(theirs.fileno()), str(their_life)],
                env=guest_environment(environment, temporary=scratch, inherit=Layer.EMPTY_ENVIRONMENT not in layers),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=closed,
                pass_fds=[theirs.fileno(), their_life] if closed else [],
                start_new_session=True,
            )
        except BaseException:
            own.close()
            os.close(life)
            raise
        finally:
            os.close(their_life)
    plan = LaunchPlan(
        prefixes=tuple(dict.fromkeys((str(environment.path), str(environment.base_prefix)))),
        preload=preload,
        layers=tuple(sorted(layers)),
        scratch=scratch,
    )
    wire.send_control(own, plan.to_message())
    return Launched(process, own, life, environment, layers)


def guest_environment(environment: Environment, *, temporary: str = "", inherit: bool = False) -> dict[str, str]:
    """The environment variables of zygote and guests: constants, and what the package set needs; none of the server's.

    `temporary` is the folder for temporary files that stands for `/tmp` in all of them, where that is not their own.
    `inherit` adds the server's own; only tests ask for that, to see that it would leak.
    """
    variables = {
        "PATH": f"{environment.path}/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": _TMP,
        "TMPDIR": _TMP,
        "USER": "user",
        "PYTHONDONTWRITEBYTECODE": "1",
        **PRELOAD_VARIABLES,
        **environment.variables,
    }
    if temporary:
        own = variables.keys() - {"PATH"}
        variables = {name: _moved(value, temporary) if name in own else value for name, value in variables.items()}
    return {**os.environ, **variables} if inherit else variables


def _moved(value: str, temporary: str) -> str:
    return temporary + value.removeprefix(_TMP) if value == _TMP or value.startswith(f"{_TMP}/") else value
