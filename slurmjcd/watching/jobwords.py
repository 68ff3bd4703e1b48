# SPDX-License-Identifier: MIT
"""The words of criterion `job`, compared with what an event says of its job. No I/O.

In stored jobs the module looks; here it is decided which of those that wait for certain jobs an event wakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from slurmjcd.errors import Refused

_WORD: Final = re.compile(r"(\d{1,10})(?:-(\d{1,10})|_(\d{1,10})|_\[([\d,\s-]+)\]|\+(\d{1,10}))?")
_SPLIT: Final = re.compile(r",(?![^\[]*\])")
_SHOWN: Final = re.compile(r"(\d+)(?:_(\d+)|\+(\d+))?")
_NUMBERED_MAX: Final = 10_000  # numbers of ranges that are written out; beyond, every event is looked at


class Shown(NamedTuple):
    """A job as sacct shows it: 100, 100_5 or 100+1. `number` alone for a job that is neither task nor part."""

    number: int
    task: int | None
    part: int | None

    @classmethod
    def of(cls, text: str) -> Shown:
        match = _SHOWN.fullmatch(text)
        if match is None:
            return cls(0, None, None)
        number, task, part = match.groups()
        return cls(int(number), int(task) if task else None, int(part) if part else None)


class JobWords:
    """Which jobs a caller named. `numbers` are all that an event can have one of, None when they are too many."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._tasks: list[tuple[int, int, int]] = []
        self._parts: set[tuple[int, int]] = set()
        for value in values:
            for word in _SPLIT.split(value.decode("ascii", "replace")):
                self._add(word.strip())
        self.numbers = self._numbers()

    def _add(self, word: str) -> None:
        match = _WORD.fullmatch(word)
        if match is None:
            shown = word[:64]
            raise Refused(f"criterion 'job' takes 100, 100-109, 100_5, 100_[1-3,7] and 100+1, not '{shown}'")
        number, last, task, tasks, part = match.groups()
        if part is not None:
            self._parts.add((int(number), int(part)))
        elif task is not None:
            self._tasks.append((int(number), int(task), int(task)))
        elif tasks is not None:
            for piece in tasks.split(","):
                low, _, high = piece.strip().partition("-")
                if not low.isdigit() or (high and not high.isdigit()):
                    raise Refused(f"criterion 'job': '{piece.strip()[:64]}' is no task and no range of tasks")
                self._tasks.append((int(number), int(low), int(high or low)))
        else:
            self._ranges.append((int(number), int(last or number)))

    def _numbers(self) -> set[int] | None:
        if sum(max(0, high - low + 1) for low, high in self._ranges) > _NUMBERED_MAX:
            return None
        numbers = {number for low, high in self._ranges for number in range(low, high + 1)}
        return numbers | {number for number, _, _ in self._tasks} | {number for number, _ in self._parts}

    def match(self, job_id: int, shown: Shown) -> bool:
        """Whether the caller named this job, by its own id, its array's or its het job's."""
        if any(low <= job_id <= high or low <= shown.number <= high for low, high in self._ranges):
            return True
        if shown.task is not None:
            return any(shown.number == number and low <= shown.task <= high for number, low, high in self._tasks)
        return shown.part is not None and (shown.number, shown.part) in self._parts
