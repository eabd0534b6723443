"""Files that outlive their sandboxes: a port of five methods, and what stands behind it."""

from __future__ import annotations

from bichat.storage.keys import new_key
from bichat.storage.links import DownloadLinks
from bichat.storage.locations import open_storage
from bichat.storage.storage import FileStorage

__all__ = ["DownloadLinks", "FileStorage", "new_key", "open_storage"]
