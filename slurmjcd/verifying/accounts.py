# SPDX-License-Identifier: MIT
"""Runs for the pairing: of the store's records, and of a source as imports read them. And a part of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from slurmjcd.importing.item import Item, Source
from slurmjcd.record import POSITION, decode_row
from slurmjcd.verifying.pairing import Run

_AT: Final = tuple(POSITION[name] for name in ("cluster", "job_id", "start", "end", "extra"))
_TICK: Final = 1000
_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """Of the ends of jobs: from `start`, before `end`; epoch seconds. Jobs that ended before `kept_since` expired."""

    start: int
    end: int
    kept_since: int = 0

    def __contains__(self, ended: int) -> bool:
        return max(self.start, self.kept_since) <= ended < self.end


@dataclass(slots=True)
class Reading:
    """What was read of the other account.

    Attributes:
        expired: jobs of the window that ended longer ago than the store keeps them.
        unreadable: place and reason of the first lines that are no jobs; `unreadable_number` counts all.
    """

    expired: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    unreadable_number: int = 0


def theirs(
    source: Source, window: Window, clusters: frozenset[str], reading: Reading, tick: Callable[[int], None]
) -> Iterator[Run]:
    """Runs of the items that ended in the window, on one of these clusters; none: on any."""
    for number, item in enumerate(source.items(0), 1):
        if number % _TICK == 0:
            tick(_TICK)
        if item.refused:
            reading.unreadable_number += 1
            if len(reading.unreadable) < _KEPT:
                reading.unreadable.append((item.place, item.refused))
        elif (fields := item.fields) is None or not window.start <= fields["end"] < window.end:
            continue
        elif fields["end"] not in window:
            reading.expired += 1
        elif (cluster := (fields["cluster"] or "").lower()) in clusters or not clusters:
            start = fields["start"]
            first = (fields.get("extra") or {}).get("orig_start") or start
            yield Run(cluster, fields["job_id"], start, first, fields["end"], item.shift_s, number)


def ours(
    records: Iterable[bytes], window: Window, clusters: frozenset[str], tick: Callable[[int], None]
) -> Iterator[Run]:
    """Runs of the records, which come in order of their ends, that ended in the window on one of these clusters."""
    for number, record in enumerate(records, 1):
        if number % _TICK == 0:
            tick(_TICK)
        row = decode_row(record)
        cluster, job_id, start, end, extra = (row[at] for at in _AT)
        if end >= window.end:
            return
        if end in window and (name := (cluster or "").lower()) in clusters:
            yield Run(name, job_id, start, extra.get("orig_start") or start, end, 0, number)


class Part:
    """The items of a source with these numbers: an import's source."""

    def __init__(self, source: Source, numbers: list[int]) -> None:
        self._source, self._numbers = source, frozenset(numbers)
        self.kind, self.heading, self.total = source.kind, source.heading, len(numbers)
        self.identity = ""  # it is short, so it is gone through from its begin when it is run again

    def items(self, after: int) -> Iterator[Item]:
        """Those behind the first `after`."""
        found = (item for number, item in enumerate(self._source.items(0), 1) if number in self._numbers)
        for number, item in enumerate(found, 1):
            if number > after:
                yield item
