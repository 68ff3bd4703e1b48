# SPDX-License-Identifier: MIT
"""The spool: records on disk before they are acknowledged, kept until they are in Redis and the replay window is over.

One writer thread owns the database; the event loop sees copies of its numbers. A batch is one row: its records' frames
as they came. Sequence numbers start at 1 and have no holes.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from slurmjcd import protocol, spoolfile
from slurmjcd.errors import SpoolError, SpoolFull

log = logging.getLogger(__name__)

T = TypeVar("T")
_TRIM_ROWS: Final = 256  # batches deleted in one transaction, so that no commit waits long behind a trim
_VACUUM_PAGES: Final = 256
_ROW_RECORDS: Final = 1000  # a batch larger than this is cut, so that it is no long command for Redis
_ROW_BYTES: Final = 512 * 1024
_TAIL_BYTES: Final = 16 * 1024 * 1024  # latest batches kept in memory, so that a shipper that keeps up reads no disk


@dataclass(frozen=True, slots=True)
class Batch:
    """Records `first` to `first + count - 1` of the spool."""

    first: int
    count: int
    frames: bytes
    committed_at: float = 0.0  # monotonic seconds, 0 when it was read back from disk

    @property
    def last(self) -> int:
        return self.first + self.count - 1


@dataclass(frozen=True, slots=True)
class Intake:
    """Records of one source that a commit takes in: all are new, `last` is the source's watermark after it."""

    source: str
    last: int
    count: int
    frames: bytes


@dataclass(slots=True)
class Ring:
    """The counters of a plugin's ring, as it last told them."""

    attempted: int = 0
    dropped: int = 0
    spilled: int = 0
    last_dropped: int | None = None


@dataclass(slots=True)
class SpoolState:
    """What the event loop may know of the spool without asking the disk."""

    spool_id: str = ""
    oldest: int = 1  # first sequence number still kept
    last: int = 0  # highest sequence number committed
    shipped: int = 0  # highest that was confirmed by the store
    bytes: int = 0  # of frames kept
    unshipped_since: float | None = None  # monotonic time when the oldest unshipped record came
    watermarks: dict[str, int] = field(default_factory=dict)
    rings: dict[str, Ring] = field(default_factory=dict)
    quarantined: int = 0
    lost: int = 0  # records known to be gone for good
    error: str | None = None  # why the last commit failed

    @property
    def backlog(self) -> int:
        return self.last - self.shipped


