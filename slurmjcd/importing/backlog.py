# SPDX-License-Identifier: MIT
"""Waits until every live record that was on its way when we began is in Redis, where an import can see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from slurmjcd.config.settings import Config
from slurmjcd.spool import ledger
from slurmjcd.store.store import Store
from slurmjcd.store.wholeinfo import whole_info

_LOOK_S: Final = 0.2


class Behind(Exception):
    """Records are on their way and don't arrive; the text says how many and what to do."""


async def drained(config: Config, store: Store, *, wait_s: float, tell: Callable[[str], None]) -> None:
    """Return when they are there. Without a spool on this host there are none.

    Raises:
        Behind: not within `wait_s`.
        SpoolError: the spool can't be read.
        StoreError: Redis can't be asked.
    """
    if not config.spool_path.exists():
        return
    until, goal, told = time.monotonic() + wait_s, ledger.read(config.spool_path), False
    while True:
        now = ledger.read(config.spool_path)
        if now.spool_id != goal.spool_id:
            goal = now  # a damaged spool was replaced meanwhile
        waiting = goal.last - (await whole_info(store)).watermarks.get(goal.spool_id, 0)
        on_the_way = goal.attempted - now.taken - now.dropped
        if waiting <= 0 and on_the_way <= 0:
            return
        left = max(0, waiting) + max(0, on_the_way)
        if time.monotonic() >= until:
            raise Behind(
                f"{left} records of jobs that ended are still on their way to Redis, an import could not see them: is "
                "slurmjcd running (slurmjc doctor)? Try again when it has sent them, see slurmjc audit"
            )
        if not told:
            tell(f"waiting for {left} records that are on their way to Redis")
            told = True
        await asyncio.sleep(_LOOK_S)
