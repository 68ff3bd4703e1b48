# SPDX-License-Identifier: MIT
"""The spool's database as its one thread sees it: each method is one transaction, or one question.

A transaction that fails leaves the file `in_doubt`: what it wrote may be there or not. The connection is given up, and
the next one starts from what is really on disk.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from slurmjcd.errors import SpoolError
from slurmjcd.spool import spoolfile
from slurmjcd.spool.batch import Batch, Intake, Ring

log = logging.getLogger(__name__)

T = TypeVar("T")
Quarantined = tuple[int, str, int, str, bytes]  # seq, spool, epoch seconds, reason, record

_TRIM_ROWS: Final = 256  # batches deleted in one transaction, so that no commit waits long behind a trim
_VACUUM_PAGES: Final = 256


@dataclass(slots=True)
class SpoolState:
    """What the event loop may know of the spool without asking the disk."""

    spool_id: str = ""
    oldest: int = 1  # first sequence number still kept
    last: int = 0  # highest sequence number committed
    shipped: int = 0  # highest that was confirmed by the store
    bytes: int = 0  # of frames kept
    watermarks: dict[str, int] = field(default_factory=dict)
    rings: dict[str, Ring] = field(default_factory=dict)
    quarantined: int = 0
    lost: int = 0  # records known to be gone for good
    error: str | None = None  # why the last commit failed

    @property
    def backlog(self) -> int:
        return self.last - self.shipped

    @property
    def in_rings(self) -> int:
        """Records in rings and spill files: what rings told and no commit has taken."""
        taken = self.watermarks
        return sum(max(0, ring.attempted - ring.dropped - taken.get(name, 0)) for name, ring in self.rings.items())


@dataclass(frozen=True, slots=True)
class Window:
    """What a trim has to know: how far the spool is shipped, and what is kept beyond that."""

    shipped: int
    lost: int
    bytes: int  # of frames kept now
    replay_s: float
    keep_bytes: int


class SpoolDatabase:
    """All methods but the constructor belong to the spool's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.in_doubt = False
        self._database: sqlite3.Connection | None = None
        self._clock_base = 0
        self._opened_at = time.monotonic()

    @property
    def connection(self) -> sqlite3.Connection:
        if self._database is None:
            self._database, _ = spoolfile.open_file(self.path)
        return self._database

    def load(self) -> SpoolState:
        """What the file says."""
        state = SpoolState()
        try:
            database = self.connection
            meta = dict(database.execute("SELECT key, value FROM meta"))
            state.spool_id, state.shipped, state.lost = meta["spool"], meta["shipped"], meta["lost"]
            self._clock_base = max(self._clock_base, meta["clock"])
            first, last = database.execute(
                "SELECT (SELECT first FROM batch ORDER BY first LIMIT 1), "
                "(SELECT first + count - 1 FROM batch ORDER BY first DESC LIMIT 1)"
            ).fetchone()
            state.last = max(last or 0, meta.get("last", 0))
            state.oldest = first or state.last + 1
            state.bytes = database.execute("SELECT coalesce(sum(length(frames)), 0) FROM batch").fetchone()[0]
            for source, watermark, attempted, dropped, spilled, last_dropped in database.execute(
                "SELECT * FROM source"
            ):
                state.watermarks[source] = watermark
                state.rings[source] = Ring(attempted, dropped, spilled, last_dropped)
            state.quarantined = database.execute("SELECT count(*) FROM quarantine").fetchone()[0]
        except sqlite3.Error as exc:
            self._abandon()
            raise SpoolError(f"spool {self.path} can't be read: {exc}") from exc
        return state

    def _clock(self) -> int:
        """The spool's own seconds: they count while it is open, and no wall clock can move them."""
        return self._clock_base + int(time.monotonic() - self._opened_at)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction. When this returns its effect is on disk."""
        try:
            database = self.connection
            database.execute("BEGIN IMMEDIATE")
            result = work(database)
            database.execute("COMMIT")
        except sqlite3.Error as exc:
            self._abandon()
            raise SpoolError(f"the spool's disk: {exc}") from exc
        return result

    def _abandon(self) -> None:
        """Forget a connection whose transaction failed."""
        self.in_doubt = True
        database, self._database = self._database, None
        if database is None:
            return
        for step in (database.rollback, database.close):
            try:
                step()
            except sqlite3.Error as exc:
                log.debug("after a failed transaction: %s", exc)

    def append(self, batches: list[Batch], intakes: list[Intake], rings: dict[str, Ring]) -> None:
        """Batches, the watermarks that go with them, and counters."""

        def work(database: sqlite3.Connection) -> None:
            clock = self._clock()
            database.executemany(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?)",
                [(batch.first, batch.count, clock, zlib.crc32(batch.frames), batch.frames) for batch in batches],
            )
            database.executemany(
                "INSERT INTO source (id, watermark) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET watermark = excluded.watermark",
                [(intake.source, intake.last) for intake in intakes],
            )
            database.executemany(
                "INSERT INTO source (id, attempted, dropped, spilled, last_dropped) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET attempted = excluded.attempted, dropped = excluded.dropped,"
                " spilled = excluded.spilled, last_dropped = excluded.last_dropped",
                [
                    (source, ring.attempted, ring.dropped, ring.spilled, ring.last_dropped)
                    for source, ring in rings.items()
                ],
            )

        self._transaction(work)

    def read(self, after: int, max_bytes: int) -> list[Batch]:
        """As Spool.read."""
        batches: list[Batch] = []
        size = 0
        try:
            rows = self.connection.execute(
                "SELECT first, count, crc, frames FROM batch"
                " WHERE first > (SELECT coalesce(max(first), 0) - 1 FROM batch WHERE first <= ?)"
                " AND first + count > ? ORDER BY first",
                (after + 1, after + 1),
            )
            for first, count, crc, frames in rows:
                if batches and size + len(frames) > max_bytes:
                    break
                if zlib.crc32(frames) != crc:
                    batches.append(Batch(first, count, b""))
                    break
                batches.append(Batch(first, count, frames))
                size += len(frames)
            rows.close()
        except sqlite3.Error as exc:
            self._abandon()
            raise SpoolError(f"the spool's disk: {exc}") from exc
        return batches

    def frames(self, first: int) -> bytes:
        """The bytes of one batch as they are, right or wrong."""
        try:
            row = self.connection.execute("SELECT frames FROM batch WHERE first = ?", (first,)).fetchone()
        except sqlite3.Error as exc:
            self._abandon()
            raise SpoolError(f"the spool's disk: {exc}") from exc
        return bytes(row[0]) if row is not None else b""

    def rewrite(self, batch: Batch, quarantined: list[Quarantined]) -> None:
        """A batch with other frames under the same numbers, and what was taken out of it."""

        def work(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?)", quarantined)
            database.execute(
                "UPDATE batch SET frames = ?, crc = ? WHERE first = ?",
                (batch.frames, zlib.crc32(batch.frames), batch.first),
            )

        self._transaction(work)

    def skip_to(self, seq: int) -> None:
        """No record after this has a number up to `seq`."""

        def work(database: sqlite3.Connection) -> None:
            (last,) = database.execute(
                "SELECT max((SELECT coalesce(max(first + count - 1), 0) FROM batch),"
                " (SELECT coalesce(max(value), 0) FROM meta WHERE key = 'last'))"
            ).fetchone()
            database.execute("INSERT OR REPLACE INTO meta VALUES ('last', ?)", (seq,))
            database.execute(
                "INSERT INTO meta VALUES ('skipped', ?) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
                (max(0, seq - last),),
            )

        self._transaction(work)

    def trim(self, window: Window, last: int) -> tuple[int, int]:
        """Delete what is outside the window, a bounded number of batches; how many records and bytes went."""

        def work(database: sqlite3.Connection) -> tuple[int, int]:
            clock = self._clock()
            database.executemany(
                "UPDATE meta SET value = ? WHERE key = ?",
                [(window.shipped, "shipped"), (window.lost, "lost"), (clock, "clock")],
            )
            records, kept = 0, window.bytes
            rows = database.execute(
                "SELECT first, count, clock, length(frames) FROM batch"
                " WHERE first + count - 1 <= ? ORDER BY first LIMIT ?",
                (window.shipped, _TRIM_ROWS),
            ).fetchall()
            for first, count, at, length in rows:
                if clock - at < window.replay_s and kept <= window.keep_bytes:
                    break
                database.execute("DELETE FROM batch WHERE first = ?", (first,))
                records, kept = records + count, kept - length
            if records:
                database.execute("INSERT OR REPLACE INTO meta VALUES ('last', ?)", (last,))
            return records, window.bytes - kept

        result = self._transaction(work)
        if result[0]:
            try:
                self.connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            except sqlite3.Error as exc:
                self._abandon()
                log.warning("spool: %s", exc)
        return result

    def probe(self) -> int:
        """Write something that reaches the disk (random: writing what is there already would not).

        Returns how many records are in quarantine, where slurmjc may have taken some out.
        """

        def work(database: sqlite3.Connection) -> int:
            database.execute("INSERT OR REPLACE INTO meta VALUES ('checked', random())")
            return int(database.execute("SELECT count(*) FROM quarantine").fetchone()[0])

        return self._transaction(work)

    def close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
