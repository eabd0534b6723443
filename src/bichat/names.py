"""Names of files are data: how one is shown, and how one becomes a file name that is safe to write anywhere.

A guest chooses the names of its files freely: newlines, `..`, terminal escapes, bytes that are no text.
Nothing here touches a disk.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath

#: The longest file name that Linux, macOS and Windows all take; counted in UTF-8 bytes.
MAX_NAME_BYTES = 255
#: Room left in a component for a suffix such as ` (12)` where two names collide.
_SUFFIX_ROOM = 10
#: Relative paths above this are flattened, so that the result can be opened below any ordinary folder.
_MAX_PATH_BYTES = 1024

#: Zero-width joiners belong to the spelling of Persian, Hindi and many emoji.
_JOINERS = "\u200c\u200d"
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_NOT_IN_FILE_NAMES = frozenset('\\/:*?"<>|')
_WINDOWS_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL
)


def display_name(path: bytes) -> str:
    r"""The name of a file as valid Unicode, fit for JSON: bytes that are not UTF-8 stand as `\xNN`.

    Control characters stay: the name is data.  Use `printable` before it goes to a terminal.
    """
    return path.decode("utf-8", "backslashreplace")


def printable(text: str, *, keep: str = "") -> str:
    r"""`text` with everything that could steer a terminal or reorder a line shown as an escape (`\x1b`, `\u202e`).

    Control and format characters, line separators and lone surrogates are escaped, but those in `keep`
    (`"\n\t"` for output of several lines) and the joiners that some scripts are spelled with.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if _is_unseen(char) and char not in keep else char for char in text)


def safe_file_name(name: str) -> PurePosixPath:
    """A relative path for `name` that is harmless on Linux, macOS and Windows, with its folders and extension kept.

    Each part loses control characters and what Windows forbids (each becomes `_`), leading dots (no hidden
    files, no `..`), spaces at its ends and dots at its end; device names (`CON`, `NUL.txt`) get a `_` in front.
    A part above 255 bytes, or a path above 1,024, is cut and gets a hash of the whole.  Never empty, never
    absolute.  Different names may give the same path where characters were replaced: `save_files` tells them apart.
    """
    parts = [_safe_part(part) for part in name.split("/") if part not in ("", ".")] or ["_"]
    if len("/".join(parts).encode()) > _MAX_PATH_BYTES:
        parts = [f"deep-{_short_hash(name)}", parts[-1]]
    return PurePosixPath(*parts)


def with_suffix(part: str, suffix: str) -> str:
    """`part` with `suffix` before its extension: `chart (2).png`."""
    stem, extension = _split_extension(part)
    return f"{stem}{suffix}{extension}"


def _is_unseen(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in _UNSEEN


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _safe_part(part: str) -> str:
    clean = "".join("_" if char in _NOT_IN_FILE_NAMES or _is_unseen(char) else char for char in part)
    clean = clean.strip(" ").rstrip(". ")
    visible = clean.lstrip(".")
    clean = "_" * (len(clean) - len(visible)) + visible or "_"
    if _WINDOWS_DEVICES.fullmatch(clean):
        clean = f"_{clean}"
    if len(clean.encode()) > MAX_NAME_BYTES - _SUFFIX_ROOM:
        clean = _shortened(clean, part)
    return clean


def _shortened(part: str, original: str) -> str:
    stem, extension = _split_extension(part)
    suffix = f"~{_short_hash(original)}{extension}"
    room = MAX_NAME_BYTES - _SUFFIX_ROOM - len(suffix.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip(". ") + suffix


def _split_extension(part: str) -> tuple[str, str]:
    stem, dot, extension = part.rpartition(".")
    if not stem or len(extension.encode()) > 20:
        return part, ""
    return stem, dot + extension


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
