# SPDX-License-Identifier: MIT
"""One answer out of several: pages of rows merged by their keys, groups of AGG added up and sorted. No I/O, no clock.

Every source gives its rows in order of completion, with a key for each that sorts as the module does. So nobody here
reads a record: rows are moved about as the bytes that they came in.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Final

from slurmjcd.errors import Refused

GROUPS_MAX: Final = 262_144  # as in the module
_SUM_MAX: Final = 2**63 - 1
_SUMS: Final = 5  # behind the keys of a group: jobs, node-, cpu-, wait- and run seconds

Group = list[Any]  # a row of AGG: one or two keys (bytes, None: absent), then the sums


def row_key(end_s: int, job_id: int) -> int:
    """What rows are in order of, as one number."""
    return end_s << 32 | job_id


@dataclass(slots=True)
class Page:
    """Rows of one source in order of their keys, each row as RESP2 has it. Without rows: the source has no more."""

    keys: list[int]
    rows: list[bytes]


@dataclass(slots=True)
class _Left:
    """What a source gave and nobody has taken, and whether more will come."""

    keys: list[int] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    at: int = 0
    more: bool = True

    def __len__(self) -> int:
        return len(self.rows) - self.at


class PageMerge:
    """Rows of `sources` sources, in order of key; those of equal keys in order of the sources.

    `add` a page of each of those that are `starved`, then `take`; in any portions, the rows come in the same order.
    """

    def __init__(self, sources: int) -> None:
        self._left = [_Left() for _ in range(sources)]
        self.bytes = 0  # of the rows that are held

    def __len__(self) -> int:
        """How many rows are held."""
        return sum(map(len, self._left))

    @property
    def starved(self) -> list[int]:
        """The sources that must give a page before anything can be taken."""
        return self.below(1)

    def below(self, rows: int) -> list[int]:
        """The sources that have more and of which fewer rows than this are held."""
        return [source for source, left in enumerate(self._left) if left.more and len(left) < rows]

    @property
    def going(self) -> int:
        """How many sources have more."""
        return sum(left.more for left in self._left)

    def add(self, source: int, page: Page) -> None:
        """The next page of a source.

        Raises:
            ValueError: it is not one that could follow.
        """
        left = self._left[source]
        if not page.rows:
            left.more = False
            return
        if len(page.keys) != len(page.rows) or not left.more:
            raise ValueError("a page of a source has not one key for each row, or comes behind its end")
        if left.at:
            del left.keys[: left.at], left.rows[: left.at]
            left.at = 0
        left.keys += page.keys
        left.rows += page.rows
        self.bytes += sum(map(len, page.rows))

    def take(self, most: int) -> list[bytes]:
        """The next rows, at most so many; none while a source is starved, and when there are no more."""
        if self.starved:
            return []
        ends = [(left.keys[-1], source) for source, left in enumerate(self._left) if left.more]
        cuts = self._up_to(*min(ends)) if ends else [len(left.rows) for left in self._left]
        holding = [source for source, cut in enumerate(cuts) if cut > self._left[source].at]
        if len(holding) == 1:
            left = self._left[holding[0]]
            cuts[holding[0]] = min(cuts[holding[0]], left.at + most)
            rows = left.rows[left.at : cuts[holding[0]]]
        else:
            rows = self._sorted(cuts, most)
        for left, cut in zip(self._left, cuts, strict=True):
            left.at = cut
        self.bytes -= sum(map(len, rows))
        return rows

    def _up_to(self, key: int, source: int) -> list[int]:
        """For each source, how far its rows come before the next one that `source` may give, whose last had `key`."""
        return [
            (bisect_right if other <= source else bisect_left)(left.keys, key, left.at)
            for other, left in enumerate(self._left)
        ]

    def _sorted(self, cuts: list[int], most: int) -> list[bytes]:
        """The rows before the cuts, at most so many; moves the cuts to where they end."""
        keys: list[int] = []
        rows: list[bytes] = []
        begins = []
        for left, cut in zip(self._left, cuts, strict=True):
            begins.append(len(rows))
            keys += left.keys[left.at : min(cut, left.at + most)]
            rows += left.rows[left.at : min(cut, left.at + most)]
        order = sorted(range(len(rows)), key=keys.__getitem__)  # stable, and fast on runs that are in order
        if len(order) > most:
            del order[most:]
            last = order[-1]
            source = bisect_right(begins, last) - 1
            ends = self._up_to(keys[last], source)
            ends[source] = self._left[source].at + last - begins[source] + 1  # others of its key may be left
            cuts[:] = map(min, cuts, ends)
        return [rows[position] for position in order]


def merge_groups(answers: Iterable[Sequence[Group]], most: int | None = None) -> list[Group]:
    """The groups of several answers to one AGG as one: sums added, sorted as the module sorts, at most `most`.

    Raises:
        Refused: more groups than one answer may have.
        ValueError: a row is no group.
    """
    merged: dict[tuple[Any, ...], list[int]] = {}
    for answer in answers:
        for group in answer:
            name = tuple(group[:-_SUMS])
            so_far = merged.get(name)
            if so_far is not None:
                merged[name] = list(map(add, so_far, group[-_SUMS:]))
            elif len(merged) < GROUPS_MAX:
                merged[name] = group[-_SUMS:]
            else:
                raise Refused(f"more than {GROUPS_MAX} groups, narrow the criteria", code="LIMIT")
    names = sorted(merged, key=lambda name: (-merged[name][0], _order(name)))
    return [[*name, *_sayable(merged[name])] for name in names[:most]]


def _sayable(sums: list[int]) -> list[int]:
    """Sums as the module replies them, whose integers end somewhere."""
    return sums if max(sums) <= _SUM_MAX else [min(value, _SUM_MAX) for value in sums]


def _order(name: tuple[bytes | None, ...]) -> bytes:
    """A group's name as the module compares it: absent behind all texts."""
    return b"\0".join(b"-" if part is None else b"+" + part for part in name)
