# SPDX-License-Identifier: MIT
"""How old the oldest waiting record is. No I/O."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

_GRAIN_S: Final = 0.1
_MARKS_MAX: Final = 10_000


class Ages:
    """Remembers when sequence numbers came, to a tenth of a second (of a long backlog only for its oldest part)."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()  # last number that came until then, when its first came

    def came(self, last: int) -> None:
        """Records up to `last` are there now."""
        now = time.monotonic()
        if self._marks and (now - self._marks[-1][1] < _GRAIN_S or len(self._marks) >= _MARKS_MAX):
            self._marks[-1] = (max(last, self._marks[-1][0]), self._marks[-1][1])
        else:
            self._marks.append((last, now))

    def went(self, last: int) -> None:
        """Records up to `last` don't wait any more."""
        while self._marks and self._marks[0][0] <= last:
            self._marks.popleft()

    @property
    def oldest_s(self) -> float:
        """Age of the oldest that waits, in seconds; 0 when none does."""
        return time.monotonic() - self._marks[0][1] if self._marks else 0.0
