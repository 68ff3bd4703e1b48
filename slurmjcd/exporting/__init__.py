# SPDX-License-Identifier: MIT
"""Completed jobs for other programs: a module per format, each turning records into bytes as they come.

Every format takes an iterable of records (bytes, as slurmjcd sends them) and writes to a binary file. None of them
holds more than a batch of jobs, so that a million take no more memory than a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import BinaryIO, Final

_LINES: Final = 500  # written at a time


def write_lines(lines: Iterable[str], out: BinaryIO) -> None:
    """Write lines, given without their ends, in UTF-8."""
    found = iter(lines)
    while chunk := list(islice(found, _LINES)):
        out.write(("\n".join(chunk) + "\n").encode())
