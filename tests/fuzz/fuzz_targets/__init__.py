"""What is fuzzed: everything that reads bytes from a guest, the name of a file, or what somebody types.

Each target takes any bytes and a folder, makes of the bytes what it needs, writes below the folder alone, and raises
AssertionError (or whatever the code under it raised) where a promise does not hold.  Three things drive the same
targets: `fuzz.py` with coverage to guide it, `test_fuzz.py` with hypothesis' bytes, and `test_fuzz.py` with the
corpora that the first has left in `corpus/`.  All of them stand behind `walls.py` meanwhile.

The standard library and bichat alone are imported: a coverage-guided fuzzer instruments what it sees being imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fuzz_targets.channel import connection, control, frames, payload
from fuzz_targets.executions import drawn, messages, transcript
from fuzz_targets.folders import captures, listings
from fuzz_targets.inputs import inputs
from fuzz_targets.names import names, saved
from fuzz_targets.processes import processes
from fuzz_targets.streams import output, streams
from fuzz_targets.typed import cells, paths, settings, sizes
from fuzz_targets.types import types

#: By name, which is that of its corpus.
TARGETS: Final[dict[str, Callable[[bytes, Path], None]]] = {
    target.__name__: target
    for target in (
        *(frames, payload, control, connection),
        *(messages, transcript, drawn, output, streams, processes),
        *(names, saved, inputs, types, captures, listings),
        *(sizes, settings, cells, paths),
    )
}
