# SPDX-License-Identifier: MIT
"""Group commit: what all ingest connections bring is put into the spool together, and only then answered.

One commit runs at a time and what arrives meanwhile makes the next one, so batches grow by themselves on a slow disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from slurmjcd import protocol
from slurmjcd.backoff import Quiet
from slurmjcd.errors import SpoolError, SpoolFull
from slurmjcd.health.metrics import Metrics
from slurmjcd.spool.batch import Intake, Ring
from slurmjcd.spool.spool import Spool

log = logging.getLogger(__name__)

Answer = Callable[[bytes], None]
_OVERHEAD_BYTES: Final = 200  # what a waiting item costs beside its records


@dataclass(slots=True)
class Item:
    """Something to commit and whom to answer then."""

    answer: Answer
    reply: bytes
    intake: Intake | None = None
    ring: tuple[str, Ring] | None = None

    @property
    def size(self) -> int:
        return _OVERHEAD_BYTES + (len(self.intake.frames) if self.intake else 0)


class Committer:
    """Takes records in order of each source's numbers and commits them in batches."""

    def __init__(
        self, spool: Spool, metrics: Metrics, *, batch_records: int, batch_bytes: int, batch_ms: float
    ) -> None:
        self._spool, self.metrics = spool, metrics
        self._batch_records, self._batch_bytes, self._batch_s = batch_records, batch_bytes, batch_ms / 1000
        self._queue: deque[Item] = deque()
        self._accepted = dict(spool.state.watermarks)  # by source: committed or waiting in the queue
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._quiet = Quiet()
        self._closing = False
        self._queued_records = self._queued_bytes = 0
        self.pending_bytes = 0
        self.on_progress: Callable[[], None] = lambda: None

    def put(self, source: str, seq: int, request: protocol.Request, answer: Answer) -> None:
        """Take the records of a PUT, or refuse them at once; `answer` is called with the reply, maybe before return."""
        known = self._accepted.get(source, 0)
        if seq > known + 1:
            answer(protocol.error("OUTOFSEQ", str(known + 1)))
            return
        self.metrics.records_received.inc(request.count)
        frames, count = request.frames, request.count
        repeated = min(count, known + 1 - seq)
        if repeated:
            self.metrics.records_repeated.inc(repeated)
            frames, count = protocol.skip_frames(frames, repeated), count - repeated
        last = seq + request.count - 1
        if count:
            self._accepted[source] = last
        intake = Intake(source, last, count, frames) if count else None
        # a repeat is answered behind what is waiting: its first copy may be there, not yet on disk
        self._enqueue(Item(answer, protocol.integer(count), intake=intake))

    def put_next(self, source: str, records: Sequence[bytes], answer: Answer) -> None:
        """Take records of a source that has no numbers of its own: they get the next ones."""
        request = protocol.Request([], protocol.join_frames(records), len(records))
        self.put(source, self._accepted.get(source, 0) + 1, request, answer)

    def ring(self, source: str, ring: Ring, answer: Answer) -> None:
        """Take a ring's counters."""
        self._enqueue(Item(answer, protocol.OK, ring=(source, ring)))

    def _enqueue(self, item: Item) -> None:
        self._queue.append(item)
        self.pending_bytes += item.size
        self._queued_bytes += item.size
        self._queued_records += item.intake.count if item.intake else 0
        self._wake.set()
        if self._queued_records >= self._batch_records or self._queued_bytes >= self._batch_bytes:
            self._full.set()

    async def run(self) -> None:
        """Commit until `close`; then what is queued, and return."""
        while True:
            await self._wake.wait()
            if not self._queue and self._closing:
                return
            if self._batch_s and not self._closing and not self._full.is_set():
                try:
                    async with asyncio.timeout(self._batch_s):
                        await self._full.wait()
                except TimeoutError:
                    pass
            items = self._take()
            await self._commit(items)
            self._finish(items)

    def _take(self) -> list[Item]:
        """The next batch: at least one item, then as many as fit, also into the room that a small spool keeps free."""
        items: list[Item] = []
        limit = min(self._batch_bytes, self._spool.max_bytes // 4)
        records = size = 0
        while self._queue:
            item = self._queue[0]
            count = item.intake.count if item.intake else 0
            if items and (records + count > self._batch_records or size + item.size > limit):
                break
            items.append(self._queue.popleft())
            records, size = records + count, size + item.size
        self._queued_records -= records
        self._queued_bytes -= size
        return items

    def _finish(self, items: list[Item]) -> None:
        self.pending_bytes -= sum(item.size for item in items)
        if not self._queue and not self._closing:
            self._wake.clear()
        if self._queued_records < self._batch_records and self._queued_bytes < self._batch_bytes:
            self._full.clear()
        self.on_progress()

    async def _commit(self, items: list[Item]) -> None:
        intakes = [item.intake for item in items if item.intake is not None]
        rings = dict(item.ring for item in items if item.ring is not None)
        started = time.perf_counter()
        try:
            if intakes or rings:
                await self._spool.append(intakes, rings)
        except SpoolFull as exc:
            self._refuse(items, exc, "full")
            return
        except SpoolError as exc:
            self.metrics.commit_failures.inc()
            self._refuse(items, exc, "disk")
            return
        self.metrics.commit_seconds.observe(time.perf_counter() - started)
        self.metrics.rings.tell(rings)
        self.metrics.records_spooled.inc(sum(intake.count for intake in intakes))
        for item in items:
            item.answer(item.reply)
        for intake in intakes:
            self.metrics.jobs.take(intake.frames, intake.count)

    def _refuse(self, items: list[Item], error: SpoolError, reason: str) -> None:
        """Nothing of these was taken, so nothing that waits behind them can be either."""
        if self._quiet.allows(type(error).__name__):
            log.error("records are not taken: %s", error)
        text = protocol.error("TRYAGAIN", str(error))
        waiting = list(self._queue)
        self._queue.clear()
        self.pending_bytes -= sum(item.size for item in waiting)
        self._queued_records = self._queued_bytes = 0
        self._accepted = dict(self._spool.state.watermarks)
        refused = sum(item.intake.count for item in items + waiting if item.intake)
        self.metrics.records_refused.labels(reason).inc(refused)
        for item in items + waiting:
            item.answer(text)

    def close(self) -> None:
        """Let `run` commit what is queued and return."""
        self._closing = True
        self._wake.set()
        self._full.set()
