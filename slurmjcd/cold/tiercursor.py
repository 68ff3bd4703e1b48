# SPDX-License-Identifier: MIT
"""An open question to Redis and files: their rows in order of completion, day by day, each run once.

After each page of Redis the files are looked for anew. What is not in that page any more, because its day was moved, is
in the file that is found then; of a file that was replaced while its day is being told, what comes behind the last row
told is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from slurmjcd.cold.engine import Runs, binary
from slurmjcd.cold.files import DAY_S, DayFile
from slurmjcd.cold.hot import order_of
from slurmjcd.cold.mapped import upstream_row
from slurmjcd.cold.reader import Found, Summary
from slurmjcd.criteria import Criteria
from slurmjcd.query import fanout
from slurmjcd.query.fanout import PAGE_BYTES, MergedQuery
from slurmjcd.query.merging import Page
from slurmjcd.query.sources import Cursor, ShardSource, record_of

if TYPE_CHECKING:
    from slurmjcd.cold.tier import ColdTier, Plan

_PAGE: Final = 2000  # rows of Redis at a time
_KEY_BYTES: Final = 12

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

    async def page(self, rows: int, *, records: bool) -> Page:
        page = await self._cursor.page(rows, records=True)
        keyed = [
            key.to_bytes(_KEY_BYTES, "big") + record_of(row) for key, row in zip(page.keys, page.rows, strict=True)
        ]
        return Page(page.keys, keyed)

    async def close(self) -> None:
        await self._cursor.close()


def _day_of(row: Row) -> int:
    return (row[0] >> 32) // DAY_S


class TierCursor:
    """`begin` it once; then it is a cursor as sources.Cursor says."""

    def __init__(self, tier: ColdTier, plan: Plan, shards: Sequence[ShardSource]) -> None:
        self._tier, self._plan = tier, plan
        self._shards = [_Keyed(shard) for shard in shards]
        self._hot: MergedQuery | None = None
        self._hot_done = False
        self._hot_rows: deque[Row] = deque()
        self._ready: deque[Row] = deque()
        self._last: bytes | None = None  # the record that was made ready last
        self._day = -1  # that is being told
        self._files: dict[int, Summary] = {}
        self._file: DayFile | None = None  # that is being read, ...
        self._reader: Iterator[Found] | None = None
        self._file_rows: deque[Row] = deque()
        self._skip_to: bytes | None = None  # ... behind this record
        self._told: DayFile | None = None  # that was read to its end, of this day

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
            day = self._next_day()
            if day is None:
                return
            if day > self._day:
                self._day, self._told, self._reader, self._file = day, None, None, None
                self._file_rows.clear()
            self._open_file()
            if self._reader is not None and not self._file_rows:
                await self._read_on()
                continue
            if not self._file_rows:
                self._take_hot()
            elif self._hot_rows and _day_of(self._hot_rows[0]) == day:
                self._merge()
            else:
                self._ready.extend(self._file_rows)
                self._file_rows.clear()
            if self._ready:
                self._last = self._ready[-1][1]

    async def _ask_hot(self) -> None:
        rows = await self._hot.page(_PAGE, records=True) if self._hot is not None else []
        self._hot_done = not rows
        overlap = self._plan.overlap
        if overlap is not None and overlap.cold.records and rows:
            rows = await self._tier.in_thread(_latest, rows, overlap.cold)
        self._hot_rows.extend((int.from_bytes(row[:_KEY_BYTES], "big"), row[_KEY_BYTES:]) for row in rows)
        self._files = await self._tier.in_thread(self._tier.needed, self._plan, max(self._day, 0))

    def _next_day(self) -> int | None:
        days = [
            day
            for day, summary in self._files.items()
            if day > self._day or (day == self._day and summary.file != self._told)
        ]
        if self._hot_rows:
            days.append(_day_of(self._hot_rows[0]))
        return min(days, default=None)

    def _open_file(self) -> None:
        """The file of this day, also when another one has come in its place."""
        summary = self._files.get(self._day)
        if summary is None or summary.file in (self._told, self._file):
            return
        plan = self._plan
        beaten = plan.overlap.hot if plan.overlap is not None else None
        self._file, self._told = summary.file, None
        self._file_rows.clear()
        self._reader = self._tier.days.find(summary, plan.question, plan.prefilter, beaten)
        self._skip_to = self._last

    async def _read_on(self) -> None:
        assert self._reader is not None
        found = await self._tier.in_thread(next, self._reader, None)
        if found is None:
            self._reader, self._told, self._file = None, self._file, None
            return
        rows: list[Row] = list(zip(found.keys, found.records.to_pylist(), strict=True))
        if self._skip_to is not None:
            told = order_of(self._skip_to)
            rows = [row for row in rows if order_of(row[1]) > told]
            if rows:
                self._skip_to = None
        self._file_rows.extend(rows)

    def _take_hot(self) -> None:
        while self._hot_rows and _day_of(self._hot_rows[0]) == self._day:
            self._ready.append(self._hot_rows.popleft())

    def _merge(self) -> None:
        """Rows of both until one of them has to be asked for more; of equal ones that of Redis."""
        while self._file_rows and self._hot_rows and _day_of(self._hot_rows[0]) == self._day:
            theirs, ours = order_of(self._hot_rows[0][1]), order_of(self._file_rows[0][1])
            if theirs <= ours:
                self._ready.append(self._hot_rows.popleft())
            if ours <= theirs:
                row = self._file_rows.popleft()
                if ours < theirs:
                    self._ready.append(row)


def _latest(rows: list[bytes], told: Runs) -> list[bytes]:
    beaten = told.beaten(binary(row[_KEY_BYTES:] for row in rows), ties=False)
    return [row for row, out in zip(rows, beaten, strict=True) if not out]
