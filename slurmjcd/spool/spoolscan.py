# SPDX-License-Identifier: MIT
"""Batches of a damaged spool, found page by page, without the tree above them.

SQLite reaches a row from the root of its table and stops at the first page that makes no sense, so damage in two places
hides what lies between them, and damage near the root hides all. Here each page that looks like a leaf is read by
itself (https://www.sqlite.org/fileformat2.html); a batch counts when its checksum fits, so nothing is made up. Pages
that were freed are found too: who calls has to know which of the batches in those are over.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slurmjcd import protocol
from slurmjcd.spool.spoolcheck import NUMBER_MAX

PAGE_BYTES: Final = 16_384  # of every spool, see spoolfile.py
_LEAF: Final = 0x0D  # of a table with row ids
_LEAF_HEADER_BYTES: Final = 8
_COLUMNS: Final = 5  # first (NULL: it is the row id), count, clock, crc, frames
_NULL: Final = 0
_BLOB: Final = 12  # serial type of an empty one; two more for each byte
_INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}  # by serial type; 8 and 9 are 0 and 1
_FRAMES_MAX: Final = 8 * 1024 * 1024  # a batch is cut before it gets so long, see batch.py

Batch = tuple[int, int, bytes]  # first, count, frames


def batches(path: Path) -> Iterator[Batch]:
    """Every whole batch on any page of the database file at `path` (not of its log); one may come twice."""
    if path.stat().st_size < PAGE_BYTES:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for at in range(PAGE_BYTES, len(data) - PAGE_BYTES + 1, PAGE_BYTES):
            if data[at] == _LEAF:
                yield from _leaf(data, at)


def _leaf(data: mmap.mmap, page: int) -> Iterator[Batch]:
    cells = int.from_bytes(data[page + 3 : page + 5], "big")
    for number in range(min(cells, PAGE_BYTES // 2)):
        pointer = page + _LEAF_HEADER_BYTES + 2 * number
        offset = int.from_bytes(data[pointer : pointer + 2], "big")
        if offset >= _LEAF_HEADER_BYTES:
            try:
                found = _batch(data, page, page + offset)
            except (IndexError, ValueError):
                continue  # damaged, or no batch
            if found is not None:
                yield found


def _batch(data: mmap.mmap, page: int, at: int) -> Batch | None:
    """The batch in the cell at `at`, None when it is something else or its checksum is wrong."""
    size, at = _varint(data, at)
    first, at = _varint(data, at)
    payload = _payload(data, page, at, size)
    head_bytes, pos = _varint(payload, 0)
    types = []
    while pos < head_bytes:
        kind, pos = _varint(payload, pos)
        types.append(kind)
    if len(types) != _COLUMNS or types[0] != _NULL or types[4] < _BLOB or types[4] % 2:
        return None
    numbers = []
    for kind in types[1:4]:
        width = _INTEGER_BYTES.get(kind)
        if width is None:
            return None
        value = int.from_bytes(payload[pos : pos + width], "big", signed=True) if width else kind - 8
        numbers.append(value)
        pos += width
    _, _, crc = numbers  # the records are counted in the frames, which the checksum vouches for
    frames = payload[pos:]
    if len(frames) != (types[4] - _BLOB) // 2 or zlib.crc32(frames) != crc or not 0 < first <= NUMBER_MAX:
        return None
    return first, len(protocol.frame_bounds(frames)), frames


def _payload(data: mmap.mmap, page: int, at: int, size: int) -> bytes:
    """A row's bytes: what stands in its cell, then what its chain of overflow pages has."""
    if not 0 < size <= _FRAMES_MAX:
        raise ValueError("no row of a spool is that long")
    usable = PAGE_BYTES
    local, most = size, usable - 35
    if size > most:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
    if at + local + 4 * (local < size) > page + PAGE_BYTES:
        raise ValueError("a cell that reaches beyond its page")
    parts, left = [data[at : at + local]], size - local
    following = int.from_bytes(data[at + local : at + local + 4], "big") if left else 0
    while left:
        start = (following - 1) * PAGE_BYTES
        if start < PAGE_BYTES or start + PAGE_BYTES > len(data):
            raise ValueError("a chain that leads out of the file")
        step = min(left, usable - 4)
        parts.append(data[start + 4 : start + 4 + step])
        following = int.from_bytes(data[start : start + 4], "big")
        left -= step
    return b"".join(parts)


def _varint(data: mmap.mmap | bytes, at: int) -> tuple[int, int]:
    """SQLite's integer of 1 to 9 bytes at `at`, and where it ends."""
    value = 0
    for number in range(8):
        byte = data[at + number]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + number + 1
    return value << 8 | data[at + 8], at + 9
