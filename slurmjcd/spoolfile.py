# SPDX-License-Identifier: MIT
"""The spool's file: what is in it, how it is opened, and what is done with a foreign or damaged one."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slurmjcd import walrepair
from slurmjcd.errors import SpoolError

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x534A4344  # "SJCD"
FORMAT_VERSION: Final = 1
_SQLITE_MAGIC: Final = b"SQLite format 3\0"
_BOOKS: Final = ("lost", "salvage_lost", "earlier", "skipped", "discarded")  # keys of meta that outlive a spool
_CHECK_MAX_BYTES: Final = 1024**3  # a larger file is checked where it is read, not at start

SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE batch (
    first INTEGER PRIMARY KEY,  -- sequence number of its first record; numbers have no holes
    count INTEGER NOT NULL,
    clock INTEGER NOT NULL,     -- the spool's own seconds, which no wall clock can move
    crc INTEGER NOT NULL,       -- CRC-32 of frames
    frames BLOB NOT NULL        -- $<length> CR LF <record> CR LF, as the records came
);
CREATE TABLE source (
    id TEXT PRIMARY KEY,
    watermark INTEGER NOT NULL DEFAULT 0,
    attempted INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    spilled INTEGER NOT NULL DEFAULT 0,
    last_dropped INTEGER
) WITHOUT ROWID;
CREATE TABLE quarantine (
    seq INTEGER NOT NULL,
    spool TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (spool, seq)
);
"""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What could be read from a damaged spool."""

    batches: int
    records: int
    lost: int  # records known to have been there that could not be read


def open_file(path: Path) -> tuple[sqlite3.Connection, Salvaged | None]:
    """A connection for the writer, on a new file, a good one, or a new one that took in what a damaged one still held.

    Raises:
        SpoolError: the file is not ours or newer than this program; it stays as it is.
    """
    new = not path.exists() or path.stat().st_size == 0
    if path.exists() and new:
        log.warning("spool %s is empty: a new one is started in it", path)
    if not new:
        _refuse_foreign(path)
        _repair_log(path)
        damage = _damage(path)
        if damage is not None:
            return _replace_damaged(path, damage)
    try:
        return _connect(path, new=new), None
    except sqlite3.Error as exc:
        raise SpoolError(f"spool {path} can't be opened: {exc}") from exc


def _refuse_foreign(path: Path) -> None:
    advice = "set spool.path to a file of slurmjcd's own"
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as exc:
        raise SpoolError(f"spool {path} can't be read: {exc.strerror}") from exc
    if not head.startswith(_SQLITE_MAGIC):
        if len(head) >= 72 and int.from_bytes(head[68:72], "big") == APPLICATION_ID:
            return  # ours, with a damaged first block
        raise SpoolError(f"spool {path} is no SQLite database: {advice}")
    owner = int.from_bytes(head[68:72], "big")
    version = int.from_bytes(head[60:64], "big")
    if owner != APPLICATION_ID and not _wal_has_ours(path):
        raise SpoolError(f"spool {path} is a database of another program: {advice}")
    if version > FORMAT_VERSION and owner == APPLICATION_ID:
        raise SpoolError(
            f"spool {path} has format {version}, this slurmjcd knows {FORMAT_VERSION}: install the newer slurmjcd"
        )


def _repair_log(path: Path) -> None:
    try:
        walrepair.repair(path, stamp=int(time.time()))
    except OSError as exc:
        raise SpoolError(f"spool {path}: its write-ahead log can't be repaired: {exc.strerror}") from exc


def _wal_has_ours(path: Path) -> bool:
    """Whether the marks of a spool are only in its write-ahead log yet (it was killed before its first checkpoint)."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as database:
            return bool(database.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
    except sqlite3.Error:
        return False


def _damage(path: Path) -> str | None:
    """What is wrong with the file, None if nothing was found."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            if path.stat().st_size <= _CHECK_MAX_BYTES:
                result = database.execute("PRAGMA quick_check(1)").fetchone()[0]
                if result != "ok":
                    return str(result).splitlines()[0]
            if database.execute("SELECT value FROM meta WHERE key = 'spool'").fetchone() is None:
                return "its id is missing"
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError) and "no such table" not in str(exc):
            raise SpoolError(f"spool {path} can't be read: {exc}") from exc
        return str(exc)
    return None


def _connect(path: Path, *, new: bool) -> sqlite3.Connection:
    if new:
        _make(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA wal_autocheckpoint = 2000")
    database.execute("PRAGMA journal_size_limit = 67108864")
    _settle(database)
    return database


def _make(path: Path) -> None:
    """Make an empty spool under another name first, so that a kill in between leaves none or a whole one."""
    draft = path.with_name(f"{path.name}.new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    old_umask = os.umask(0o077)
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as database:
            database.execute("PRAGMA page_size = 16384")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            database.execute("PRAGMA synchronous = FULL")
            spool_id = f"spool-{uuid.uuid4()}"
            database.executescript(f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA}")
            database.executemany(
                "INSERT INTO meta VALUES (?, ?)", [("spool", spool_id), ("shipped", 0), ("clock", 0), ("lost", 0)]
            )
            database.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            database.execute("COMMIT")
    finally:
        os.umask(old_umask)
    for suffix in ("-wal", "-shm"):
        # of a database that is gone: SQLite would take it for the new one's
        stale = path.with_name(path.name + suffix)
        if stale.exists():
            stale.rename(stale.with_name(f"{path.name}.damaged-{int(time.time())}{suffix}"))
    draft.rename(path)
    _sync_directory(path.parent)


def _settle(database: sqlite3.Connection) -> None:
    """Put all of the write-ahead log into the database file and sync it.

    What a killed process or a failed sync left in the log reads as committed, yet may be in the page cache only, and
    syncing the log again proves nothing: a failed sync marks its pages clean. Here every page is written anew.
    """
    busy, logged, copied = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy and logged != copied:
        database.close()
        raise sqlite3.OperationalError("another process reads it; its write-ahead log can't be emptied")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_damaged(path: Path, damage: str) -> tuple[sqlite3.Connection, Salvaged]:
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    database = _connect(path, new=True)
    salvaged = _salvage(aside, database)
    log.error(
        "spool %s is damaged (%s): set aside as %s; %d records in %d batches were saved from it, "
        "%d are known to be lost",
        path, damage, aside.name, salvaged.records, salvaged.batches, salvaged.lost,
    )  # fmt: skip
    return database, salvaged


def _salvage(damaged: Path, database: sqlite3.Connection) -> Salvaged:
    """Copy what can be read: batches from both ends (damage in between hides neither), sources, quarantine."""
    batches: dict[int, tuple[int, bytes]] = {}
    with contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as old:
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error):
                for first, count, crc, frames in old.execute(
                    f"SELECT first, count, crc, frames FROM batch ORDER BY first {order}"  # noqa: S608
                ):
                    if isinstance(frames, bytes) and zlib.crc32(frames) == crc:
                        batches[first] = (count, frames)
        known_last = _known_last(old, batches)
        old_meta = _old_books(old)
        database.execute("BEGIN")
        for table in ("source", "quarantine"):
            with contextlib.suppress(sqlite3.Error):
                rows = old.execute(f"SELECT * FROM {table}")  # noqa: S608
                slots = ",".join("?" * len(rows.description))
                for row in rows:
                    database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({slots})", row)  # noqa: S608
    next_seq = 1
    for first in sorted(batches):
        count, frames = batches[first]
        database.execute("INSERT INTO batch VALUES (?, ?, 0, ?, ?)", (next_seq, count, zlib.crc32(frames), frames))
        next_seq += count
    saved = next_seq - 1
    earlier = min(batches) - 1 if batches else 0
    lost = max(0, known_last - earlier - saved)
    # the new spool's numbers start over; these keep the books (see ledger.py)
    books = {"lost": lost, "salvage_lost": lost, "earlier": earlier}
    for name in _BOOKS:
        books[name] = books.get(name, 0) + old_meta.get(name, 0)
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", books.items())
    database.execute("COMMIT")
    return Salvaged(len(batches), saved, lost)


def _old_books(old: sqlite3.Connection) -> dict[str, int]:
    """The counters that outlive a spool, as far as they can be read."""
    found: dict[str, int] = {}
    with contextlib.suppress(sqlite3.Error):
        for name, value in old.execute("SELECT key, value FROM meta"):
            if name in _BOOKS and isinstance(value, int):
                found[name] = value
    return found


def _known_last(old: sqlite3.Connection, batches: dict[int, tuple[int, bytes]]) -> int:
    """The highest sequence number that the damaged spool is known to have held."""
    last = max((first + count - 1 for first, (count, _) in batches.items()), default=0)
    with contextlib.suppress(sqlite3.Error):
        row = old.execute("SELECT first, count FROM batch ORDER BY first DESC LIMIT 1").fetchone()
        if row is not None and isinstance(row[0], int) and isinstance(row[1], int):
            last = max(last, row[0] + row[1] - 1)
    return last
