# SPDX-License-Identifier: MIT
"""The last troubles: when a stage went wrong, with what, until when. Bounded; no I/O."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from slurmjcd.health.stages import Level, Stage

_KEPT: Final = 50


@dataclass(slots=True)
class Trouble:
    """One thing that went wrong with a stage; times are epoch seconds, `end` None while it lasts."""

    stage: Stage
    start: float
    end: float | None = None

    @property
    def level(self) -> Level:
        return self.stage.level


class Troubles:
    """Told how the stages are, remembers what was wrong with them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: deque[Trouble] = deque(maxlen=_KEPT)
        self._open: dict[str, Trouble] = {}  # by the stage's key

    def look(self, stages: Iterable[Stage]) -> None:
        """Take note of how the stages are now. A trouble that goes on has the last text."""
        now = self._clock()
        for stage in stages:
            known = self._open.get(stage.key)
            if known is not None and known.stage.kind == stage.kind:
                known.stage = stage
                continue
            if known is not None:
                known.end = now
                del self._open[stage.key]
            if stage.kind:
                self._open[stage.key] = trouble = Trouble(stage, now)
                self._kept.append(trouble)

    def latest(self) -> list[Trouble]:
        """Those that last, then those that are over; the newest first."""
        return sorted(self._kept, key=lambda trouble: (trouble.end is None, trouble.start), reverse=True)
