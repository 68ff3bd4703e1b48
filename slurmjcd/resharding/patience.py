# SPDX-License-Identifier: MIT
"""Does a thing again when a server isn't there for a while, or a slot is on its way to another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slurmjcd.backoff import Backoff
from slurmjcd.errors import Unavailable

T = TypeVar("T")


class Patience:
    """`await patience(do)`.

    Args:
        wait_s: for how long what fails is done again.
        tell: takes a sentence, the first time that something has to wait.
    """

    def __init__(self, wait_s: float, tell: Callable[[str], None]) -> None:
        self.wait_s = wait_s
        self._tell = tell

    async def __call__(self, do: Callable[[], Awaitable[T]]) -> T:
        """What it returns.

        Raises:
            Unavailable: for too long, or what time does not mend.
        """
        until, backoff, told = time.monotonic() + self.wait_s, Backoff(longest_s=2.0), False
        while True:
            try:
                return await do()
            except Unavailable as exc:
                if time.monotonic() > until or "NOPERM" in str(exc):
                    raise
                if not told:
                    self._tell(f"{exc}; waiting")
                    told = True
            await asyncio.sleep(backoff.next_s())
