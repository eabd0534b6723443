"""Randomness of a fork's own."""

from __future__ import annotations

import os
import random
import sys


def reseed() -> None:
    """Seed what its forks would otherwise share with the zygote.

    `random` reseeds itself after a fork, OpenSSL does once it sees another pid, and uuid4 asks the kernel; numpy's global
    generator does nothing of the kind, and a warm-up may have drawn from all.
    """
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(int.from_bytes(os.urandom(4), "little"))
