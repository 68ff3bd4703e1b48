# SPDX-License-Identifier: MIT
"""Looks at the daemon's stages every second, so that the status page knows what was, not only what is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from slurmjcd.errors import StoreError
from slurmjcd.health.history import History
from slurmjcd.health.stages import Stages
from slurmjcd.health.troubles import Troubles
from slurmjcd.query.fanout import ask_all
from slurmjcd.query.sources import shard_sources
from slurmjcd.store.infosum import sum_infos

if TYPE_CHECKING:
    from slurmjcd.daemon import Daemon

_LOOK_S: Final = 1.0
_ASK_S: Final = 10.0
_ANSWER_S: Final = 5.0


class Observer:
    """Runs until it is cancelled."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._shards = shard_sources(daemon.store, lambda: daemon.config.query)
        self.started = time.time()
        self.stages = Stages(daemon)
        self.troubles = Troubles()
        self.history = History(daemon)

    async def run(self) -> None:
        asked_at = float("-inf")
        while True:
            if self._daemon.shipper is None and time.monotonic() - asked_at >= _ASK_S:
                await self._ask_redis()
                asked_at = time.monotonic()
            self.look()
            self.history.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Take note of how things are now."""
        self.troubles.look(self.stages.now())

    async def _ask_redis(self) -> None:
        """Where no shipper does: how is Redis?"""
        stages, up = self.stages, self._daemon.metrics.redis_up
        try:
            async with asyncio.timeout(_ANSWER_S):
                infos = await ask_all(self._shards, [shard.info() for shard in self._shards])
            stages.info, stages.unreachable = sum_infos(infos), None
            up.set(1)
        except (StoreError, TimeoutError) as exc:
            up.set(0)
            stages.unreachable = str(exc) or f"Redis at {self._daemon.store.address} gives no answer"
