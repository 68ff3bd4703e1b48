# SPDX-License-Identifier: MIT
"""The two sides of a move: the shards as they are and as they will be, and connections to each of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from slurmjcd.config.settings import Config, RedisSection, has_hash_tag
from slurmjcd.store.store import Store
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink


def prefix_of(redis: RedisSection, shards: int) -> str:
    """What redis.prefix has to be with that many shards: the configured one where that will do.

    Several get hash tags of their own, one on a cluster needs one in the prefix.
    """
    if shards > 1:
        return redis.prefix.replace("{", "").replace("}", "")
    if redis.has_cluster and not has_hash_tag(redis.prefix):
        return f"{{{redis.prefix}}}"
    return redis.prefix


class Side:
    """The store as that many shards, with one open connection to each; not for two tasks at a time.

    `use` opens what isn't open, and closes all of it when what was done with it failed: what another task was waiting
    for would be read by the next one.
    """

    def __init__(self, config: Config, shards: int) -> None:
        self.shards = shards
        prefix = prefix_of(config.redis, shards)
        # replicas may be behind, and a move must see everything
        redis = config.redis.model_copy(update={"prefix": prefix, "shards": shards, "read_from": "master"})
        self._store = Store(config.model_copy(update={"redis": redis}))
        self._links: list[StoreLink] = []
        self.redis_prefix = prefix

    @property
    def prefixes(self) -> list[bytes]:
        """Each shard's own."""
        return [shard.prefix for shard in self._store.shards]

    def name(self, shard: int) -> str:
        return self._store.shards[shard].name

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[list[StoreLink]]:
        """A connection to each shard, in their order.

        Raises:
            Unavailable: one can't be had.
        """
        try:
            if not self._links:
                for shard in self._store.shards:
                    link = shard.writer()
                    self._links.append(link)
                    await link.open()
            yield self._links
        except BaseException:
            await self._hang_up()
            raise

    async def infos(self, *, segments: bool = False) -> list[StoreInfo]:
        """What each shard says of itself."""
        async with self.use() as links:
            return [await link.info(segments=segments) for link in links]

    async def close(self) -> None:
        await self._hang_up()
        await self._store.close()

    async def _hang_up(self) -> None:
        while self._links:
            await self._links.pop().close()
