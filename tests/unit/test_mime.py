"""MIME types: judged by content first, by name only where the content leaves it open."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import wave
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.sandbox.mime import HEAD_BYTES, sniff

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


def _wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\x00\x80" * 10)
    return file.getvalue()


@pytest.mark.parametrize(
    "name,content,expected",
    [
        ("chart.png", PNG, "image/png"),
        ("photo", b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        ("anim.gif", b"GIF89a\x01\x00\x01\x00\x80", "image/gif"),
        ("a.webp", b"RIFF\x24\x00\x00\x00WEBPVP8 \x80\x81", "image/webp"),
        ("a.bmp", b"BM\x36\x00\x0c\x00\x00\x00\x00\x00", "image/bmp"),
        ("a.tif", b"II*\x00\x08\x00\x00\x00", "image/tiff"),
        ("report.pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
        ("book.xlsx", _zip(), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("book.XLSX", _zip(), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("letter.docx", _zip(), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("all.zip", _zip(), "application/zip"),
        ("book.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "application/vnd.ms-excel"),
        ("a.csv.gz", gzip.compress(b"a"), "application/gzip"),
        ("a.xz", lzma.compress(b"a"), "application/x-xz"),
        ("a.bz2", bz2.compress(b"a"), "application/x-bzip2"),
        ("a.tar", _tar(), "application/x-tar"),
        ("a.wav", _wav(), "audio/wav"),
        ("a.mp4", b"\x00\x00\x00\x18ftypisom\x00", "video/mp4"),
        ("sales.parquet", b"PAR1\x15\x04\x15\x90\x80", "application/vnd.apache.parquet"),
        ("sales.feather", b"ARROW1\x00\x00\xff\xff", "application/vnd.apache.arrow.file"),
        ("store.h5", b"\x89HDF\r\n\x1a\n\x00", "application/x-hdf5"),
        ("x.npy", b"\x93NUMPY\x01\x00v\x00", "application/x-npy"),
        ("x.wasm", b"\x00asm\x01\x00\x00\x00", "application/wasm"),
        ("model.pkl", pickle.dumps({"a": 1.5}), "application/x-pickle"),
        ("sales.csv", b"region,amount\nNord,1\n", "text/csv"),
        ("sales.csv", "größe;käufer\n".encode("latin-1"), "text/csv"),
        ("sales.csv", "größe;käufer\n".encode("utf-16"), "text/csv"),
        ("BMW.csv", b"BMW,3\n", "text/csv"),
        ("chart.json", b'{"$schema": "https://vega.github.io/schema/vega-lite/v5.json"}', "application/json"),
        ("rows.jsonl", b"{}\n{}\n", "application/x-ndjson"),
        ("page.html", b"<!DOCTYPE html>", "text/html"),
        ("plot.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
        ("notes.md", "# Größe\n".encode(), "text/markdown"),
        ("README", b"hello\n", "text/plain"),
        ("empty.csv", b"", "text/csv"),
        ("empty.png", b"", "text/plain"),
        ("noise.bin", b"\x01\x02\xfe\x00", "application/octet-stream"),
    ],
)
def test_a_file_is_known_by_its_content_and_its_name(name: str, content: bytes, expected: str):
    assert sniff(name, content[:HEAD_BYTES], is_complete=True) == expected


@pytest.mark.parametrize(
    "name,content,expected",
    [
        ("x.png", b"<script>alert(1)</script>", "text/plain"),
        ("x.html", PNG, "image/png"),
        ("x.svg", PNG, "image/png"),
        ("x.svg", b"<script>alert(1)</script>", "text/plain"),
        ("x.pdf", b"MZ\x90\x00\x03\x00\x00\xff", "application/octet-stream"),
        ("x.xlsx", b"a,b\n", "text/plain"),
        ("x.csv", b"MZ\x90\x00\x03\x00\x00\xff", "application/octet-stream"),
        ("x.jpg", _zip(), "application/zip"),
    ],
)
def test_a_name_never_makes_content_pass_for_what_it_is_not(name: str, content: bytes, expected: str):
    assert sniff(name, content, is_complete=True) == expected


def test_a_real_sqlite_file_is_known(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE t (x)")
    connection.close()

    assert sniff("a.db", (tmp_path / "a.db").read_bytes()[:HEAD_BYTES], is_complete=False) == "application/vnd.sqlite3"


def test_a_head_that_ends_inside_a_character_is_still_text():
    head = ("x" + "é" * HEAD_BYTES).encode()[:HEAD_BYTES]

    assert sniff("a.txt", head, is_complete=False) == "text/plain"
    assert sniff("a.bin", head, is_complete=True) == "application/octet-stream"


@given(name=st.text(max_size=20), head=st.binary(max_size=300), is_complete=st.booleans())
def test_every_file_has_a_type(name: str, head: bytes, *, is_complete: bool):
    kind, _, rest = sniff(name, head, is_complete=is_complete).partition("/")

    assert kind in {"application", "audio", "font", "image", "message", "text", "video"}
    assert rest


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_text_under_an_unknown_name_is_never_something_active(text: str):
    assert sniff("x.unknown", text.encode(), is_complete=True) in {"text/plain", "application/pdf", "application/x-tar"}
