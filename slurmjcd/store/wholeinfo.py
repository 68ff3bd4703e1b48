# SPDX-License-Identifier: MIT
"""SLURMJC.INFO of the whole store, for programs that ask once."""

from __future__ import annotations

from slurmjcd.query.fanout import ask_all
from slurmjcd.store.infosum import sum_infos
from slurmjcd.store.store import Shard, Store
from slurmjcd.store.storeinfo import StoreInfo


async def whole_info(store: Store) -> StoreInfo:
    """Of all shards, as the user that writes. A watermark is what every shard has, or knows to be another's.

    Raises:
        Unavailable: a shard can't be asked; the text says which and why.
    """
    return sum_infos(await ask_all([_Asked(shard) for shard in store.shards], [_info(shard) for shard in store.shards]))


class _Asked:
    """A shard by the name that its errors need."""

    def __init__(self, shard: Shard) -> None:
        self.name = shard.name if shard.count > 1 else ""


async def _info(shard: Shard) -> StoreInfo:
    link = shard.writer()
    try:
        return await link.open()
    finally:
        await link.close()
