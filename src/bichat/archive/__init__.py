"""What came out of executions is kept: bytes in a storage, rows in a repository, and neither without the other."""

from __future__ import annotations

from bichat.archive.archive import Archive, output_of
from bichat.archive.ledger import Ledger

__all__ = ["Archive", "Ledger", "output_of"]
