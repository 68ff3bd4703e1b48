# SPDX-License-Identifier: MIT
"""The spool's file: what is in it, how it is opened, and what is done with a foreign or damaged one."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Final

from slurmjcd.errors import SpoolError
from slurmjcd.spool import spoolcheck, spoolscan, walrepair
from slurmjcd.spool.disk import sync_directory
from slurmjcd.spool.salvage import Salvaged, salvage
from slurmjcd.spool.spoolscan import PAGE_BYTES

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x534A4344  # "SJCD"
FORMAT_VERSION: Final = 1
_FORMAT_MAX: Final = 1000  # no release will have a higher one: it is damage
_SQLITE_MAGIC: Final = b"SQLite format 3\0"
_WRITE_VERSION: Final = 2  # at most, in bytes 18 and 19 of a database
_CHECK_MAX_BYTES: Final = 1024**3  # a larger file is checked where it is read, not at start
# what SQLite says of a file that it can read and make no sense of; ERROR is "no such table", "unsupported file format"
_DAMAGE_CODES: Final = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_META: Final = ("spool", "shipped", "clock", "lost")  # keys that every spool has; others come with what they count

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


def open_file(path: Path) -> tuple[sqlite3.Connection, Salvaged | None]:
    """A connection for the writer, on a new file, a good one, or a new one that took in what a damaged one still held.

    Raises:
        SpoolError: the file is not ours or newer than this program; it stays as it is.
    """
    new = not path.exists() or path.stat().st_size == 0
    if path.exists() and new:
        log.warning("spool %s is empty: a new one is started in it", path)
    repaired = False
    if not new:
        _refuse_foreign(path)
        repaired = _repair_log(path)
    try:
        damage = None if new else _damage(path)
        if repaired and damage is None and _hides_batches(path):
            damage = "the damaged part of its log led to batches that nothing leads to now"
        if damage is not None:
            return _replace_damaged(path, damage)
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
    if owner == APPLICATION_ID:
        _refuse_newer(path, version)


def _refuse_newer(path: Path, version: int) -> None:
    if FORMAT_VERSION < version <= _FORMAT_MAX:
        raise SpoolError(
            f"spool {path} has format {version}, this slurmjcd knows {FORMAT_VERSION}: install the newer slurmjcd"
        )


def _repair_log(path: Path) -> bool:
    """Whether the log had damaged frames, whose pages may be as they were before now."""
    try:
        return walrepair.repair(path, stamp=int(time.time())) > 0
    except OSError as exc:
        raise SpoolError(f"spool {path}: its write-ahead log can't be repaired: {exc.strerror}") from exc


def _wal_has_ours(path: Path) -> bool:
    """Whether the marks of a spool are only in its write-ahead log yet (it was killed before its first checkpoint).

    Read-only: closing it must not bring a damaged log into the database, which would drop what lies behind the damage.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return bool(database.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
    except sqlite3.Error:
        return False


def _damage(path: Path) -> str | None:
    """What is wrong with the file, None if nothing was found."""
    with path.open("rb") as file:
        if max(file.read(20)[18:], default=0) > _WRITE_VERSION:
            return "its header has a version that SQLite reads and does not write"
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            if path.stat().st_size <= _CHECK_MAX_BYTES:
                result = database.execute("PRAGMA quick_check(1)").fetchone()[0]
                if result != "ok":
                    return str(result).splitlines()[0]
            # once more, for the log may have another header than the file
            owner, version = (
                database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            _refuse_newer(path, version)
            if (owner, version) != (APPLICATION_ID, FORMAT_VERSION):
                return "its marks are not those of a spool"
            missing = set(_META) - {key for (key,) in database.execute("SELECT key FROM meta")}
            if missing:
                return f"{min(missing)} is missing in its table meta"
            return spoolcheck.unsound(database)
    except sqlite3.DatabaseError as exc:
        # text that is no UTF-8 has no code
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF not in _DAMAGE_CODES:  # the disk's fault, not the file's
            raise SpoolError(f"spool {path} can't be read: {exc}") from exc
        return repr(str(exc))[1:-1]
    except UnicodeDecodeError:  # of a name in the schema, which SQLite's own error quotes
        return "its schema has text that is no UTF-8"


def _hides_batches(path: Path) -> bool:
    """Whether batches that are not shipped are on pages of the file, and not in its table."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        known = {first for (first,) in database.execute("SELECT first FROM batch")}
        (shipped,) = database.execute("SELECT value FROM meta WHERE key = 'shipped'").fetchone()
    return any(first not in known and first + count - 1 > shipped for first, count, _ in spoolscan.batches(path))


def _connect(path: Path, *, new: bool) -> sqlite3.Connection:
    if new:
        _make(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    database.text_factory = spoolcheck.text
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA wal_autocheckpoint = 2000")
    database.execute("PRAGMA journal_size_limit = 67108864")
    _settle(database)
    _mend_counts(database)
    return database


def _mend_counts(database: sqlite3.Connection) -> None:
    """Count again where a batch doesn't end where the next begins: the checksum is of the frames only.

    A damaged count would let records of its batch be passed over as if they had never been. Numbers that were skipped
    look the same and are left as they are.
    """
    for first, count, following in spoolcheck.suspects(database):
        records = spoolcheck.counted(database, first)
        if records is None and (not count or (following is not None and first + count > following)):
            records = following - first if following is not None else 1  # it is damaged, and has to end somewhere
        if records is not None and records != count:
            log.error("spool: batch %d says %d records and has %d, counted again", first, count, records)
            database.execute("UPDATE batch SET count = ? WHERE first = ?", (records, first))


def _make(path: Path) -> None:
    """Make an empty spool under another name first, so that a kill in between leaves none or a whole one."""
    draft = path.with_name(f"{path.name}.new")
    _make_draft(draft).close()
    _set_log_aside(path, int(time.time()))
    draft.rename(path)
    sync_directory(path.parent)


def _make_draft(draft: Path) -> sqlite3.Connection:
    """An empty spool in a file that nobody looks at; what a killed predecessor left there goes."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    old_umask = os.umask(0o077)
    try:
        database = sqlite3.connect(draft, isolation_level=None)
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA synchronous = FULL")
        spool_id = f"spool-{uuid.uuid4()}"
        database.executescript(f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA}")
        database.executemany("INSERT INTO meta VALUES (?, ?)", zip(_META, (spool_id, 0, 0, 0), strict=True))
        database.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        database.execute("COMMIT")
    finally:
        os.umask(old_umask)
    return database


def _set_log_aside(path: Path, stamp: int) -> None:
    """A log without its database, or of one that is given up: SQLite would take it for the new one's."""
    for suffix in ("-wal", "-shm"):
        stale = path.with_name(path.name + suffix)
        if stale.exists():
            stale.rename(stale.with_name(f"{path.name}.damaged-{stamp}{suffix}"))


def _settle(database: sqlite3.Connection) -> None:
    """Put all of the write-ahead log into the database file and sync it.

    What a killed process or a failed sync left in the log reads as committed, yet may be in the page cache only, and
    syncing the log again proves nothing: a failed sync marks its pages clean. Here every page is written anew.
    """
    busy, logged, copied = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy and logged != copied:
        database.close()
        raise sqlite3.OperationalError("another process reads it; its write-ahead log can't be emptied")


def _replace_damaged(path: Path, damage: str) -> tuple[sqlite3.Connection, Salvaged]:
    """Put a new spool in the place of a damaged one; a kill in between leaves the damaged one or the whole new one."""
    stamp = int(time.time())
    draft = path.with_name(f"{path.name}.salvaged")
    try:
        with contextlib.closing(_make_draft(draft)) as database:
            salvaged = salvage(path, database, stamp=stamp)
        aside = path.with_name(f"{path.name}.damaged-{stamp}")
        aside.unlink(missing_ok=True)
        aside.hardlink_to(path)
        _set_log_aside(path, stamp)
        draft.rename(path)
        sync_directory(path.parent)
    except OSError as exc:
        raise SpoolError(f"spool {path} is damaged ({damage}) and can't be replaced: {exc.strerror}") from exc
    log.error(
        "spool %s is damaged (%s): set aside as %s; %d records in %d batches were saved from it, "
        "%d are known to be lost",
        path, damage, aside.name, salvaged.records, salvaged.batches, salvaged.lost,
    )  # fmt: skip
    return _connect(path, new=False), salvaged
