"""A process's memory in huge pages, for one that is forked again and again.

A fork copies the page tables of all anonymous memory, and its end takes them down again: for 170 MB in small pages that
is some ten milliseconds each way.  One entry stands for 512 of them once they are one huge page; where a child writes,
the kernel splits it and copies the small page alone (Documentation/admin-guide/mm/transhuge.rst).
"""

from __future__ import annotations

from typing import Final

from bichat.sandbox.isolation import kernel

_HUGE_BYTES: Final = 2 * 1024 * 1024


def collapse() -> None:
    """Make huge pages of what this process has written.  Where the kernel cannot (before 6.1), nothing changes."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        regions = [line.split(maxsplit=5) for line in maps]
    for addresses, permissions, _, _, _, *name in regions:
        if permissions != "rw-p" or (name and name[0].strip() != "[heap]"):
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        for address in range(-(-start // _HUGE_BYTES) * _HUGE_BYTES, end - _HUGE_BYTES + 1, _HUGE_BYTES):
            kernel.collapse_into_huge_page(address, _HUGE_BYTES)
