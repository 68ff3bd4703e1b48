# SPDX-License-Identifier: MIT
"""Several shards with files: days are moved out of all of them, and answers are those of one store with all in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from slurmjcd.cold.engine import Engine
from slurmjcd.config.settings import Config
from slurmjcd.store.shards import shard_prefixes
from tests.harness import RedisServer
from tests.module.records import DAY, NOON, job, pack
from tests.slurmjcd import sharded
from tests.slurmjcd.cold.conftest import Store, config_for, in_files, move
from tests.slurmjcd.cold.test_moving import run_of
from tests.slurmjcd.cold.test_tier import Tiered, in_redis, rows

SHARDS = 3


def sharded_config(server: RedisServer, directory: Path) -> Config:
    plain = config_for(server, directory, after_days=1)
    redis = plain.redis.model_copy(update={"shards": SHARDS, "prefix": sharded.prefix_of(SHARDS)})
    return plain.model_copy(update={"redis": redis})


async def test_days_of_all_shards_in_one_file(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    first = [job(number, NOON + number % 4 * 86400 + number % 5) for number in range(1, 41)]
    again = [run_of(1, NOON + 86400), job(2, NOON, cluster="d"), *first[7:9], run_of(3, NOON + 3 * 86400)]
    config = sharded_config(server, tmp_path)
    sharded.put(server, [pack(record) for record in first], shards=SHARDS)
    await asyncio.to_thread(move, config, engine, (DAY + 4) * 86400)
    assert {record["end"] // 86400 - DAY for record in in_files(tmp_path, engine)} == {0, 1, 2}
    sharded.put(server, [pack(record) for record in again], shards=SHARDS)
    whole = Store(store.client, "whole")
    whole.put(*first)
    whole.put(*again)
    for passes in range(2):
        async with Tiered(config, engine).wire() as wire:
            for words in ((), ("job", "1-9"), ("start", NOON + 86400), ("cluster", "d"), ("limit", 7)):
                for count in (1, 1000):
                    found = await rows(wire, *words, count=count, name=sharded.prefix_of(SHARDS))
                    assert found == in_redis(whole, *words), (passes, words)
            assert await wire.call("SLURMJC.AGG", "BY", "day") == whole.call("AGG", "BY", "day")
            for number in (1, 2, 3, 8):
                assert await wire.call("SLURMJC.GET", number) == whole.call("GET", number)
        await asyncio.to_thread(move, config, engine, (DAY + 9) * 86400)
    prefixes = shard_prefixes(sharded.prefix_of(SHARDS).encode(), SHARDS)
    assert [Store(store.client, prefix.decode()).ids() for prefix in prefixes] == [[], [], []]
