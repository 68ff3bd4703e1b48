# SPDX-License-Identifier: MIT
"""The spool: records on disk before they are acknowledged, kept until they are in Redis and the replay window is over.

One thread owns the database (spooldb.py); the event loop sees copies of its numbers. A batch is one row: its records'
frames as they came. Sequence numbers start at 1 and have no holes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from slurmjcd import protocol
from slurmjcd.errors import SpoolError, SpoolFull
from slurmjcd.spool.ages import Ages
from slurmjcd.spool.batch import Batch, Intake, Ring, cut
from slurmjcd.spool.spooldb import Quarantined, SpoolDatabase, SpoolState, Window

log = logging.getLogger(__name__)

T = TypeVar("T")
_TAIL_BYTES: Final = 16 * 1024 * 1024  # latest batches kept in memory, so that a shipper that keeps up reads no disk


class Spool:
    """The spool of one daemon. Open it with `await Spool.open(…)`, end with `await close()`."""

    def __init__(self, path: Path, *, max_bytes: int, replay_s: float, replay_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.replay_s = replay_s
        self.replay_bytes = replay_bytes
        self.state = SpoolState()
        self.ages = Ages()  # of what is not shipped
        self._followers: list[asyncio.Event] = []
        self._tail: deque[Batch] = deque()
        self._tail_bytes = 0
        self._closed = False
        self.refused = asyncio.Event()  # set when append had no room; whoever trims clears it
        self._refused_bytes = 0  # what append had no room for, until it has taken something
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.database = SpoolDatabase(path)  # all its methods run in the thread

    @classmethod
    async def open(cls, path: Path, *, max_bytes: int, replay_s: float, replay_bytes: int) -> Spool:
        """Open or make the spool at `path`.

        Raises:
            SpoolError: the file is foreign or can't be used.
        """
        spool = cls(path, max_bytes=max_bytes, replay_s=replay_s, replay_bytes=replay_bytes)
        try:
            spool.state = await spool._in_thread(spool.database.load)
        except BaseException:
            spool._thread.shutdown(wait=False)
            raise
        if spool.state.backlog:
            spool.ages.came(spool.state.last)
        return spool

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

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
            self._refused_bytes = size
            self.refused.set()
            raise SpoolFull(
                f"the spool has reached spool.max_bytes ({self.max_bytes}) "
                f"with {state.backlog} records not in Redis yet"
            )
        batches = cut(intakes, state.last + 1)
        try:
            await self._in_thread(lambda: self.database.append(batches, intakes, rings))
        except SpoolError as exc:
            state.error = str(exc)
            raise
        state.error = None
        state.watermarks.update((intake.source, intake.last) for intake in intakes)
        state.rings.update(rings)
        if batches:
            self._refused_bytes = 0
            state.last, state.bytes = batches[-1].last, state.bytes + size
            self.ages.came(state.last)
            self._keep(batches)
            self._tell_followers()

    @property
    def full(self) -> bool:
        """Whether the next records will be refused, or those that were last refused would be again."""
        return self.state.bytes + max(self._refused_bytes, self.max_bytes // 50) > self.max_bytes

    @property
    def waiting_bytes(self) -> float:
        """Bytes of what is not shipped, taking records for equally long."""
        state = self.state
        kept = max(1, state.last - state.oldest + 1)
        return state.bytes * min(1.0, state.backlog / kept)

    async def _settle(self) -> None:
        """After a failed transaction, take over what the file holds: it may have got there all the same.

        Raises:
            SpoolError: the disk still fails, or records are there that were refused (senders have to ask again).
        """
        if not self.database.in_doubt:
            return
        state = self.state
        try:
            found = await self._in_thread(self.database.load)
        except SpoolError as exc:
            state.error = str(exc)
            raise
        self.database.in_doubt = False
        self._tail.clear()
        self._tail_bytes = 0
        changed = found.watermarks != state.watermarks or found.last != state.last
        for name in ("spool_id", "oldest", "last", "bytes", "watermarks", "rings", "quarantined"):
            setattr(state, name, getattr(found, name))
        state.shipped = min(state.shipped, state.last)
        if changed:
            log.warning("spool: what a failed commit wrote is there after all; records up to %d", state.last)
            self.ages.came(state.last)
            self._tell_followers()
            raise SpoolError("the spool's disk failed a moment ago: send again")

    def follow(self) -> asyncio.Event:
        """An event that is set at each commit; whoever follows clears it."""
        event = asyncio.Event()
        self._followers.append(event)
        return event

    def _tell_followers(self) -> None:
        for event in self._followers:
            event.set()

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
        return await self._in_thread(lambda: self.database.read(after, max_bytes))

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
        frames = await self._in_thread(lambda: self.database.frames(batch.first))
        reason = f"checksum of records {batch.first} to {batch.last} is wrong: damaged on disk"
        changed = Batch(batch.first, batch.count, protocol.EMPTY_FRAME * batch.count)
        await self._rewrite(changed, [(batch.first, self.state.spool_id, int(time.time()), reason, frames)])
        return changed

    async def _rewrite(self, batch: Batch, quarantined: list[Quarantined]) -> None:
        await self._in_thread(lambda: self.database.rewrite(batch, quarantined))
        self._tail.clear()
        self._tail_bytes = 0
        self.state.quarantined += len(quarantined)

    def confirm(self, seq: int) -> None:
        """Records up to `seq` are in the store, as durably as configured. `trim` writes it down."""
        state = self.state
        state.shipped = max(state.shipped, min(seq, state.last))
        self.ages.went(state.shipped)

    def count_lost(self, records: int) -> None:
        """Count records that are gone for good. `trim` writes it down."""
        self.state.lost += records

    def rewound(self, seq: int) -> None:
        """The store holds records only up to `seq` now."""
        state = self.state
        state.shipped = max(min(state.shipped, seq), 0)
        if state.backlog:
            self.ages.came(state.last)

    async def skip_to(self, seq: int) -> None:
        """Number the next record `seq + 1`: the store knows numbers that this file doesn't (it was set back)."""
        await self._in_thread(lambda: self.database.skip_to(seq))
        self.state.last = max(self.state.last, seq)

    async def trim(self) -> int:
        """Delete batches that are shipped and outside the replay window; the number of records that went."""
        state = self.state
        # the replay window gives way before the spool refuses new records
        room = max(self.max_bytes // 4, self._refused_bytes)
        keep_bytes = min(self.replay_bytes, max(0, self.max_bytes - room))
        window = Window(state.shipped, state.lost, state.bytes, self.replay_s, keep_bytes)
        last = state.last
        records, freed = await self._in_thread(lambda: self.database.trim(window, last))
        state.oldest += records
        state.bytes -= freed
        return records

    async def check_writable(self) -> None:
        """Raise SpoolError unless a transaction reaches the disk."""
        try:
            self.state.quarantined = await self._in_thread(self.database.probe)
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
        await self._in_thread(self.database.close)
        self._thread.shutdown()
