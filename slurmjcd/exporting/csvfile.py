# SPDX-License-Identifier: MIT
"""CSV as RFC 4180 has it, in UTF-8: a header, times with their offset, empty for what is unset.

Control characters are escaped, so that every job is one line and no value reaches a terminal as a command.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

from slurmjcd.client.table import plain
from slurmjcd.client.times import rfc3339
from slurmjcd.exporting import write_lines
from slurmjcd.exporting.flat import COLUMNS, rows

_TIMES: Final = [at for at, column in enumerate(COLUMNS) if column.kind == "time"]
_TEXTS: Final = [at for at, column in enumerate(COLUMNS) if column.kind == "text"]

_time = functools.lru_cache(4096)(rfc3339)


def write(records: Iterable[bytes], out: BinaryIO) -> None:
    """Write them."""
    write_lines(_lines(records), out)


def _lines(records: Iterable[bytes]) -> Iterator[str]:
    line = _Line()
    writer = csv.writer(line, lineterminator="")
    writer.writerow([column.name for column in COLUMNS])
    yield line.text
    for row in rows(records):
        writer.writerow(_shown(row))
        yield line.text


class _Line:
    """What csv writes to."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def _shown(row: list[Any]) -> list[Any]:
    for at in _TIMES:
        if row[at]:
            row[at] = _time(row[at])
    for at in _TEXTS:
        if row[at]:
            row[at] = plain(row[at])
    return row
