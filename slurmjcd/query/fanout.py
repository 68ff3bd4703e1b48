# SPDX-License-Identifier: MIT
"""Several sources asked at once and answered for as one. Where one of them fails the question does: never fewer rows.

Of each open question a page of each source is held at most, or a little more; `MergedQuery.held_bytes` tells how much.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Final, Protocol, TypeVar

from slurmjcd.criteria import Criteria
from slurmjcd.errors import Refused, StoreError, Unavailable
from slurmjcd.query.merging import Group, PageMerge, merge_groups
from slurmjcd.query.sources import Cursor, Source, record_of

PAGE_BYTES: Final = 1024 * 1024  # of rows in one page, or one row
_PORTION: Final = 1.25  # of its fair share of a page each source is asked for, as they don't take turns
_PORTION_ROWS: Final = 16  # at least
_FORGETTING_MAX: Final = 256
_FORGET_S: Final = 5.0

T = TypeVar("T")


class MergedQuery:
    """A question that is open at several sources: their rows, in order of completion."""

    def __init__(self, opened: Sequence[tuple[Source, Cursor]], most: int | None) -> None:
        self._sources = [source for source, _ in opened]
        self._cursors = [cursor for _, cursor in opened]
        self._merge = PageMerge(len(opened))
        self._records: bool | None = None
        self._left = most  # rows that may still be given
        self._broken = False

    @property
    def held_bytes(self) -> int:
        """Of rows that have come and that nobody has taken."""
        return self._merge.bytes + sum(cursor.held_bytes for cursor in self._cursors)

    async def page(self, most: int, *, records: bool) -> list[bytes]:
        """The next rows, at most so many; none when there are no more.

        Raises:
            Unavailable: a source can't be asked; the text names it. It stays so: rows of the others may be lost.
            Refused: a source says why; or the rows before came in another form.
        """
        if self._broken:
            raise Unavailable("a page of this query failed before, ask again from the beginning")
        if self._records not in (None, records):
            raise Refused("a query's pages come all with RECORDS or all without")
        self._records = records
        if self._left is not None:
            most = min(most, self._left)
        out: list[bytes] = []
        size = 0
        while len(out) < most and size < PAGE_BYTES:
            if self._merge.starved:
                await self._refill(most, records)
            held = len(self._merge)
            each = max(1, self._merge.bytes // held) if held else 1
            rows = self._merge.take(min(most - len(out), max(1, (PAGE_BYTES - size) // each)))
            if not rows:
                break
            out += rows
            size += sum(map(len, rows))
        if self._left is not None:
            self._left -= len(out)
        return out

    async def _refill(self, most: int, records: bool) -> None:
        """A page of every source that has nothing left here, and of those that have little."""
        share = max(_PORTION_ROWS, int(_PORTION * most / max(1, self._merge.going)))
        wanted = self._merge.below(share // 2)
        self._broken = True
        pages = await ask_all(
            [self._sources[number] for number in wanted],
            [self._cursors[number].page(min(share, most), records=records) for number in wanted],
        )
        self._broken = False
        for number, page in zip(wanted, pages, strict=True):
            self._merge.add(number, page)

    async def close(self) -> None:
        """Forget the question everywhere."""
        await asyncio.gather(*(cursor.close() for cursor in self._cursors), return_exceptions=True)


async def match(sources: Sequence[Source], asked: Criteria, forget: Forgetting | None = None) -> MergedQuery | None:
    """The question, open at every source that has jobs for it; None when none has."""
    opening = [asyncio.ensure_future(source.open(asked)) for source in sources]
    try:
        found = await ask_all(sources, opening)
    except BaseException:
        for task in opening:
            cursor = None if task.cancelled() or task.exception() is not None else task.result()
            if forget is not None and cursor is not None:
                forget(cursor)
        raise
    opened = [(source, cursor) for source, cursor in zip(sources, found, strict=True) if cursor is not None]
    return MergedQuery(opened, limit_of(asked)) if opened else None


async def groups(sources: Sequence[Source], fields: Sequence[bytes], asked: Criteria) -> list[Group]:
    """The rows of AGG over all sources, sorted and cut as the module does."""
    if len(sources) == 1:
        return (await ask_all(sources, [sources[0].aggregate(fields, asked)]))[0]
    most = limit_of(asked)
    # each source's rows are cut only when all are added up; a limit that is none is left for the module to refuse
    whole = [(name, value) for name, value in asked if most is None or name != b"limit"]
    answers = await ask_all(sources, [source.aggregate(fields, whole) for source in sources])
    if sum(map(len, answers)) < 1000:
        return merge_groups(answers, most)
    return await asyncio.to_thread(merge_groups, answers, most)


async def records(opened: MergedQuery | None, page_rows: int) -> AsyncIterator[list[bytes]]:
    """The records that a question finds, page by page."""
    while opened is not None and (rows := await opened.page(page_rows, records=True)):
        yield [record_of(row) for row in rows]


async def runs(sources: Sequence[Source], job_id: int, most_bytes: int) -> list[Any]:
    """The runs of a job as GET has them, oldest first."""
    holding = [source for source in sources if source.holds(job_id)]
    answers = await ask_all(holding, [source.runs(job_id, most_bytes) for source in holding])
    return [run for answer in answers for run in answer]


def limit_of(asked: Criteria) -> int | None:
    """The criterion `limit`, None where there is none that is a number."""
    limits = [value for name, value in asked if name == b"limit"]
    if not limits or not all(value.isdigit() and len(value) < 19 for value in limits):
        return None
    return int(limits[-1])


class Named(Protocol):
    """What can be asked; its name is put before what goes wrong there, '' where that needn't be."""

    @property
    def name(self) -> str: ...


async def ask_all(sources: Sequence[Named], questions: Sequence[Awaitable[T]]) -> list[T]:
    """The answers of all sources to one question each, asked at the same time.

    Raises:
        Unavailable: some could not be asked; the text names each and says why.
        Refused: one refuses, none is away.
    """
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError as exc:
        # for who has to tell why there is no answer in time
        exc.add_note(", ".join(s.name for s, task in zip(sources, tasks, strict=True) if task.cancelled()))
        raise
    failed = [
        (source, answer) for source, answer in zip(sources, answers, strict=True) if isinstance(answer, BaseException)
    ]
    for _, error in failed:
        if not isinstance(error, StoreError):
            raise error
    away = [
        f"{source.name}: {error}" if source.name else str(error)
        for source, error in failed
        if not isinstance(error, Refused)
    ]
    if away:
        raise Unavailable("; ".join(away)) from failed[0][1]
    if failed:
        raise failed[0][1]
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def awaited(exc: BaseException) -> str:
    """The sources that a question was waiting for when it was cut short; '' where that isn't known."""
    cause = exc.__cause__ or exc.__context__
    return ", ".join(filter(None, getattr(cause, "__notes__", ())))


class Forgetting:
    """Closes what is open at sources and wanted no more, while others are answered; call it with one of them.

    It raises nothing. What it has no time for, the module forgets by itself.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __call__(self, opened: Cursor | MergedQuery) -> None:
        if len(self._tasks) < _FORGETTING_MAX and not self._closed:
            task = asyncio.get_running_loop().create_task(self._close(opened))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _close(self, opened: Cursor | MergedQuery) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FORGET_S):
                await opened.close()

    async def close(self) -> None:
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
