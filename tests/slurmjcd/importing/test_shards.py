# SPDX-License-Identifier: MIT
"""An import into several shards: each record on its own, exactly once, whatever came in between."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import record
from slurmjcd.config.settings import RedisSection
from slurmjcd.errors import BadRecord, Unavailable
from slurmjcd.importing.target import Target
from slurmjcd.store.shards import layout_key, shard_prefixes
from slurmjcd.store.store import Store
from tests.harness import RedisServer
from tests.harness.paths import program
from tests.slurmjcd import sharded
from tests.slurmjcd.importing.test_filetxt import line
from tests.slurmjcd.jobs import job

SHARDS = 3
SPOOL = "import-test"
OpenTarget = Callable[[Store], Awaitable[Target]]


@pytest.fixture
def redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    server = make_redis()
    sharded.put(server, [job(1)], shards=SHARDS)  # what sets the layout
    return server


def held(redis: RedisServer) -> list[list[int]]:
    """The job ids in each shard."""
    found = []
    with redis.client() as client:
        for prefix in shard_prefixes(sharded.prefix_of(SHARDS).encode(), SHARDS):
            ids = []
            opened = client.execute_command("SLURMJC.MATCH", prefix, "q")
            while opened and (page := client.execute_command("SLURMJC.FETCH", prefix, "q", 1000, "RECORDS")):
                ids += [record.decode(blob)["job_id"] for blob in page]
            found.append(sorted(ids))
    return found


def summary(redis: RedisServer, directory: Path, *words: str) -> dict[str, Any]:
    section = sharded.config(redis, SHARDS).redis
    conf = directory / "slurmjcd.toml"
    conf.write_text(
        f'[daemon]\nstate_dir = "{directory}"\n[redis]\naddress = "{redis.address}"\nshards = {SHARDS}\n'
        f'prefix = "{section.prefix}"\nbatch_records = 50\n'
    )
    command = [program("slurmjc"), "import", "--config", conf, "--timezone", "UTC", "--cluster", "c1", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=directory)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if value and name != "schema"}


def test_each_job_is_imported_into_its_shard_and_once(redis: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(line(JobId=str(number)) + "\n" for number in range(2, 400)))
    assert summary(redis, tmp_path, "log") == {"read": 398, "stored": 398}
    whole = [[number for number in range(1, 400) if number % SHARDS == shard] for shard in range(SHARDS)]
    assert held(redis) == whole
    assert summary(redis, tmp_path, "log") == {"read": 398, "already_there": 398}
    # a shard that lost all goes back to where its watermark is; what the others have is there
    with redis.client() as client:
        for key in client.keys("{*-2-3.*}:*"):
            client.delete(key)
    assert held(redis)[2] == []
    assert summary(redis, tmp_path, "log") == {"read": 398, "stored": 133, "already_there": 265}
    assert held(redis) == whole


@pytest.fixture
async def open_target() -> AsyncIterator[OpenTarget]:
    """Opens targets, which are closed behind the test."""
    targets: list[tuple[Target, Store]] = []

    async def make(store: Store) -> Target:
        target = Target(store, RedisSection(shards=SHARDS))
        targets.append((target, store))
        await target.open()
        return target

    yield make
    for target, store in targets:
        await target.close()
        await store.close()


async def test_what_one_shard_refuses_is_named_and_the_rest_is_stored_once(
    redis: RedisServer, open_target: OpenTarget
) -> None:
    target = await open_target(sharded.store(redis, SHARDS))
    for spool in ((SPOOL, 1), None):
        offset = 100 if spool else 200
        records = [job(number) if number % 5 else b"" for number in range(offset, offset + 30)]
        wrong = 7
        records[wrong] = record.encode(record.decode(records[wrong]) | {"end": 0})
        sent = [blob for blob in records if blob] if spool is None else records
        await target.put(records, spool)
        with pytest.raises(BadRecord, match="end") as refused:
            await target.stored()
        assert sent[refused.value.index] == records[wrong]
        records[wrong] = b""
        await target.put(records, spool)
        assert await target.stored() == 23
        assert await target.stored() == 0
    assert (await open_target(sharded.store(redis, SHARDS))).watermarks == {SPOOL: 30}
    expected = [1, *(n for n in (*range(100, 130), *range(200, 230)) if n % 5 and n not in (107, 207))]
    assert held(redis) == [[number for number in expected if number % SHARDS == shard] for shard in range(SHARDS)]


async def test_a_shard_that_is_away_is_named(make_redis: Callable[..., RedisServer], open_target: OpenTarget) -> None:
    servers = [make_redis(name) for name in ("zero", "one", "two")]
    target = await open_target(sharded.split_store(servers))
    servers[1].kill()

    async def batches() -> None:
        for first in (1, 11):
            await target.put([job(number) for number in range(100 + first, 110 + first)], (SPOOL, first))
            await target.stored()

    with pytest.raises(Unavailable, match=r"^shard 1 of 3 \(job ids with id % 3 = 1\): connection to Redis"):
        await batches()
    with pytest.raises(Unavailable, match=r"^shard 1 of 3 \(job ids with id % 3 = 1\): no connection to Redis"):
        await open_target(sharded.split_store(servers))


@pytest.mark.parametrize(("layout", "why"), [("6", "lie in 6 shards, redis.shards is 3"), ("3>6", "are being moved")])
async def test_nothing_is_imported_beside_another_layout(
    redis: RedisServer, open_target: OpenTarget, layout: str, why: str
) -> None:
    store = sharded.store(redis, SHARDS)
    with redis.client() as client:
        client.set(layout_key(store.prefix), layout)
    with pytest.raises(Unavailable, match=why):
        await open_target(store)
    assert held(redis) == [[], [1], []]
