"""The environment variables that packages are imported under, kept in one place.

The zygote sets them before it imports anything, and the build tries the preload candidates under the same ones:
a candidate that is harmless here is harmless there.  Standard library only, and nothing of that either.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PRELOAD_VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # A thread pool made before a fork is missing in the child, which then waits for it for ever.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
        # Both jemallocs start a thread at import otherwise: pyarrow's, and the one of polars.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "_RJEM_MALLOC_CONF": "background_thread:false",
        # glibc gives every thread an arena of its own, which adds up to address space that nobody uses.
        "MALLOC_ARENA_MAX": "2",
        # pyarrow's allocator takes 1 GiB in advance (this is in KiB), of which a sandbox with that much memory has
        # nothing left.
        "MIMALLOC_ARENA_RESERVE": "32768",
        "MPLBACKEND": "Agg",
    }
)

GUEST_VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # matplotlib wants a folder that it can write to; a home that is read-only makes it warn.
        "MPLCONFIGDIR": "/tmp/.matplotlib",  # noqa: S108 - the sandbox's own /tmp, an empty tmpfs
        # Folders of byte code beside the user's modules would be captured as artifacts.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
)
"""What the built-in environments add for the guest, grandchildren included."""
