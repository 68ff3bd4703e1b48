# SPDX-License-Identifier: MIT
"""Damage to the files of a spool: what a start makes of them.

The first byte chooses a spool, the others say what is done to its database and its write-ahead log: bytes, pages,
lengths, whole files, and values that no daemon writes. Then the spool is opened and read to its end as the shipper
does, takes a record, and is opened again. Only SpoolError may come out of that, in one line; what is handed on was
in the spool, once; a batch whose pages are whole is never missing.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import tempfile
from pathlib import Path
from typing import Final

from slurmjcd import protocol
from slurmjcd.errors import SpoolError
from slurmjcd.spool import ledger
from slurmjcd.spool.batch import Intake
from slurmjcd.spool.spool import Spool
from slurmjcd.spool.spoolscan import PAGE_BYTES
from tests.fuzz.inprocess import Complaints
from tests.fuzz.spool_files import FRAME, LOOP, NAME, WAL_HEADER, Template, open_spool, pages_of, record, templates

NEW: Final = record(900_000)
_STEPS: Final = 12  # of damage in one input
_COLUMNS: Final = {
    "meta": ("key", "value"),
    "batch": ("first", "count", "clock", "crc", "frames"),
    "source": ("id", "watermark", "attempted", "dropped", "spilled", "last_dropped"),
    "quarantine": ("seq", "spool", "at", "reason", "record"),
}
_VALUES: Final = (
    "0", "1", "-1", "3", "9223372036854775807", "-9223372036854775808", "4294967296", "1.5", "1000", "''",
    "'text'", "x''", "x'ff00'", "char(10)", "CAST(x'ff' AS TEXT)", "NULL",
)  # fmt: skip


@functools.cache
def _directory() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="fuzz-spool-", dir="/dev/shm")
    _KEPT.append(directory)
    return Path(directory.name)


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []


class Bytes:
    """What is left of an input; 0 behind its end."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, size: int = 1) -> int:
        part, self.left = self.left[:size], self.left[size:]
        return int.from_bytes(part.ljust(size, b"\0"), "big")


