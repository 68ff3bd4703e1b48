# SPDX-License-Identifier: MIT
"""Redis and files as one source: what a question needs of each, and each run once.

A day's records may lie in Redis, in its file, or in both: late ones, those of a replay, a day that is being moved. So
Redis is asked first and the file opened after it: a file gets its name before Redis drops the day, hence what is not in
Redis any more is in the file that is found then. Of a run that both report the later end counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from slurmjcd.cold.engine import Question, Runs, binary
from slurmjcd.cold.files import DAY_S, DayFile
from slurmjcd.cold.mapped import latest_runs
from slurmjcd.cold.prefilter import Prefilter
from slurmjcd.cold.reader import ColdDays, Summary
from slurmjcd.cold.tiercursor import TierCursor
from slurmjcd.config.settings import ColdSection
from slurmjcd.criteria import Criteria
from slurmjcd.errors import Unavailable
from slurmjcd.query import fanout
from slurmjcd.query.merging import Group, merge_groups
from slurmjcd.query.sources import Cursor, ShardSource
from slurmjcd.record import POSITION, decode_row

_THREADS: Final = 2  # that read files
_BATCH: Final = 10_000
_SUSPECTS_MAX: Final = 3_000_000  # runs of which Redis and files may both have a report
_TRIES: Final = 3  # to sum what is being moved meanwhile
_TURN_S: Final = 0.05  # for which files are summed in one go, or one row group
_LIFE_S: Final = DAY_S  # of a connection at most (query.total_s): what goes cold so soon may do so meanwhile
_ID, _END = POSITION["job_id"], POSITION["end"]

T = TypeVar("T")


@dataclass(slots=True)
class Overlap:
    """Reports of the same run in Redis and in a file, when they end at different times.

    Args:
        hot: of runs in Redis that a file may have.
        cold: what the files with those days that Redis has too say of these runs.
        newest_day: of the files.
    """

    hot: Runs
    cold: Runs
    newest_day: int


@dataclass(slots=True)
class Plan:
    """A question, and the files it may need as they were when it was asked."""

    asked: Criteria
    question: Question
    prefilter: Prefilter
    overlap: Overlap | None = None
    listed: Sequence[DayFile] | None = None  # the files there were, ...
    found: dict[int, Summary] = field(default_factory=dict)  # ... and those of them that may have what is asked


class ColdTier:
    """The source that stands for all shards and the files.

    Args:
        shards: asked as they are for the days in Redis.
    """

    name = "Redis and files"

    def __init__(self, section: ColdSection, days: ColdDays, shards: Callable[[], Sequence[ShardSource]]) -> None:
        self._section, self.days, self._shards = section, days, shards
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cold")
        self.newest_day = -1  # of the files, as last seen
        self._reached: tuple[Sequence[DayFile], int] | None = None  # see _reach

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """Run what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def holds(self, job_id: int) -> bool:
        return True

    # ---- what a question needs -----------------------------------------------------------------------------------

    def reaches(self, asked: Criteria) -> bool:
        """Whether files may matter to it, by its window alone; no file is looked at."""
        due_day = int((time.time() + _LIFE_S) // DAY_S) - self._section.after_days - 1
        return first_day(asked) <= max(due_day, self.newest_day)

    def sources(self, asked: Criteria) -> Sequence[Any] | None:
        """This source where files may matter, else None: the shards have all of it."""
        return [self] if self.reaches(asked) else None

    def _plan(self, asked: Criteria, by: Sequence[bytes] = ()) -> Plan:
        """Blocks."""
        question = Question(self.days.engine, asked, by)
        return Plan(asked, question, Prefilter.of(asked))

    def needed(self, plan: Plan, from_day: int = 0) -> dict[int, Summary]:
        """The files there are now that may have jobs that match, by day; blocks."""
        files = self.days.files()
        if plan.listed != files:
            self.newest_day = max([self.newest_day, *(file.day for file in files)])
            plan.listed, plan.found = files, self._found(plan, files)
        return {day: summary for day, summary in plan.found.items() if day >= from_day}

    def _found(self, plan: Plan, files: Sequence[DayFile]) -> dict[int, Summary]:
        first, last = plan.question.first_day, plan.question.last_day
        found = {}
        for file in files:
            if file.day < first or (last is not None and file.day > last):
                continue
            summary = self.days.summary(file)
            if plan.prefilter.may_hold(summary.spans, summary.values):
                found[file.day] = summary
        return found

    async def overlap(self, plan: Plan) -> Overlap | None:
        """What Redis and files may both have of the jobs in question; None when there are no files."""
        files = await self.in_thread(self.days.files)
        if not files:
            return None
        engine, newest = self.days.engine, files[-1].day
        await self.in_thread(self.needed, plan)  # those have to be readable
        reach_s = await self.in_thread(self._reach, files)
        # a run keeps its ids and its user
        asked = [pair for pair in plan.asked if pair[0] in (b"job", b"uid")]
        asked.append((b"begun_before", b"%d" % reach_s))
        found = Overlap(Runs(engine), Runs(engine), newest)
        late: dict[int, int] = {}  # job id → first day on which one that came late ended
        opened = await fanout.match(self._shards(), asked)
        async for page in fanout.records(opened, _BATCH):
            await self.in_thread(_add, found.hot, page)
            if found.hot.records > _SUSPECTS_MAX:
                raise Unavailable(
                    f"more than {_SUSPECTS_MAX} jobs of days that are in files are in Redis again; ask again when "
                    "they have been moved"
                )
            if decode_row(page[0])[_END] // DAY_S <= newest:  # rows come in order of their end
                for row in map(decode_row, page):
                    if row[_END] // DAY_S <= newest:
                        late[row[_ID]] = min(late.get(row[_ID], newest), row[_END] // DAY_S)
        if late:
            await self.in_thread(self._tell_of, late, files, found.cold)
        return found

    def _reach(self, files: Sequence[DayFile]) -> int:
        """No run of these began then or later; of files that can't be read, and aren't needed, as far as one knows."""
        if self._reached is not None and self._reached[0] is files:
            return self._reached[1]
        reach_s, all_known = (files[-1].day + 1) * DAY_S, True
        for file in files:
            try:
                reach_s = max(reach_s, self.days.summary(file).reach)
            except Unavailable:
                all_known = False
        if all_known:
            self._reached = files, reach_s
        return reach_s

    def _tell_of(self, late: dict[int, int], files: Sequence[DayFile], told: Runs) -> None:
        first = min(late.values())
        for file in files:
            if file.day >= first:
                for records in self.days.runs_of(self.days.summary(file), late):
                    told.add(records)

    # ---- answers -------------------------------------------------------------------------------------------------

    async def open(self, asked: Criteria) -> Cursor | None:
        plan = await self.in_thread(self._plan, asked)
        if not plan.question.limit:
            return None
        cursor = TierCursor(self, plan, list(self._shards()))
        try:
            found = await cursor.begin()
        except BaseException:
            await cursor.close()
            raise
        return cursor if found else None

    async def aggregate(self, fields: Sequence[bytes], asked: Criteria) -> list[Group]:
        most = fanout.limit_of(asked)
        for _ in range(_TRIES):
            plan = await self.in_thread(self._plan, asked, fields)
            whole = [pair for pair in asked if pair[0] != b"limit"]
            before = await self._state()
            plan.overlap = await self.overlap(plan)
            answers = [await fanout.groups(self._shards(), fields, whole)]
            answers.append(await self._sums(plan))
            answers.append(await self._outdated(plan, fields))
            if _went_nowhere(before, await self._state()):
                return await self.in_thread(_added, answers, most)
        raise Unavailable("days are being moved into files, ask again")

    async def _sums(self, plan: Plan) -> list[Group]:
        question, beaten = plan.question, plan.overlap.hot if plan.overlap is not None else None
        summaries = (await self.in_thread(self.needed, plan)).values()
        asking = (
            found
            for summary in summaries
            for found in self.days.find(summary, question, plan.prefilter, beaten, ties=True, with_keys=False)
        )
        while not await self.in_thread(_is_done, asking):
            pass
        return [[*keys, *sums] for keys, sums in (await self.in_thread(question.sums)).items()]

    async def _outdated(self, plan: Plan, fields: Sequence[bytes]) -> list[Group]:
        """What Redis has counted of runs that a file reports again with a later end, to be taken off."""
        overlap = plan.overlap
        if overlap is None or not overlap.cold.records:
            return []
        question = Question(self.days.engine, plan.asked, fields)
        opened = await fanout.match(self._shards(), [p for p in plan.asked if p[0] != b"limit"])
        async for page in fanout.records(opened, _BATCH):
            if decode_row(page[0])[_END] // DAY_S > overlap.newest_day:
                break
            await self.in_thread(_ask_by_day, question, page, overlap.cold)
        if opened is not None:
            await opened.close()
        return [[*keys, *(-value for value in sums)] for keys, sums in question.sums().items()]

    async def _state(self) -> tuple[Sequence[DayFile], dict[tuple[int, int], int]]:
        """The files, and how many jobs of their days are in Redis."""
        files = await self.in_thread(self.days.files)
        newest = files[-1].day if files else -1
        shards = self._shards()
        infos = await fanout.ask_all(shards, [shard.info(segments=True) for shard in shards])
        jobs = {
            (index, row[0]): row[1]
            for index, info in enumerate(infos)
            for row in info.fields.get("segment_sizes", [])
            if row[0] <= newest
        }
        return files, jobs

    async def runs(self, job_id: int, most_bytes: int) -> list[Any]:
        hot = await fanout.runs(self._shards(), job_id, most_bytes)
        asked = [(b"job", b"%d" % job_id)]

        def read() -> list[bytes]:
            found: list[bytes] = []
            for summary in self.needed(self._plan(asked)).values():
                for records in self.days.runs_of(summary, [job_id]):
                    found += records.to_pylist()
            return found

        return latest_runs(hot, await self.in_thread(read), most_bytes)


def first_day(asked: Criteria) -> int:
    """No job that ended on an earlier day can match; as the engine says it, of criteria that nobody has checked."""
    since = [value for name, value in asked if name == b"start"]
    states = {part for name, value in asked if name == b"state" for part in value.split(b",")}
    if len(since) != 1 or not since[0].isdigit() or len(since[0]) > 15:
        return 0
    if any(not part.strip(b"0") for part in states):  # PENDING asks for more than the end
        return 0
    return int(since[0]) // DAY_S


def _is_done(asking: Iterator[Any]) -> bool:
    """Ask on for a while; whether that was all. Others have their turn in between, and who asks may go away."""
    until_s = time.monotonic() + _TURN_S
    return not any(time.monotonic() >= until_s for _ in asking)


def _ask_by_day(question: Question, page: list[bytes], told: Runs) -> None:
    days: dict[int, list[bytes]] = {}
    for record in page:
        days.setdefault(decode_row(record)[_END] // DAY_S, []).append(record)
    for day, records in days.items():
        rows = binary(records)
        question.ask(day, rows, told.beaten(rows, ties=False))


def _went_nowhere(before: Any, after: Any) -> bool:
    """Whether no file changed and no day in Redis lost jobs."""
    return before[0] == after[0] and all(after[1].get(key, -1) >= jobs for key, jobs in before[1].items())


def _added(answers: list[list[Group]], most: int | None) -> list[Group]:
    """One answer out of several, without groups of which nothing is left."""
    return merge_groups([[group for group in merge_groups(answers) if group[-5] > 0]], most)


def _add(runs: Runs, page: list[bytes]) -> None:
    runs.add(binary(page))
