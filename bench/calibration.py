# SPDX-License-Identifier: MIT
"""How fast the machine is right now: the same three small things before and after what is measured."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Final

# A figure that differs by more than this factor between before and after has moved.
MOVED: Final = 1.25
_ROUNDS: Final = 5


def take() -> dict[str, float]:
    """Medians of: a fixed spin, a round trip between two threads over pipes, and an fdatasync of 4 KiB (in µs)."""
    return {"spin_us": _median(_spin), "pipe_us": _median(_pipe), "fdatasync_us": _median(_fdatasync)}


def compare(before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    """Both, and whether any of them moved."""
    return {"before": before, "after": after, "moved": bool(moved(before, after))}


def moved(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """A line for each figure that did."""
    lines = []
    for name, first in before.items():
        second = after[name]
        if max(first, second) > MOVED * min(first, second):
            lines.append(f"the calibration moved: {name} was {first:.1f} before and {second:.1f} after, "
                         "the machine was busy with something else")  # fmt: skip
    return lines


def _median(once: Callable[[], float]) -> float:
    once()
    return round(statistics.median(once() for _ in range(_ROUNDS)), 2)


def _spin() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return (time.perf_counter() - began) * 1e6


def _pipe(trips: int = 2000) -> float:
    there, back = os.pipe(), os.pipe()

    def echo() -> None:
        for _ in range(trips):
            os.write(back[1], os.read(there[0], 1))

    thread = threading.Thread(target=echo)
    thread.start()
    began = time.perf_counter()
    for _ in range(trips):
        os.write(there[1], b".")
        os.read(back[0], 1)
    took = time.perf_counter() - began
    thread.join()
    for end in (*there, *back):
        os.close(end)
    return took / trips * 1e6


def _fdatasync(calls: int = 50) -> float:
    with tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp")) as file:
        times = []
        for _ in range(calls):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6
