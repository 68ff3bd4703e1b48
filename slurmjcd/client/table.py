# SPDX-License-Identifier: MIT
"""Rows as sacct prints them: aligned columns, or fields with a delimiter. Control characters come out escaped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from slurmjcd.client.columns import Column, Job


def plain(value: Any) -> str:
    """A value as text that can do nothing to a terminal."""
    if value is None:
        return ""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(_visible(c) for c in text)


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    if "\udc80" <= char <= "\udcff":  # a byte that was no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def aligned(columns: list[Column], jobs: Iterable[Job], *, header: bool) -> Iterator[str]:
    """Lines of fixed width; a value that doesn't fit ends with +."""
    if header:
        yield " ".join(_fit(column.title, column.width, cut="") for column in columns)
        yield " ".join("-" * abs(column.width) for column in columns)
    for job in jobs:
        yield " ".join(_fit(plain(column.value(job)), column.width, cut="+") for column in columns)


def _fit(text: str, width: int, *, cut: str) -> str:
    room = abs(width)
    if len(text) > room:
        text = text[: room - len(cut)] + cut
    return text.ljust(room) if width < 0 else text.rjust(room)


def delimited(
    columns: list[Column], jobs: Iterable[Job], *, header: bool, delimiter: str, trailing: bool
) -> Iterator[str]:
    """Lines of fields with a delimiter in between (and at the end: sacct -p). One in a value is escaped."""
    end = delimiter if trailing else ""
    if header:
        yield delimiter.join(column.title for column in columns) + end
    escape = f"\\x{ord(delimiter):02x}" if len(delimiter) == 1 else ""
    for job in jobs:
        values = [plain(column.value(job)) for column in columns]
        if escape:
            values = [value.replace(delimiter, escape) for value in values]
        yield delimiter.join(values) + end


def write(lines: Iterable[str], out: TextIO | None = None) -> None:
    """Lines to stdout, many at a time."""
    target = out or sys.stdout
    chunk: list[str] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) >= 1000:
            target.write("\n".join(chunk) + "\n")
            chunk.clear()
    if chunk:
        target.write("\n".join(chunk) + "\n")
    target.flush()
