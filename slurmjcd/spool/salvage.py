# SPDX-License-Identifier: MIT
"""What a damaged spool still holds, copied into a new one, and what is known to be lost with it.

Batches are looked for twice: through their table from both ends, then page by page, which finds them behind any
number of damaged places. Their numbers start over; the books (see ledger.py) go on.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeGuard

from slurmjcd import protocol
from slurmjcd.spool import spoolcheck, spoolscan, walrepair

log = logging.getLogger(__name__)

_BOOKS: Final = ("lost", "salvage_lost", "earlier", "skipped", "discarded")  # keys of meta that outlive a spool

_UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)  # the latter of an error's own text, which quotes the schema


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What could be read from a damaged spool."""

    batches: int
    records: int
    lost: int  # records known to have been there that could not be read


@dataclass(slots=True)
class _Found:
    """What the old file said, as far as it could be asked."""

    # first number: count and frames; of several batches where a number is damaged
    batches: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    last: int = 0  # highest number that it is known to have given
    meta: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)  # of the other tables

    def add(self, first: int, frames: bytes) -> None:
        """A batch with a right checksum, unless it is there already, or was before records of it were put aside."""
        kept = self.batches.setdefault(first, [])
        if not any(_are_forms_of_one(frames, other) for _, other in kept):
            records = len(protocol.frame_bounds(frames))  # the checksum vouches for these, not for the row's count
            kept.append((records, frames))
            self.last = max(self.last, first + records - 1)


def salvage(damaged: Path, database: sqlite3.Connection, *, stamp: int) -> Salvaged:
    """Copy what can be read of the file `damaged` into `database`, a new spool.

    Raises:
        sqlite3.Error: the new spool can't be written.
    """
    found = _Found()
    with contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as old:
        with contextlib.suppress(*_UNREADABLE):
            old.text_factory = spoolcheck.text
            old.execute("PRAGMA writable_schema = ON")  # only so is a file read that has lost its end
        _ask_tree(old, found)
        _ask_tables(old, found)
    with contextlib.suppress(OSError):
        # SQLite brings the log into the file when it is closed, but not into one whose page size is damaged
        walrepair.repair(damaged, stamp=stamp, always=True)
    _scan_pages(damaged, found)
    return _write(found, database)


def _are_forms_of_one(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    pairs = protocol.split_frames(one), protocol.split_frames(other)
    return len(pairs[0]) == len(pairs[1]) and all(a == b or not a or not b for a, b in zip(*pairs, strict=True))


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value <= spoolcheck.NUMBER_MAX


def _ask_tree(old: sqlite3.Connection, found: _Found) -> None:
    for order in ("ASC", "DESC"):
        with contextlib.suppress(*_UNREADABLE):
            for first, count, crc, frames in old.execute(
                f"SELECT first, count, crc, frames FROM batch ORDER BY first {order}"  # noqa: S608 (our own words)
            ):
                if not first or not _is_number(first):
                    continue
                if isinstance(frames, bytes) and zlib.crc32(frames) == crc:
                    found.add(first, frames)
                elif _is_number(count):
                    found.last = max(found.last, first + count - 1)


def _ask_tables(old: sqlite3.Connection, found: _Found) -> None:
    with contextlib.suppress(*_UNREADABLE):
        for name, value in old.execute("SELECT key, value FROM meta"):
            if isinstance(name, str) and _is_number(value):
                found.meta[name] = value
    for table, columns in (("source", 6), ("quarantine", 5)):
        rows = found.rows[table] = []
        with contextlib.suppress(*_UNREADABLE):
            for row in old.execute(f"SELECT * FROM {table}"):  # noqa: S608 (our own words)
                if len(row) == columns:
                    rows.append(row)
    meta = found.meta
    # each source's watermark counts what was taken of it, and every record taken was given a number
    taken = sum(row[1] for row in found.rows["source"] if _is_number(row[1]))
    numbered = taken - meta.get("earlier", 0) - meta.get("salvage_lost", 0) + meta.get("skipped", 0)
    found.last = max(found.last, numbered, meta.get("last", 0))


def _scan_pages(damaged: Path, found: _Found) -> None:
    """Add batches that the tree doesn't lead to any more, but none that were shipped and trimmed."""
    shipped = found.meta.get("shipped", 0)
    oldest = min(found.batches, default=shipped + 1)
    try:
        for first, count, frames in spoolscan.batches(damaged):
            if first > oldest or first + count - 1 > shipped:
                found.add(first, frames)
    except OSError as exc:
        log.warning("spool %s can't be read to its end: %s", damaged, exc.strerror)


def _write(found: _Found, database: sqlite3.Connection) -> Salvaged:
    database.execute("BEGIN")
    for table, rows in found.rows.items():
        for row in rows:
            slots = ",".join("?" * len(row))
            with contextlib.suppress(sqlite3.IntegrityError):  # damaged, and yet readable
                database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({slots})", row)  # noqa: S608 (our own words)
        database.execute(f"DELETE FROM {table} WHERE NOT ({spoolcheck.SOUND[table]})")  # noqa: S608 (our own words)
    saved = batches = 0
    copied: set[tuple[int, int]] = set()
    for count, frames in (batch for first in sorted(found.batches) for batch in found.batches[first]):
        # numbers may overlap, damaged ones that is: what both batches have is kept, but no batch twice
        mark = (zlib.crc32(frames), hash(frames))
        holds_any = len(frames) > count * len(protocol.EMPTY_FRAME)
        if not count or (holds_any and mark in copied):
            continue
        copied.add(mark)
        database.execute("INSERT INTO batch VALUES (?, ?, 0, ?, ?)", (saved + 1, count, zlib.crc32(frames), frames))
        saved, batches = saved + count, batches + 1
    before = min(found.batches, default=found.last + 1) - 1
    earlier = min(before, found.meta.get("shipped", before))
    lost = max(0, found.last - earlier - saved)
    # the new spool's numbers start over; these keep the books
    books = {"lost": lost, "salvage_lost": lost, "earlier": earlier}
    for name in _BOOKS:
        books[name] = books.get(name, 0) + found.meta.get(name, 0)
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", books.items())
    database.execute("COMMIT")
    return Salvaged(batches, saved, lost)
