# SPDX-License-Identifier: MIT
"""The shippers of all shards, and what they say together."""

from __future__ import annotations

import asyncio
from typing import Final

from slurmjcd.config.settings import RedisSection
from slurmjcd.health.metrics import Metrics
from slurmjcd.shipping.parts import SpoolParts
from slurmjcd.shipping.shipper import NOT_YET, Shipper
from slurmjcd.spool.spool import Spool
from slurmjcd.store.infosum import sum_infos
from slurmjcd.store.layout import StoreLayout
from slurmjcd.store.store import Store
from slurmjcd.store.storeinfo import StoreInfo

SHIPPING: Final = "shipping"
_NAMED: Final = 3  # of shards that are away, in one line


class Shippers:
    """One for each shard, each at its own pace. `each` has them in the order of the shards."""

    def __init__(self, spool: Spool, store: Store, config: RedisSection, metrics: Metrics) -> None:
        parts = SpoolParts(spool, len(store.shards))
        self._layout = StoreLayout(store, writes=True)
        self.each = [Shipper(parts.part(shard.index), shard, self._layout, config, metrics) for shard in store.shards]

    async def run(self) -> None:
        """Ship for ever."""
        try:
            if len(self.each) == 1:
                await self.each[0].run()
            else:
                async with asyncio.TaskGroup() as tasks:
                    for shipper in self.each:
                        tasks.create_task(shipper.run(), name=f"shipper {shipper.shard.index}")
        finally:
            await self._layout.close()

    async def drained(self) -> None:
        """Return when all that can be shipped is; what belongs to a shard that is away stays in the spool."""
        await asyncio.gather(*(shipper.wait_drained() for shipper in self.each))

    @property
    def up(self) -> bool:
        """Whether every shard takes records."""
        return all(shipper.up for shipper in self.each)

    @property
    def status(self) -> str:
        """In one line what they do; with shards away, which and why."""
        if len(self.each) == 1:
            return self.each[0].status
        away = [shipper for shipper in self.each if not shipper.up]
        if away and all(shipper.status == NOT_YET for shipper in away):
            return NOT_YET
        if away:
            told = "; ".join(f"{shipper.shard.name}: {shipper.status}" for shipper in away[:_NAMED])
            return told + (f"; and {len(away) - _NAMED} more" if len(away) > _NAMED else "")
        other = [shipper for shipper in self.each if shipper.status != SHIPPING]
        return f"{other[0].shard.name}: {other[0].status}" if other else SHIPPING

    @property
    def info(self) -> StoreInfo | None:
        """What the shards said of themselves, together; None before any has."""
        infos = [shipper.info for shipper in self.each if shipper.info is not None]
        return sum_infos(infos) if infos else None

    def why_incomplete(self) -> str | None:
        """Why the store lacks jobs that it has had before, None when it doesn't."""
        return next((why for shipper in self.each if (why := shipper.why_incomplete()) is not None), None)
