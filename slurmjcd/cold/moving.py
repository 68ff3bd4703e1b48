# SPDX-License-Identifier: MIT
"""One pass: each day past the hot window out of Redis into its file, oldest first.

A day's records are read, written beside, brought to disk and read back, and the file gets its name; only then Redis
drops the day, and only if it is still what was read. A pass that is killed leaves a day in Redis, in both, or in the
file; the next one takes it from there, and so it does with records that come for a day that has a file already. Of a
run that was reported twice the report with the later end stays, whichever day it lies on.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from slurmjcd.cold.engine import Runs, binary
from slurmjcd.cold.files import DAY_S, list_days, name_of, only_mover, remove_leftovers
from slurmjcd.cold.hot import HotDays, Part, order_of
from slurmjcd.cold.reader import ColdDays, Summary
from slurmjcd.cold.writer import NotWritten, publish, write_day
from slurmjcd.config.settings import ColdSection
from slurmjcd.record import POSITION, decode_row
from slurmjcd.spool.disk import sync_directory

log = logging.getLogger(__name__)

_BATCH: Final = 10_000  # records looked up together
_REMOVED_MAX: Final = 31  # files by one pass, which is one a day: a clock that is years ahead must not take them all
_TRIES: Final = 3  # for a day that gets records while it is moved
_ID, _SUBMIT, _START = (POSITION[name] for name in ("job_id", "submit", "start"))

Tell = Callable[[dict[str, Any]], None]


def is_due(day: int, after_days: int, now_s: float) -> bool:
    """Whether a day has been over for so many days."""
    return (day + 1 + after_days) * DAY_S <= now_s


class Suspects:
    """Runs of a day in Redis that a file may have as well: they began before the end of what is in files."""

    def __init__(self, cold: ColdDays) -> None:
        self.runs = Runs(cold.engine)
        self.job_ids: set[int] = set()
        self.began_s = 0  # the first of them

    def add(self, records: list[bytes]) -> None:
        self.runs.add(binary(records))
        for record in records:
            row = decode_row(record)
            began_s = max(row[_SUBMIT], row[_START])
            self.began_s = min(self.began_s, began_s) if self.job_ids else began_s
            self.job_ids.add(row[_ID])


class Pass:
    """Args:
    tell: is called with what was done, for who counts: `moved` a day with its `jobs`, `removed` a file.
    """

    def __init__(self, section: ColdSection, hot: HotDays, cold: ColdDays, tell: Tell) -> None:
        assert section.dir is not None
        self._section, self._directory = section, section.dir
        self._hot, self._cold, self._tell = hot, cold, tell

    def run(self, now_s: float) -> bool:
        """Move what is due; False when somebody else is at it.

        Raises:
            Unavailable: Redis, or a file, can't be read.
            NotWritten: a file can't be written. All that isn't moved stays in Redis.
        """
        try:
            with only_mover(self._directory) as alone:
                if alone:
                    remove_leftovers(self._directory)
                    self._move_all(now_s)
                    self._remove_old(now_s)
                return alone
        except OSError as exc:
            raise NotWritten(f"{self._directory} can't be written to: {exc.strerror or exc}") from exc

    def _move_all(self, now_s: float) -> None:
        for day in self._hot.days():
            if not is_due(day, self._section.after_days, now_s):
                continue
            for _ in range(_TRIES):
                parts = self._hot.days().get(day, [])
                if not parts or self._move(day, parts):
                    break
                log.info("cold: %s got jobs while it was moved, once more", name_of(day))

    def _move(self, day: int, parts: list[Part]) -> bool:
        """False when the day got records meanwhile."""
        began = time.monotonic()
        jobs = sum(part.jobs for part in parts)
        self._write(day, parts)
        if not self._hot.drop(day, parts):
            return False
        self._tell({"moved": name_of(day), "jobs": jobs, "seconds": round(time.monotonic() - began, 3)})
        return True

    def _write(self, day: int, parts: list[Part]) -> None:
        files = {summary.file.day: summary for summary in self._cold.summaries()}
        suspects = self._suspects(day, parts, files)
        later = self._settle_with(day, suspects, files)
        hot: Iterator[bytes] = self._hot.rows(day, parts)
        if later.records:
            hot = _without(hot, later, ties=False)
        own = files.get(day)
        if own is not None:
            hot = heapq.merge(self._kept(own, suspects), hot, key=order_of)
        self._replace(day, hot)

    def _replace(self, day: int, records: Iterator[bytes]) -> None:
        path = write_day(self._directory, day, records)
        if path is not None:
            publish(path, day)
        else:
            (self._directory / name_of(day)).unlink(missing_ok=True)
            sync_directory(self._directory)

    def _suspects(self, day: int, parts: list[Part], files: dict[int, Summary]) -> Suspects:
        suspects = Suspects(self._cold)
        reach_s = max((summary.reach for summary in files.values()), default=0)
        if reach_s:
            rows = self._hot.rows(day, parts, reach_s)
            while batch := list(islice(rows, _BATCH)):
                suspects.add(batch)
        return suspects

    def _settle_with(self, day: int, suspects: Suspects, files: dict[int, Summary]) -> Runs:
        """Take out of other days' files what the suspects report again; what files report of the suspects."""
        told = Runs(self._cold.engine)
        for summary in files.values():
            if not suspects.job_ids or summary.reach <= suspects.began_s:
                continue
            is_outdated = False
            for records in self._cold.runs_of(summary, suspects.job_ids):
                is_outdated |= any(suspects.runs.beaten(records, ties=True))
                told.add(records)
            if is_outdated and summary.file.day != day:
                self._replace(summary.file.day, self._kept(summary, suspects))
        return told

    def _kept(self, summary: Summary, suspects: Suspects) -> Iterator[bytes]:
        """The records of a file without those that suspects report again."""
        for records in self._cold.all_rows(summary):
            beaten = suspects.runs.beaten(records, ties=True)
            yield from (record for record, out in zip(records.to_pylist(), beaten, strict=True) if not out)

    # ---- retention of files --------------------------------------------------------------------------------------

    def _remove_old(self, now_s: float) -> None:
        keep_days = self._section.keep_days
        if not keep_days:
            return
        old = [file for file in list_days(self._directory) if is_due(file.day, keep_days, now_s)]
        for file in old[:_REMOVED_MAX]:
            file.path.unlink(missing_ok=True)
            self._tell({"removed": name_of(file.day)})


def _without(records: Iterator[bytes], runs: Runs, *, ties: bool) -> Iterator[bytes]:
    """Those whose run wasn't told of with a later end."""
    while batch := list(islice(records, _BATCH)):
        beaten = runs.beaten(binary(batch), ties=ties)
        yield from (record for record, out in zip(batch, beaten, strict=True) if not out)
