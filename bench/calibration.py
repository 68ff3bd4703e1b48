# SPDX-License-Identifier: MIT
"""How fast the machine is right now: the same three small things before each round and behind the last."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.harness.redis_server import RedisServer
from tests.harness.rundir import run_dir

# A figure whose largest value is more than this times its smallest has moved.
MOVED: Final = 1.25
_TIMES: Final = 3

Figures = dict[str, float]


class Calibration:
    """A Redis that has nothing else to do, a file to sync, and what was found so far.

    Args:
        directory: for the server.
    """

    def __init__(self, directory: Path) -> None:
        self.taken: list[Figures] = []
        self._server = RedisServer(directory, module=None)
        self._server.start()
        self._client = self._server.client()

    def take(self) -> Figures:
        """Medians, in µs, of: a fixed spin, a PING's round trip to Redis, an fdatasync of 4 KiB."""
        found = {"spin_us": _median(_spin), "ping_us": _median(self._ping), "fdatasync_us": _median(_fdatasync)}
        self.taken.append(found)
        return found

    def rounds(self, count: int) -> Iterator[int]:
        """0, 1, … with a calibration before each but the first: that one was before everything."""
        for number in range(count):
            if number:
                self.take()
            yield number

    def stop(self) -> None:
        self._client.close()
        self._server.stop()

    def _ping(self, trips: int = 500) -> float:
        began = time.perf_counter()
        for _ in range(trips):
            self._client.ping()
        return (time.perf_counter() - began) / trips * 1e6


@contextmanager
def running() -> Iterator[Calibration]:
    """A calibration for the length of a run, taken at its beginning and at its end."""
    with run_dir("sj-calibration-") as directory:
        machine = Calibration(directory)
        try:
            machine.take()
            yield machine
            machine.take()
        finally:
            machine.stop()


def report(taken: list[Figures]) -> dict[str, Any]:
    """How often, the ends of each figure, and whether any of them moved."""
    ends = {name: pick_each(pick, taken) for name, pick in (("min", min), ("median", statistics.median), ("max", max))}
    return {"taken": len(taken), **ends, "moved": bool(moved(taken))}


def pick_each(pick: Callable[[list[float]], float], taken: list[Figures]) -> Figures:
    return {name: pick([each[name] for each in taken]) for name in taken[0]}


def moved(taken: list[Figures]) -> list[str]:
    """A line for each figure that did."""
    least, most = pick_each(min, taken), pick_each(max, taken)
    return [
        f"the calibration moved: {name} went from {least[name]:.1f} to {most[name]:.1f} in the course of the run, "
        "the machine was busy with something else"
        for name in least
        if most[name] > MOVED * least[name]
    ]


def _median(once: Callable[[], float]) -> float:
    once()
    return round(statistics.median(once() for _ in range(_TIMES)), 2)


def _spin() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return (time.perf_counter() - began) * 1e6


def _fdatasync(calls: int = 30) -> float:
    with tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp")) as file:
        times = []
        for _ in range(calls):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6
