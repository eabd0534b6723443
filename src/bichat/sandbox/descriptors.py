"""A server that may not open more files: whatever it was about, nobody else is to blame, and this is what is said."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from bichat.errors import SandboxUnavailableError
from bichat.sandbox.isolation.explain import explain

#: Of this process, or of the whole host.
OUT_OF_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


@contextmanager
def no_descriptor_in_words(stage: str) -> Generator[None]:
    """Within it such an OSError becomes an error for people, of `stage`; others are left as they are.

    Raises:
        SandboxUnavailableError: there is no descriptor to be had.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in OUT_OF_DESCRIPTORS:
            raise
        explanation = explain(stage, error.errno, str(error))
        raise SandboxUnavailableError(explanation.reason, stage=stage, remedy=explanation.remedy) from error
