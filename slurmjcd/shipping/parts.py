# SPDX-License-Identifier: MIT
"""The spool as the shards of the store see it: each its own records, and how far each has come.

Numbers stay the spool's. Of a batch a shard gets a part: those of the records whose jobs are its own, maybe none, but
always with all the batch's numbers, so that its watermark passes them. A batch is split once, for all shards.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from slurmjcd import protocol
from slurmjcd.record import peek_job_id
from slurmjcd.spool.batch import Batch
from slurmjcd.spool.spool import Spool
from slurmjcd.spool.spooldb import SpoolState
from slurmjcd.store.shards import shard_of

_READ_BYTES: Final = 8 * 1024 * 1024
_SPLIT_BYTES: Final = 1024 * 1024  # split without a pause, a few milliseconds
_KEPT_BYTES: Final = 32 * 1024 * 1024  # of batches that were split, for shards that come later


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard gets of the numbers `first` to `last`: `count` records.

    Args:
        offsets: of each record's number from `first`; None: 0, 1, 2, …
        batch: where it is from; None where the spool has skipped these numbers.
        damaged: its bytes have changed on disk, so nobody knows whose records they were.
    """

    first: int
    last: int
    count: int
    frames: bytes
    committed_at: float = 0.0
    offsets: tuple[int, ...] | None = None
    batch: Batch | None = None
    damaged: bool = False


def whole(batch: Batch) -> Part:
    """A batch as the part of the only shard."""
    return Part(
        batch.first, batch.last, batch.count, batch.frames, batch.committed_at, batch=batch, damaged=not batch.frames
    )


def split(batch: Batch, shards: int) -> list[Part]:
    """A batch's part for each shard. What can't be read goes to the first, which finds it malformed."""
    frames = batch.frames
    pieces: list[list[bytes]] = [[] for _ in range(shards)]
    offsets: list[list[int]] = [[] for _ in range(shards)]
    begin = 0
    for offset, (start, end) in enumerate(protocol.frame_bounds(frames)):
        if start < end:  # it is empty when it is in quarantine
            shard = shard_of(peek_job_id(frames, start, end) or 0, shards)
            pieces[shard].append(frames[begin : end + 2])
            offsets[shard].append(offset)
        begin = end + 2
    return [
        Part(batch.first, batch.last, len(places), b"".join(cut), batch.committed_at, tuple(places), batch)
        for cut, places in zip(pieces, offsets, strict=True)
    ]


class SpoolParts:
    """One spool for all shards."""

    def __init__(self, spool: Spool, shards: int) -> None:
        self.spool, self.shards = spool, shards
        self.shipped = [spool.state.shipped] * shards
        self.counted_lost = 0  # highest number that was counted as lost
        self.changing = asyncio.Lock()  # held while a batch gets other frames
        self._reading = asyncio.Lock()
        self._split: OrderedDict[int, list[Part]] = OrderedDict()  # by the batch's first number
        self._split_bytes = 0

    def part(self, shard: int) -> SpoolPart:
        return SpoolPart(self, shard)

    async def read(self, shard: int, after: int) -> list[Part]:
        """The parts of a shard from the one with number `after + 1` on, at least one if there is any."""
        if self.shards == 1:
            return [whole(batch) for batch in await self.spool.read(after, max_bytes=_READ_BYTES)]
        parts = self._known(shard, after)
        if parts:
            return parts
        async with self._reading:  # others wait for the same numbers
            parts = self._known(shard, after)
            if parts:
                return parts
            batches = await self.spool.read(after, max_bytes=_SPLIT_BYTES)
            hole_end = batches[0].first - 1 if batches else self.spool.state.last
            if self.spool.state.oldest <= after + 1 <= hole_end:
                return [Part(after + 1, hole_end, 0, b"")]
            return self._cut(shard, batches)

    def _known(self, shard: int, after: int) -> list[Part]:
        parts: list[Part] = []
        while (cut := self._split.get(after + 1)) is not None:
            parts.append(cut[shard])
            after = cut[shard].last
        return parts

    def _cut(self, shard: int, batches: list[Batch]) -> list[Part]:
        parts: list[Part] = []
        size = 0
        for batch in batches:
            size += len(batch.frames)
            if not batch.frames:
                return [*parts, whole(batch)]
            cut = split(batch, self.shards)
            parts.append(cut[shard])
            self._keep(batch, cut)
            if size > _SPLIT_BYTES:
                break
        return parts

    def _keep(self, batch: Batch, cut: list[Part]) -> None:
        self.forget(batch.first)
        self._split[batch.first] = cut
        self._split_bytes += len(batch.frames)
        while self._split_bytes > _KEPT_BYTES:
            self.forget(next(iter(self._split)))

    def forget(self, first: int) -> None:
        """The batch that begins there has changed."""
        cut = self._split.pop(first, None)
        if cut is not None and cut[0].batch is not None:
            self._split_bytes -= len(cut[0].batch.frames)

    def moved(self) -> None:
        """Some shard has come further, or gone back: the spool is shipped as far as all of them are."""
        least = min(self.shipped)
        if least < self.spool.state.shipped:
            self.spool.rewound(least)
        else:
            self.spool.confirm(least)