class Damage:
    """Files in memory, what is done to them, and what that touched: pages of the database, frames of the log."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.files = {suffix: bytearray(content) for suffix, content in template.files.items()}
        self.pages: set[int] = set()
        self.frames: set[int] = set()
        self.rows: set[int] = set()  # batches that have another value somewhere, by their first number
        self.lost_count = False  # nothing can be said of what has to survive
        self.foreign = False  # records may be there that were never put in

    def do(self, rest: Bytes) -> None:
        kind = rest.take()
        suffix = "-wal" if kind & 0x80 and "-wal" in self.files else ""
        content = self.files.get(suffix)
        if content is None or not content:
            return
        unit, head = (FRAME, WAL_HEADER) if suffix else (PAGE_BYTES, 0)
        start = head + rest.take() % max(1, len(content) // unit) * unit
        match kind % 10:
            case 0:
                self._write(suffix, start + rest.take(2) % unit, bytes([rest.take()]))
            case 1:
                at = start + rest.take() % 128
                self._write(suffix, at, bytes([rest.take()]))
            case 2:
                self._write(suffix, start + rest.take(2) % unit, bytes(rest.take(2) % (3 * unit)))
            case 3:
                self._truncate(suffix, start + rest.take(2) % unit)
            case 4:
                other = rest.take() % max(1, len(content) // unit) * unit + head
                self._write(suffix, start, bytes(content[other : other + unit]))
            case 5:
                content += bytes([rest.take()]) * rest.take(2)
            case 6:
                self._write(suffix, rest.take() % 128 if suffix else rest.take(), bytes([rest.take()]))
            case 7:
                self._cell(suffix, start + (24 if suffix else 0), rest)
            case 8:
                self.files.pop(suffix)
                self.lost_count = True
            case 9:
                self.files[suffix] = bytearray(rest.left[:4096])
                self.lost_count = self.foreign = True
                rest.left = b""

    def _cell(self, suffix: str, page: int, rest: Bytes) -> None:
        """A byte near the head of a row, where its lengths and numbers are."""
        content = self.files[suffix]
        head = page + (100 if not suffix and page == 0 else 0)
        pointer = head + 8 + 2 * (rest.take() % 16)
        at = page + int.from_bytes(content[pointer : pointer + 2], "big") + rest.take() % 24
        self._write(suffix, at, bytes([rest.take()]))

    def _write(self, suffix: str, at: int, new: bytes) -> None:
        content = self.files[suffix]
        new = new[: max(0, len(content) - at)]
        if not new or content[at : at + len(new)] == new:
            return
        content[at : at + len(new)] = new
        self._touched(suffix, at, at + len(new))

    def _truncate(self, suffix: str, at: int) -> None:
        content = self.files[suffix]
        self._touched(suffix, at, len(content))
        del content[at:]

    def _touched(self, suffix: str, begin: int, end: int) -> None:
        if not suffix:
            self.pages |= set(range(begin // PAGE_BYTES + 1, (end - 1) // PAGE_BYTES + 2))
        elif begin < WAL_HEADER:
            self.lost_count = True
        else:
            self.frames |= set(range((begin - WAL_HEADER) // FRAME, (end - 1 - WAL_HEADER) // FRAME + 1))

    def survivors(self) -> list[tuple[bytes, ...]]:
        """Batches that have to be there still."""
        frames = self.template.frames
        # a damaged frame may stand for the page that its head speaks of now, and is taken for the newest of that
        spoken_of = pages_of(bytes(self.files.get("-wal", b"")))
        touched = self.pages | {
            pages[number] for pages in (frames, spoken_of) for number in self.frames if number < len(pages)
        }
        # a log without its end was never committed, for all that anyone can say; its last frame is proved by the sum
        # that the one before it has
        ends = {len(frames) - 1, len(frames) - 2}
        if self.lost_count or ends & self.frames or self.template.meta in touched:
            return []
        # where pages change with a row is SQLite's affair
        if self.rows and touched:
            return []
        return [
            records for first, records, pages in self.template.pages if first not in self.rows and not pages & touched
        ]


def values(path: Path, rest: Bytes, damage: Damage) -> None:
    """A value in a row that is of another kind, or that no daemon would write."""
    table = list(_COLUMNS)[rest.take() % len(_COLUMNS)]
    column = _COLUMNS[table][rest.take() % len(_COLUMNS[table])]
    value, row = _VALUES[rest.take() % len(_VALUES)], rest.take() % 24
    name = _COLUMNS[table][0]
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database,
    ):
        which = database.execute(f"SELECT {name} FROM {table} LIMIT 1 OFFSET {row}").fetchone()
        if which:
            database.execute(f"UPDATE {table} SET {column} = {value} WHERE {name} = ?", which)
            damage.lost_count |= table == "meta"
            if table == "batch":
                damage.rows.add(which[0])


def put(directory: Path, data: bytes) -> Damage:
    """The files of an input, in `directory`."""
    rest = Bytes(data)
    choice = rest.take()
    damage = Damage(templates()[choice % len(templates())])
    rows = choice >> 4 & 3
    steps = Bytes(b"")
    steps.left, rest.left = (rest.left[: 4 * rows], rest.left[4 * rows :])
    path = directory / NAME
    for suffix, content in damage.files.items():
        path.with_name(NAME + suffix).write_bytes(content)
    for _ in range(rows):
        values(path, steps, damage)
    if rows:
        for suffix in damage.files:
            file = path.with_name(NAME + suffix)
            damage.files[suffix] = bytearray(file.read_bytes() if file.exists() else b"")
    for _ in range(_STEPS):
        if rest.left:
            damage.do(rest)
    for old in directory.iterdir():
        old.unlink()
    for suffix, content in damage.files.items():
        path.with_name(NAME + suffix).write_bytes(content)
    return damage


def drain(spool: Spool) -> list[bytes]:
    """Every record, read as the shipper reads; damaged batches go to quarantine."""
    cursor, records = max(0, spool.state.oldest - 1), []
    for _ in range(2000):
        spool._tail.clear()
        ready = LOOP.run_until_complete(spool.read(cursor, max_bytes=200_000))
        if not ready:
            break
        for batch in ready:
            if not batch.frames:
                LOOP.run_until_complete(spool.quarantine_damaged(batch))
                break
            kept = protocol.split_frames(batch.frames)
            assert len(kept) == batch.count, "the head of a PUT would say another number than it has records"
            assert batch.last > cursor, "the shipper would go back"
            cursor = batch.last
            records += [one for one in kept if one]
    else:
        raise AssertionError("the shipper would never come to the end")
    return records


def start(path: Path) -> Spool | None:
    """None when it is refused, in the words of an operator."""
    try:
        return open_spool(path)
    except SpoolError as exc:
        text = str(exc)
        assert text.isprintable(), text
        assert len(text) < 1000, len(text)
        return None


def check(directory: Path, damage: Damage) -> None:
    path = directory / NAME
    before = path.read_bytes() if path.exists() and "-wal" not in damage.files else None
    spool = start(path)
    if spool is None:
        assert before is None or path.read_bytes() == before, "a spool that is refused stays as it is"
        return
    records = drain(spool)
    assert len(records) == len(set(records)), "a record twice"
    if not damage.foreign:
        assert set(records) <= damage.template.records, "a record that was never put in"
    for batch in damage.survivors():
        missing = [one for one in batch if one and one not in records]
        assert not missing, f"{len(missing)} records of a whole batch are missing, {missing[0][40:60]!r}"
    last = spool.state.watermarks.get("ring.2", 0)
    LOOP.run_until_complete(spool.append([Intake("ring.2", last + 1, 1, protocol.join_frames([NEW]))], {}))
    LOOP.run_until_complete(spool.close())
    ledger.read(path)
    again = start(path)
    assert again is not None, "a spool that was mended is refused"
    assert drain(again) == [*records, NEW]
    LOOP.run_until_complete(again.close())
    drafts = [file.name for file in directory.iterdir() if file.suffix in {".new", ".salvaged", ".repaired"}]
    assert not drafts, drafts


def one_input(data: bytes) -> None:
    directory = _directory()
    for old in directory.iterdir():
        old.unlink()
    damage = put(directory, data)
    with Complaints() as complaints:
        check(directory, damage)
    for line in complaints.lines:
        assert line.isprintable(), line
