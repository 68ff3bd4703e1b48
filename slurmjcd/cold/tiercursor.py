# SPDX-License-Identifier: MIT
"""An open question to Redis and files: their rows in order of completion, each run once.

After each page of Redis the files are looked for anew. What is not in that page any more, because its day was moved, is
in the file that is found then; where files changed, what comes behind the last row told is read again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slurmjcd.cold.engine import Runs, binary
from slurmjcd.cold.files import DAY_S, DayFile
from slurmjcd.cold.hot import order_of
from slurmjcd.cold.mapped import upstream_row
from slurmjcd.cold.reader import Summary
from slurmjcd.criteria import Criteria
from slurmjcd.query import fanout
from slurmjcd.query.fanout import PAGE_BYTES, MergedQuery
from slurmjcd.query.merging import Page, row_key
from slurmjcd.query.sources import Cursor, ShardSource, record_of

if TYPE_CHECKING:
    from slurmjcd.cold.tier import ColdTier, Plan

_PAGE: Final = 2000  # rows of Redis at a time
_KEY_BYTES: Final = 12
_READ_ROWS: Final = 1000  # of files in one go, or one row group, ...
_READ_S: Final = 0.05  # ... or for so long, or one row group

Row = tuple[int, bytes]  # key as merging.row_key has it, record


class _Keyed:
    """A shard whose rows begin with their key, since what merges them drops keys."""

    def __init__(self, shard: ShardSource) -> None:
        self._shard = shard
        self.name = shard.name

    async def open(self, asked: Criteria) -> Cursor | None:
        cursor = await self._shard.open(asked)
        return _KeyedCursor(cursor) if cursor is not None else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)


class _KeyedCursor:
    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    @property
    def held_bytes(self) -> int:
        return self._cursor.held_bytes

    async def page(self, rows: int, *, records: bool) -> Page:
        page = await self._cursor.page(rows, records=True)
        keyed = [
            key.to_bytes(_KEY_BYTES, "big") + record_of(row) for key, row in zip(page.keys, page.rows, strict=True)
        ]
        return Page(page.keys, keyed)

    async def close(self) -> None:
        await self._cursor.close()


@dataclass(slots=True)
class _Read:
    """What came out of files in one go.

    Args:
        rows: in order of their keys.
        floor: what will come has this key or a higher one; None when all is read.
    """

    rows: list[Row]
    floor: int | None


class TierCursor:
    """`begin` it once; then it is a cursor as sources.Cursor says."""

    def __init__(self, tier: ColdTier, plan: Plan, shards: Sequence[ShardSource]) -> None:
        self._tier, self._plan = tier, plan
        self._shards = [_Keyed(shard) for shard in shards]
        self._hot: MergedQuery | None = None
        self._hot_done = False
        self._hot_rows: deque[Row] = deque()
        self._files: list[DayFile] = []  # that are being read
        self._reader: Iterator[_Read] = iter(())
        self._floor: int | None = None
        self._file_rows: deque[Row] = deque()
        self._ready: deque[Row] = deque()
        self._last: Row | None = None  # that was made ready last
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """Of rows that have come and that nobody has taken."""
        return self._held

    async def begin(self) -> bool:
        """Whether anything matches."""
        asked = [pair for pair in self._plan.asked if pair[0] != b"limit"]
        self._hot = await fanout.match(self._shards, asked)
        self._plan.overlap = await self._tier.overlap(self._plan)
        await self._make_ready()
        return bool(self._ready)

    async def page(self, rows: int, *, records: bool) -> Page:
        page, size = Page([], []), 0
        if not self._ready:
            await self._make_ready()
        while self._ready and len(page.rows) < rows and size < PAGE_BYTES:
            key, record = self._ready.popleft()
            self._held -= len(record)
            row = b"$%d\r\n%b\r\n" % (len(record), record) if records else upstream_row(record)
            page.keys.append(key)
            page.rows.append(row)
            size += len(row)
        return page

    async def close(self) -> None:
        if self._hot is not None:
            await self._hot.close()

    # ---- rows ----------------------------------------------------------------------------------------------------

    async def _make_ready(self) -> None:
        """The next rows, at least one; none when there are no more."""
        while not self._ready:
            if not self._hot_rows and not self._hot_done:
                await self._ask_hot()
            elif not self._file_rows and self._floor is not None:
                await self._read_on()
            elif not self._hot_rows and not self._file_rows:
                return
            self._merge()
        self._last = self._ready[-1]

    async def _ask_hot(self) -> None:
        rows = await self._hot.page(_PAGE, records=True) if self._hot is not None else []
        self._hot_done = not rows
        overlap = self._plan.overlap
        if overlap is not None and overlap.cold.records and rows:
            rows = await self._tier.in_thread(_latest, rows, overlap.cold)
        self._hot_rows.extend((int.from_bytes(row[:_KEY_BYTES], "big"), row[_KEY_BYTES:]) for row in rows)
        self._held += sum(len(row) - _KEY_BYTES for row in rows)
        await self._look_for_files()

    async def _look_for_files(self) -> None:
        """Read on in the files there are now; from behind the last row, where they are not those that were read."""
        day = (self._last[0] >> 32) // DAY_S if self._last is not None else 0
        summaries = list((await self._tier.in_thread(self._tier.needed, self._plan, day)).values())
        files = [summary.file for summary in summaries]
        if files != [file for file in self._files if file.day >= day]:
            self._held -= sum(len(record) for _, record in self._file_rows)
            self._file_rows.clear()
            self._floor = 0
            self._reader = self._read(summaries, self._last)
        self._files = files

    async def _read_on(self) -> None:
        found = await self._tier.in_thread(next, self._reader)
        self._file_rows.extend(found.rows)
        self._held += sum(len(record) for _, record in found.rows)
        self._floor = found.floor

    def _read(self, summaries: Sequence[Summary], last: Row | None) -> Iterator[_Read]:
        """The rows of files behind that one; blocks."""
        until_s, rows = time.monotonic() + _READ_S, list[Row]()
        for summary in summaries:
            for group in self._rows_of(summary, last):
                rows += group
                if len(rows) >= _READ_ROWS:
                    yield _Read(rows, rows[-1][0])
                    until_s, rows = time.monotonic() + _READ_S, []
            if time.monotonic() >= until_s:
                yield _Read(rows, row_key((summary.file.day + 1) * DAY_S, 0))
                until_s, rows = time.monotonic() + _READ_S, []
        yield _Read(rows, None)

    def _rows_of(self, summary: Summary, last: Row | None) -> Iterator[list[Row]]:
        plan = self._plan
        beaten = plan.overlap.hot if plan.overlap is not None else None
        told = order_of(last[1]) if last is not None else None
        for found in self._tier.days.find(summary, plan.question, plan.prefilter, beaten):
            rows = zip(found.keys, found.records.to_pylist(), strict=True)
            yield list(rows) if told is None else [row for row in rows if order_of(row[1]) > told]

    def _merge(self) -> None:
        """Make ready what nothing can come before any more; of equal rows of both that of Redis."""
        hot, cold, ready = self._hot_rows, self._file_rows, self._ready
        while hot and cold:
            if cold[0][0] != hot[0][0]:
                ready.append((cold if cold[0][0] < hot[0][0] else hot).popleft())
                continue
            theirs, ours = order_of(hot[0][1]), order_of(cold[0][1])
            if ours >= theirs:
                ready.append(hot.popleft())
            if ours <= theirs:
                row = cold.popleft()
                if ours < theirs:
                    ready.append(row)
                else:
                    self._held -= len(row[1])
        if self._hot_done and not hot:
            ready.extend(cold)
            cold.clear()
        while hot and not cold and (self._floor is None or hot[0][0] < self._floor):
            ready.append(hot.popleft())


def _latest(rows: list[bytes], told: Runs) -> list[bytes]:
    beaten = told.beaten(binary(row[_KEY_BYTES:] for row in rows), ties=False)
    return [row for row, out in zip(rows, beaten, strict=True) if not out]
