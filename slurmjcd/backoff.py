# SPDX-License-Identifier: MIT
"""How long to wait before trying again, and how often to say why. No I/O."""

from __future__ import annotations

import random
import time


class Backoff:
    """Full-jitter back-off: each wait is random between 0 and a bound that doubles up to `longest_s`."""

    def __init__(self, *, first_s: float = 0.1, longest_s: float = 5.0) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._bound_s = first_s

    def next_s(self) -> float:
        bound, self._bound_s = self._bound_s, min(self._bound_s * 2, self._longest_s)
        return random.uniform(bound / 10, bound)  # noqa: S311 (no secret)

    def reset(self) -> None:
        self._bound_s = self._first_s


class Quiet:
    """Lets one of many equal messages through per `every_s` seconds and counts the others."""

    def __init__(self, every_s: float = 60.0) -> None:
        self._every_s = every_s
        self._last: dict[str, float] = {}

    def allows(self, key: str) -> bool:
        now = time.monotonic()
        last = self._last.get(key)
        if last is not None and now - last < self._every_s:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[key] = now
        return True

    def forget(self) -> None:
        self._last.clear()
