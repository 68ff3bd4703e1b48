# SPDX-License-Identifier: MIT
"""Bytes and times for people. No imports: commands that start quickly use it."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes for people: 4.0 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def span(seconds: float) -> str:
    """A time for people: 0.4 s, 75 s, 12 min, 3.5 h, 2.1 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
