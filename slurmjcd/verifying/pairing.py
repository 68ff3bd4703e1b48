# SPDX-License-Identifier: MIT
"""Both accounts in a database that lives as long as the comparison, and which run of the one is which of the other.

It is in a file that has no name: a million runs of each side take 100 MB of disk there and no memory. Two runs are one
when they are of the same cluster and job id and, in this order of weight, began and ended at the same time, ended at
the same time, or began at the same time. Submit times don't count: slurmdbd gives each part of a resized job another
one. No run stands for two.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

_HOUR_S: Final = 3600
_ROWS: Final = 5000  # inserted at a time
_COLUMNS: Final = "cluster, job_id, start, first_start, end, shift_s, number"


class Run(NamedTuple):
    """One run. `number` is where it stands in its account, from 1; `first_start` differs from `start` after a resize.

    Times of the other account may be `shift_s` later, because clocks were set back that night; else 0.
    """

    cluster: str
    job_id: int
    start: int
    first_start: int
    end: int
    shift_s: int
    number: int


@dataclass(slots=True)
class Findings:
    """What the comparison found.

    Attributes:
        theirs, ours, missing: runs by the hour (epoch seconds of its begin) in which they ended.
        holes: numbers of those in the other account that the store lacks, in the order of its items.
        only_ours: runs that only the store has.
    """

    theirs: Counter[int] = field(default_factory=Counter)
    ours: Counter[int] = field(default_factory=Counter)
    missing: Counter[int] = field(default_factory=Counter)
    holes: list[int] = field(default_factory=list)
    only_ours: int = 0

    def hours(self) -> list[int]:
        """Those in which a job ended, on either side."""
        return sorted(self.theirs.keys() | self.ours.keys())


class Pairing:
    """Takes both accounts, then compares."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a file that goes with the process
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("BEGIN")
        for table in ("theirs", "ours"):
            self._database.execute(f"CREATE TABLE {table} ({_COLUMNS})")

    def close(self) -> None:
        self._database.close()

    def add_theirs(self, runs: Iterable[Run]) -> None:
        """The other account's."""
        self._add("theirs", runs)

    def add_ours(self, runs: Iterable[Run]) -> None:
        """The store's."""
        self._add("ours", runs)

    def clusters(self) -> frozenset[str]:
        """Of the other account."""
        return frozenset(name for (name,) in self._database.execute("SELECT DISTINCT cluster FROM theirs"))

    def ends(self) -> tuple[int, int]:
        """The first and the last end in the other account; 0, 0 when it has none."""
        first, last = self._database.execute("SELECT min(end), max(end) FROM theirs").fetchone()
        return first or 0, last or 0

    def _add(self, table: str, runs: Iterable[Run]) -> None:
        words = f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # one of two names, both ours
        self._database.executemany(words, runs)

    def compare(self) -> Findings:
        """Set them against each other."""
        found = Findings()
        ours = self._jobs("ours")
        mine = next(ours, None)
        for key, theirs in self._jobs("theirs"):
            while mine is not None and mine[0] < key:
                _count_ours(found, mine[1], len(mine[1]))
                mine = next(ours, None)
            runs: list[Run] = []
            if mine is not None and mine[0] == key:
                runs = mine[1]
                mine = next(ours, None)
            lacking = missing(theirs, runs)
            _count_ours(found, runs, len(runs) - len(theirs) + len(lacking))
            found.theirs.update(_hour(run) for run in theirs)
            found.missing.update(_hour(run) for run in lacking)
            found.holes += [run.number for run in lacking]
        while mine is not None:
            _count_ours(found, mine[1], len(mine[1]))
            mine = next(ours, None)
        found.holes.sort()
        return found

    def _jobs(self, table: str) -> Iterator[tuple[tuple[str, int], list[Run]]]:
        """Jobs with their runs, in the order of cluster and id."""
        words = f"SELECT {_COLUMNS} FROM {table} ORDER BY cluster, job_id, end, start"  # noqa: S608
        rows = map(Run._make, self._database.execute(words))
        return ((key, list(runs)) for key, runs in groupby(rows, attrgetter("cluster", "job_id")))


def _count_ours(found: Findings, runs: list[Run], unpaired: int) -> None:
    found.ours.update(_hour(run) for run in runs)
    found.only_ours += unpaired


def _hour(run: Run) -> int:
    return run.end // _HOUR_S * _HOUR_S


def missing(theirs: list[Run], ours: list[Run]) -> list[Run]:
    """Those of their runs of one job for which we have none."""
    left, free = theirs, list(ours)
    for weight in (_wholly, _by_end, _by_start):
        unpaired = []
        for run in left:
            pair = next((at for at, other in enumerate(free) if weight(run, other)), None)
            if pair is None:
                unpaired.append(run)
            else:
                del free[pair]
        left = unpaired
    return left


def _wholly(run: Run, other: Run) -> bool:
    return _by_end(run, other) and _same(run.start, other.start, run.shift_s)


def _by_end(run: Run, other: Run) -> bool:
    return _same(run.end, other.end, run.shift_s)


def _by_start(run: Run, other: Run) -> bool:
    if not run.start:
        return False
    starts = ((run.start, other.start), (run.first_start, other.first_start), (run.start, other.first_start))
    return any(_same(one, another, run.shift_s) for one, another in starts)


def _same(one: int, other: int, shift_s: int) -> bool:
    return one == other or (shift_s != 0 and abs(one - other) == shift_s)
