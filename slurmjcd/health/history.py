# SPDX-License-Identifier: MIT
"""What the status page plots: an hour of rates, backlog and times, a row every ten seconds. Bounded: 26 kB. No I/O."""

from __future__ import annotations

import math
import time
from array import array
from typing import TYPE_CHECKING, Any, Final

from slurmjcd.health.stages import total

if TYPE_CHECKING:
    from prometheus_client import Histogram

    from slurmjcd.daemon import Daemon

STEP_S: Final = 10.0
ROWS: Final = 361  # an hour and both its ends
# epoch seconds; a second; records; seconds; milliseconds (no number where nothing was timed)
COLUMNS: Final = (
    "time", "received_s", "stored_s", "answered_s", "waiting", "oldest_s", "commit_ms", "answer_ms",
)  # fmt: skip


class History:
    """Rows of COLUMNS, numbered from 0; the last hour's are kept."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._cells = array("d", bytes(8 * ROWS * len(COLUMNS)))
        self.started = time.time()
        self.next = 0  # number of the next row
        self._waiting = self._oldest_s = 0.0  # the most since the last row
        self._then = self._counts()
        self._then_s = time.monotonic()

    def look(self) -> None:
        """Take note of what waits; close a row when it is time."""
        spool = self._daemon.spool
        if spool is not None:
            self._waiting = max(self._waiting, spool.state.backlog)
            self._oldest_s = max(self._oldest_s, spool.ages.oldest_s)
        if time.monotonic() - self._then_s >= STEP_S:
            self.close_row()

    def close_row(self) -> None:
        """Add a row for the time since the last one."""
        now_s, counts = time.monotonic(), self._counts()
        passed_s = max(now_s - self._then_s, 1e-3)
        received, stored, answered, commits, commit_s, answer_s = (
            now - before for now, before in zip(counts, self._then, strict=True)
        )
        row = (
            time.time(), received / passed_s, stored / passed_s, answered / passed_s, self._waiting, self._oldest_s,
            1000 * commit_s / commits if commits else math.nan,
            1000 * answer_s / answered if answered else math.nan,
        )  # fmt: skip
        at = self.next % ROWS * len(COLUMNS)
        self._cells[at : at + len(COLUMNS)] = array("d", row)
        self.next += 1
        self._then, self._then_s = counts, now_s
        self._waiting = self._oldest_s = 0.0

    def rows(self, first: int = 0) -> list[list[float | None]]:
        """The rows from number `first` on that are still kept, oldest first."""
        width = len(COLUMNS)
        out: list[list[float | None]] = []
        for number in range(max(first, self.next - ROWS, 0), self.next):
            at = number % ROWS * width
            out.append([None if math.isnan(cell) else round(cell, 3) for cell in self._cells[at : at + width]])
        return out

    def document(self, first: int) -> dict[str, Any]:
        """As JSON, schema slurmjcd.history/1, add-only."""
        return {
            "schema": "slurmjcd.history/1",
            "step_s": STEP_S,
            "columns": list(COLUMNS),
            "started": self.started,  # another one: rows are numbered anew
            "utc_offset_s": time.localtime().tm_gmtoff,
            "next": self.next,
            "rows": self.rows(first),
        }

    def _counts(self) -> tuple[float, ...]:
        metrics = self._daemon.metrics
        return (
            total(metrics.records_received), total(metrics.records_shipped), total(metrics.query_seconds),
            total(metrics.commit_seconds), _sum_s(metrics.commit_seconds), _sum_s(metrics.query_seconds),
        )  # fmt: skip


def _sum_s(times: Histogram) -> float:
    """The seconds that a histogram was told, over all labels."""
    return sum(one.value for family in times.collect() for one in family.samples if one.name.endswith("_sum"))
