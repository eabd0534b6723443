"""What a file is, judged by its first bytes, and by its name only where the bytes leave it open.

The host's own tables (`/etc/mime.types`) are not consulted: the same file has the same type everywhere.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping

#: How much of a file `sniff` wants to see.
HEAD_BYTES = 16 * 1024

UNKNOWN = "application/octet-stream"
PLAIN = "text/plain"
_ZIP = "application/zip"
_OLE = "application/x-ole-storage"
_SVG = "image/svg+xml"

#: (offset, bytes, type): nothing that is text could start like these.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", _ZIP),
    (0, b"PK\x05\x06", _ZIP),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (0, b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (0, b"\x93NUMPY", "application/x-npy"),
    (0, b"ARROW1\x00\x00", "application/vnd.apache.arrow.file"),
    (8, b"DUCK\x40\x00\x00\x00", "application/x-duckdb"),
    (0, b"\x00asm\x01\x00\x00\x00", "application/wasm"),
    (0, b"\x7fELF", "application/x-elf"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"\x00\x00\x01\x00", "image/vnd.microsoft.icon"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"OggS\x00", "audio/ogg"),
    (257, b"ustar", "application/x-tar"),
    (0, b"wOFF\x00", "font/woff"),
    (0, b"wOF2\x00", "font/woff2"),
    (0, b"\x00\x01\x00\x00\x00", "font/ttf"),
    (0, b"OTTO\x00", "font/otf"),
)

#: The same for starts that a line of text may have too ("BMW,3"): they count once the file is known to be no text.
_LETTER_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
    (0, b"FEA1", "application/vnd.apache.arrow.file"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"BM", "image/bmp"),
)

_INSIDE_ZIP: Mapping[str, str] = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "epub": "application/epub+zip",
    "npz": "application/x-npz",
    "jar": "application/java-archive",
    "kmz": "application/vnd.google-earth.kmz",
}

_INSIDE_OLE: Mapping[str, str] = {
    "xls": "application/vnd.ms-excel",
    "doc": "application/msword",
    "ppt": "application/vnd.ms-powerpoint",
    "msg": "application/vnd.ms-outlook",
}

_CONTAINERS: Mapping[str, Mapping[str, str]] = {_ZIP: _INSIDE_ZIP, _OLE: _INSIDE_OLE}

_TEXTUAL: Mapping[str, str] = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
    "geojson": "application/geo+json",
    "ipynb": "application/x-ipynb+json",
    "jsonl": "application/x-ndjson",
    "ndjson": "application/x-ndjson",
    "html": "text/html",
    "htm": "text/html",
    "svg": _SVG,
    "xml": "application/xml",
    "kml": "application/vnd.google-earth.kml+xml",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "rst": "text/x-rst",
    "py": "text/x-python",
    "r": "text/x-r",
    "sql": "application/sql",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "css": "text/css",
    "sh": "text/x-shellscript",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "toml": "application/toml",
    "tex": "application/x-tex",
    "bib": "application/x-bibtex",
    "rtf": "application/rtf",
    "eps": "application/postscript",
    "ps": "application/postscript",
    "ics": "text/calendar",
    "vcf": "text/vcard",
    "eml": "message/rfc822",
}

#: Formats without a signature of their own.
_BINARY: Mapping[str, str] = {
    "pkl": "application/x-pickle",
    "pickle": "application/x-pickle",
    "joblib": "application/x-pickle",
    "mp3": "audio/mpeg",
    "dta": "application/x-stata",
    "sav": "application/x-spss-sav",
    "xpt": "application/x-sas-xport",
    "sas7bdat": "application/x-sas",
    "avro": "application/avro",
    "orc": "application/x-orc",
    "arrows": "application/vnd.apache.arrow.stream",
    "mat": "application/x-matlab-data",
}

#: Control bytes that plain text of any 8-bit encoding may hold: bell to carriage return, and escape.
_TEXT_CONTROLS = frozenset(b"\a\b\t\n\v\f\r\x1b")
_CONTROLS = bytes(byte for byte in range(32) if byte not in _TEXT_CONTROLS)


def sniff(name: str, head: bytes, *, is_complete: bool) -> str:
    """The MIME type of a file called `name` that starts with `head` (its first `HEAD_BYTES`).

    `is_complete` says that there is nothing behind `head`: else its last character may be cut.  A name never makes
    content pass for a type whose signature it lacks: `x.png` holding HTML is `text/plain`, `x.html` holding a
    PNG is `image/png`.  A zip or OLE container is told by its name alone (`.xlsx`, `.docx`, `.xls`), never opened.
    """
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    found = _match(_SIGNATURES, head)
    if found:
        return _CONTAINERS.get(found, {}).get(extension, found)
    if _is_utf8_text(head, is_complete=is_complete):
        return _text_type(extension, head)
    found = _match(_LETTER_SIGNATURES, head)
    if found:
        return found
    if extension in _TEXTUAL and _is_other_text(head):
        return _text_type(extension, head)
    return _BINARY.get(extension, UNKNOWN)


def _match(signatures: tuple[tuple[int, bytes, str], ...], head: bytes) -> str:
    return next((mime for offset, magic, mime in signatures if head.startswith(magic, offset)), "")


def _text_type(extension: str, head: bytes) -> str:
    mime = _TEXTUAL.get(extension, PLAIN)
    if mime == _SVG and head and b"<svg" not in head:
        return PLAIN
    return mime


def _is_utf8_text(head: bytes, *, is_complete: bool) -> bool:
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_complete)
    except UnicodeDecodeError:
        return False
    return True


def _is_other_text(head: bytes) -> bool:
    """Whether this may be text of an older encoding: Latin-1 and its kin, or UTF-16 with its mark."""
    return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or len(head.translate(None, _CONTROLS)) == len(
        head
    )