class SpoolPart:
    """The spool as one shard's shipper uses it."""

    def __init__(self, parts: SpoolParts, shard: int) -> None:
        self._parts, self._shard = parts, shard
        self.arrived = parts.spool.follow()  # set at each commit; the shipper clears it

    @property
    def is_whole(self) -> bool:
        """Whether there is only this one."""
        return self._parts.shards == 1

    @property
    def state(self) -> SpoolState:
        return self._parts.spool.state

    @property
    def shipped(self) -> int:
        """Highest number that this shard has confirmed."""
        return min(self._parts.shipped[self._shard], self.state.last)

    @property
    def backlog(self) -> int:
        """Numbers that this shard has not confirmed, other shards' records among them."""
        return self.state.last - self.shipped

    async def read(self, after: int) -> list[Part]:
        return await self._parts.read(self._shard, after)

    def confirm(self, seq: int) -> None:
        """This shard has its records up to `seq`, as durably as configured."""
        shipped = self._parts.shipped
        shipped[self._shard] = max(shipped[self._shard], min(seq, self.state.last))
        self._parts.moved()

    def rewound(self, seq: int) -> None:
        """This shard has its records only up to `seq` now."""
        shipped = self._parts.shipped
        shipped[self._shard] = max(min(shipped[self._shard], seq), 0)
        self._parts.moved()

    async def skip_to(self, seq: int) -> None:
        await self._parts.spool.skip_to(seq)

    def count_lost(self, first: int, last: int) -> int:
        """Count numbers as gone for good, each once whichever shards lost it; how many were new."""
        parts = self._parts
        new = last - max(first, parts.counted_lost + 1) + 1
        if new > 0:
            parts.counted_lost = last
            parts.spool.count_lost(new)
        return max(new, 0)

    async def set_aside(self, part: Part, index: int, why: str) -> int:
        """Put record `index` of a part into quarantine; its number in the spool."""
        offset = index if part.offsets is None else part.offsets[index]
        batch = part.batch
        assert batch is not None  # numbers that were skipped have no record
        async with self._parts.changing:
            if not self.is_whole:  # another shard may have set one of the same batch aside
                batch = next(iter(await self._parts.spool.read(batch.first - 1, max_bytes=1)), batch)
            await self._parts.spool.quarantine(batch, {offset: why})
            self._parts.forget(batch.first)
        return batch.first + offset

    async def set_damaged_aside(self, part: Part) -> int:
        """Put a damaged batch into quarantine; how many records, 0 when another shard has done it."""
        batch = part.batch
        assert batch is not None
        async with self._parts.changing:
            found = await self._parts.spool.read(batch.first - 1, max_bytes=1)
            if not found or found[0].frames:
                return 0
            await self._parts.spool.quarantine_damaged(batch)
        return batch.count