class Spool:
    """The spool of one daemon. Open it with `await Spool.open(…)`, end with `await close()`."""

    def __init__(self, path: Path, *, max_bytes: int, replay_s: float, replay_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.replay_s = replay_s
        self.replay_bytes = replay_bytes
        self.state = SpoolState()
        self.arrived = asyncio.Event()  # set at each commit; the shipper clears it
        self._tail: deque[Batch] = deque()
        self._tail_bytes = 0
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._database: sqlite3.Connection | None = None
        self._clock_base = 0
        self._in_doubt = False  # a transaction failed: what it wrote may be on disk or not
        self._opened_at = time.monotonic()

    @classmethod
    async def open(cls, path: Path, *, max_bytes: int, replay_s: float, replay_bytes: int) -> Spool:
        """Open or make the spool at `path`.

        Raises:
            SpoolError: the file is foreign or can't be used.
        """
        spool = cls(path, max_bytes=max_bytes, replay_s=replay_s, replay_bytes=replay_bytes)
        try:
            spool.state = await spool._in_thread(spool._load)
        except BaseException:
            spool._thread.shutdown(wait=False)
            raise
        if spool.state.backlog:
            spool.state.unshipped_since = time.monotonic()
        return spool

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # ---- in the writer thread ------------------------------------------------------------------------------------

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            self._database, _ = spoolfile.open_file(self.path)
        return self._database

    def _load(self) -> SpoolState:
        """What the file says."""
        state = SpoolState()
        try:
            database = self._db
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
        return self._clock_base + int(time.monotonic() - self._opened_at)

    def _transaction(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work` in one transaction. When this returns its effect is on disk; when it raises there is none."""
        try:
            database = self._db
            database.execute("BEGIN IMMEDIATE")
            work(database)
            database.execute("COMMIT")
        except sqlite3.Error as exc:
            self._abandon()
            raise SpoolError(f"the spool's disk: {exc}") from exc

    def _abandon(self) -> None:
        """Forget a connection whose transaction failed: the next one starts from what is really on disk."""
        self._in_doubt = True
        database, self._database = self._database, None
        if database is None:
            return
        for step in (database.rollback, database.close):
            try:
                step()
            except sqlite3.Error as exc:
                log.debug("after a failed transaction: %s", exc)

    def _append(self, batches: list[Batch], intakes: list[Intake], rings: dict[str, Ring]) -> None:
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

    def _read(self, after: int, max_bytes: int) -> list[Batch]:
        batches: list[Batch] = []
        size = 0
        try:
            rows = self._db.execute(
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

    # ---- on the event loop ---------------------------------------------------------------------------------------

    async def append(self, intakes: list[Intake], rings: dict[str, Ring]) -> None:
        """Commit records and counters. Call it again only after it has returned.

        Raises:
            SpoolFull: the spool has reached its size limit; nothing was taken.
            SpoolError: the disk failed; nothing was taken.
        """
        await self._settle()
        state = self.state
        size = sum(len(intake.frames) for intake in intakes)
        if size and state.bytes + size > self.max_bytes:
            raise SpoolFull(
                f"the spool has reached spool.max_bytes ({self.max_bytes}) with {state.backlog} records not in Redis yet"
            )
        batches = _rows(intakes, state.last + 1)
        try:
            await self._in_thread(lambda: self._append(batches, intakes, rings))
        except SpoolError as exc:
            state.error = str(exc)
            raise
        state.error = None
        state.watermarks.update((intake.source, intake.last) for intake in intakes)
        state.rings.update(rings)
        if batches:
            if not state.backlog:
                state.unshipped_since = time.monotonic()
            state.last, state.bytes = batches[-1].last, state.bytes + size
            self._keep(batches)
            self.arrived.set()

    async def _settle(self) -> None:
        """After a failed transaction, take over what the file holds: it may have got there all the same.

        Raises:
            SpoolError: the disk still fails, or records are there that were refused (senders have to ask again).
        """
        if not self._in_doubt:
            return
        state = self.state
        try:
            found = await self._in_thread(self._load)
        except SpoolError as exc:
            state.error = str(exc)
            raise
        self._in_doubt = False
        self._tail.clear()
        self._tail_bytes = 0
        changed = found.watermarks != state.watermarks or found.last != state.last
        for name in ("spool_id", "oldest", "last", "bytes", "watermarks", "rings", "quarantined"):
            setattr(state, name, getattr(found, name))
        state.shipped = min(state.shipped, state.last)
        if changed:
            log.warning("spool: what a failed commit wrote is there after all; records up to %d", state.last)
            if state.backlog and state.unshipped_since is None:
                state.unshipped_since = time.monotonic()
            self.arrived.set()
            raise SpoolError("the spool's disk failed a moment ago: send again")

    def _keep(self, batches: list[Batch]) -> None:
        self._tail.extend(batches)
        self._tail_bytes += sum(len(batch.frames) for batch in batches)
        while self._tail_bytes > _TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft().frames)

    async def read(self, after: int, *, max_bytes: int) -> list[Batch]:
        """Whole batches from the one that holds record `after + 1`, at least one if there is any.

        A batch whose bytes have changed on disk comes back with no frames and ends the list.
        """
        tail = self._tail
        while tail and tail[0].last <= after:
            self._tail_bytes -= len(tail.popleft().frames)
        if tail and tail[0].first <= after + 1:
            return list(tail)
        if after >= self.state.last:
            return []
        return await self._in_thread(lambda: self._read(after, max_bytes))

    async def quarantine(self, batch: Batch, records: dict[int, str]) -> Batch:
        """Put records of a batch (by index, with the reason) aside; empty frames keep their numbers. The new batch."""
        kept = protocol.split_frames(batch.frames)
        now, spool_id = int(time.time()), self.state.spool_id
        rows = [(batch.first + index, spool_id, now, reason, kept[index]) for index, reason in records.items()]
        for index in records:
            kept[index] = b""
        changed = Batch(batch.first, batch.count, protocol.join_frames(kept))
        await self._rewrite(changed, rows)
        return changed

    async def quarantine_damaged(self, batch: Batch) -> Batch:
        """Put a batch whose checksum is wrong aside, bytes and all, as one quarantine entry."""
        row = await self._in_thread(
            lambda: self._db.execute("SELECT frames FROM batch WHERE first = ?", (batch.first,)).fetchone()
        )
        reason = f"checksum of records {batch.first} to {batch.last} is wrong: damaged on disk"
        changed = Batch(batch.first, batch.count, protocol.EMPTY_FRAME * batch.count)
        await self._rewrite(changed, [(batch.first, self.state.spool_id, int(time.time()), reason, row[0])])
        return changed

    async def _rewrite(self, batch: Batch, quarantined: list[tuple[int, str, int, str, bytes]]) -> None:
        def work(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?)", quarantined)
            database.execute(
                "UPDATE batch SET frames = ?, crc = ? WHERE first = ?",
                (batch.frames, zlib.crc32(batch.frames), batch.first),
            )

        await self._in_thread(lambda: self._transaction(work))
        self._tail.clear()
        self._tail_bytes = 0
        self.state.quarantined += len(quarantined)

    def confirm(self, seq: int) -> None:
        """Records up to `seq` are in the store, as durably as configured. `trim` writes it down."""
        state = self.state
        state.shipped = max(state.shipped, min(seq, state.last))
        state.unshipped_since = time.monotonic() if state.backlog else None

    def count_lost(self, records: int) -> None:
        """Count records that are gone for good. `trim` writes it down."""
        self.state.lost += records

    def rewound(self, seq: int) -> None:
        """The store holds records only up to `seq` now."""
        state = self.state
        state.shipped = max(min(state.shipped, seq), 0)
        if state.backlog and state.unshipped_since is None:
            state.unshipped_since = time.monotonic()

    async def skip_to(self, seq: int) -> None:
        """Number the next record `seq + 1`: the store knows numbers that this file doesn't (it was set back)."""
        state = self.state
        await self._in_thread(
            lambda: self._transaction(
                lambda database: void(database.execute("INSERT OR REPLACE INTO meta VALUES ('last', ?)", (seq,)))
            )
        )
        state.last = max(state.last, seq)

    async def trim(self) -> int:
        """Delete batches that are shipped and outside the replay window; the number of records that went."""
        state = self.state
        shipped, lost, size = state.shipped, state.lost, state.bytes

        def work(database: sqlite3.Connection) -> tuple[int, int]:
            clock = self._clock()
            database.executemany(
                "UPDATE meta SET value = ? WHERE key = ?",
                [(shipped, "shipped"), (lost, "lost"), (clock, "clock")],
            )
            records, kept = 0, size
            rows = database.execute(
                "SELECT first, count, clock, length(frames) FROM batch WHERE first + count - 1 <= ? ORDER BY first LIMIT ?",
                (shipped, _TRIM_ROWS),
            ).fetchall()
            for first, count, at, length in rows:
                unshipped_room = kept > self.replay_bytes or kept > self.max_bytes * 3 // 4
                if clock - at < self.replay_s and not unshipped_room:
                    break
                database.execute("DELETE FROM batch WHERE first = ?", (first,))
                records, kept = records + count, kept - length
            if records:
                database.execute("INSERT OR REPLACE INTO meta VALUES ('last', ?)", (state.last,))
            return records, size - kept

        def run() -> tuple[int, int]:
            result = (0, 0)

            def keep(database: sqlite3.Connection) -> None:
                nonlocal result
                result = work(database)

            self._transaction(keep)
            if result[0]:
                self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            return result

        records, freed = await self._in_thread(run)
        state.oldest += records
        state.bytes -= freed
        return records

    async def check_writable(self) -> None:
        """Raise SpoolError unless a transaction reaches the disk."""
        try:
            await self._in_thread(lambda: self._transaction(lambda database: void(
                # random: writing what is there already would not reach the disk
                database.execute("INSERT OR REPLACE INTO meta VALUES ('checked', random())")
            )))  # fmt: skip
        except SpoolError as exc:
            self.state.error = str(exc)
            raise
        self.state.error = None

    async def close(self) -> None:
        """Write down what is shipped and close the file; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.trim()
        except SpoolError as exc:
            log.warning("spool: at close: %s", exc)
        await self._in_thread(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _rows(intakes: list[Intake], first: int) -> list[Batch]:
    """Batches of a handy size from what several sources brought, numbered from `first`."""
    now = time.monotonic()
    batches: list[Batch] = []
    frames: list[bytes] = []
    count = size = 0
    for part_count, part in _parts(intakes):
        if frames and (count + part_count > _ROW_RECORDS or size + len(part) > _ROW_BYTES):
            batches.append(Batch(first, count, b"".join(frames), now))
            first, count, size, frames = first + count, 0, 0, []
        frames.append(part)
        count, size = count + part_count, size + len(part)
    if frames:
        batches.append(Batch(first, count, b"".join(frames), now))
    return batches


def _parts(intakes: list[Intake]) -> Iterator[tuple[int, bytes]]:
    """Count and frames of each intake, those that are too large cut between records."""
    for intake in intakes:
        if intake.count <= _ROW_RECORDS and len(intake.frames) <= _ROW_BYTES:
            yield intake.count, intake.frames
            continue
        begin, end, count = 0, 0, 0
        for _, stop in protocol.frame_bounds(intake.frames):
            if count and (count == _ROW_RECORDS or stop + 2 - begin > _ROW_BYTES):
                yield count, intake.frames[begin:end]
                begin, count = end, 0
            end, count = stop + 2, count + 1
        yield count, intake.frames[begin:end]


def void(_: object) -> None:
    """Drop a result."""
