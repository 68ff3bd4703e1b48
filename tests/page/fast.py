# SPDX-License-Identifier: MIT
"""`slurmjcd run` whose status page sees its first half minute as an hour; from then on its clock is the world's.

So that a test can look at an hour of plots: every row is measured, only time is told otherwise.
"""

from __future__ import annotations

import time as real_time
from typing import Final

from slurmjcd import cli
from slurmjcd.health import history, observer

FILL_S: Final = 34.0  # what happens in a test's half minute, and its start
_RATE: Final = 3600 / FILL_S


class Clock:
    """What the history asks in place of `time`."""

    def __init__(self) -> None:
        self._full = real_time.monotonic() + FILL_S

    def _ahead(self) -> float:
        """How far this clock is behind the world's, in seconds."""
        left = max(0.0, self._full - real_time.monotonic())
        return left * (_RATE - 1)

    def time(self) -> float:
        return real_time.time() - self._ahead()

    def monotonic(self) -> float:
        return real_time.monotonic() - self._ahead()

    localtime = staticmethod(real_time.localtime)


if __name__ == "__main__":
    history.time = Clock()  # type: ignore[assignment]
    observer._LOOK_S = 0.02  # type: ignore[misc]
    cli.main()
