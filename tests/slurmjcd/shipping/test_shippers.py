# SPDX-License-Identifier: MIT
"""Several shards on one real server: each gets its records, at its own pace."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.config.settings import Config, RedisSection
from slurmjcd.errors import Unavailable
from slurmjcd.spool.spool import Spool
from slurmjcd.store.shards import layout_key, shard_prefixes
from slurmjcd.store.store import Store
from tests.harness import RedisServer
from tests.slurmjcd.jobs import job
from tests.slurmjcd.shipping.test_shipper import Shipping, jobs

MakeRedis = Callable[..., RedisServer]
N = 3
PREFIXES = shard_prefixes(b"job", N)


class Sharded(Shipping):
    def start(self, **settings: Any) -> None:
        super().start(**{"shards": N, **settings})

    def of(self, shard: int) -> list[bytes]:
        with self.redis.client() as client:
            if client.execute_command("SLURMJC.MATCH", PREFIXES[shard], "check") is None:
                return []
            return list(client.execute_command("SLURMJC.FETCH", PREFIXES[shard], "check", 100_000, "RECORDS"))

    def marks(self, *shards: int) -> list[int]:
        name = self.spool.state.spool_id
        with self.redis.client() as client:
            return [int(client.hget(PREFIXES[n] + b":spools", name) or 0) for n in shards or range(N)]

    def marks_but(self, away: int) -> list[int]:
        with self.redis.client() as client:
            name = self.spool.state.spool_id
            return [int(client.hget(PREFIXES[n] + b":spools", name) or 0) for n in range(N) if n != away]


@pytest.fixture
async def sharded(tmp_path: Path, make_redis: MakeRedis) -> AsyncIterator[Sharded]:
    spool = await Spool.open(tmp_path / "spool.db", max_bytes=2**30, replay_s=3600, replay_bytes=2**30)
    sharded = Sharded(spool, make_redis())
    yield sharded
    await sharded.stop()
    await spool.close()


def belonging(shard: int, last: int, first: int = 1) -> list[bytes]:
    return [job(number) for number in range(first, last + 1) if number % N == shard]


def check(sharded: Sharded, last: int) -> None:
    for shard in range(N):
        assert sharded.of(shard) == belonging(shard, last)
    assert sharded.marks() == [last] * N


async def test_each_shard_gets_its_records_and_all_numbers(sharded: Sharded) -> None:
    await sharded.take_jobs(1, 25)
    sharded.start()
    await sharded.shipped()
    await sharded.take(*jobs(26, 1000))
    await sharded.shipped()
    check(sharded, 1000)
    assert sharded.metrics.records_shipped._value.get() == 1000
    with sharded.redis.client() as client:
        assert client.get(layout_key(b"job")) == b"3"


async def test_a_shard_that_gets_no_records_keeps_up(sharded: Sharded) -> None:
    sharded.start()
    for _ in range(20):
        await sharded.take(job(3))
    await sharded.shipped()
    assert sharded.marks() == [20] * N
    with sharded.redis.client() as client:
        calls = client.info("commandstats")["cmdstat_slurmjc.put"]["calls"]
    assert calls < 20 + 2 * 10, "an empty PUT for each batch"


async def test_the_stream_of_events_has_the_numbers_of_the_spool(sharded: Sharded) -> None:
    sharded.start()
    await sharded.take(*jobs(1, 10))
    await sharded.take(*jobs(11, 20))
    await sharded.shipped()
    with sharded.redis.client() as client:
        for shard, prefix in enumerate(PREFIXES):
            events = [json.loads(fields[b"event"]) for _, fields in client.xrange(prefix + b":events")]
            numbers = [int(event["id"].rpartition("/")[2]) for event in events]
            assert numbers == [number for number in range(1, 21) if number % N == shard]


async def test_shards_share_the_number_of_events_that_are_kept(sharded: Sharded) -> None:
    sharded.start(events=100)
    await sharded.take(*jobs(1, 900))
    await sharded.shipped()
    with sharded.redis.client() as client:
        assert [client.xlen(prefix + b":events") for prefix in PREFIXES] == [34, 34, 34]


async def test_a_shard_that_is_away_holds_nobody_back(sharded: Sharded) -> None:
    with sharded.redis.client() as client:
        client.set(PREFIXES[1] + b":spools", "no hash")  # its PUTs are refused
    sharded.start()
    await sharded.take(*jobs(1, 900))
    await sharded.until(lambda: sharded.marks(0, 2) == [900, 900], "the others")
    assert sharded.of(0) == belonging(0, 900)
    assert sharded.spool.state.shipped == 0
    assert not sharded.shippers.up
    await sharded.until(lambda: "shard 1 of 3 (job ids with id % 3 = 1): " in sharded.shippers.status, "what is wrong")
    assert [one.spool.backlog for one in sharded.shippers.each] == [0, 900, 0]
    with sharded.redis.client() as client:
        client.delete(PREFIXES[1] + b":spools")
    await sharded.shipped()
    check(sharded, 900)
    assert sharded.shippers.up


async def test_a_shard_that_lost_its_records_gets_them_again(sharded: Sharded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurmjcd.shipping.shipper._CHECK_S", 0.1)
    sharded.start()
    await sharded.take(*jobs(1, 300))
    await sharded.shipped()
    with sharded.redis.client() as client:
        client.delete(*client.keys(PREFIXES[2] + b"*"))
    assert not sharded.of(2)
    await sharded.until(lambda: len(sharded.of(2)) == 100, "them again")
    await sharded.shipped()
    check(sharded, 300)
    assert sharded.spool.state.lost == 0


async def test_what_a_shard_lost_beyond_the_replay_window_is_counted(
    sharded: Sharded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("slurmjcd.shipping.shipper._CHECK_S", 0.1)
    sharded.start()
    await sharded.take(*jobs(1, 30))
    await sharded.shipped()
    sharded.spool.replay_s = 0
    await sharded.spool.trim()
    await sharded.stop()
    sharded.start()  # which has nothing in memory
    with sharded.redis.client() as client, caplog.at_level(logging.ERROR):
        client.delete(*client.keys(PREFIXES[2] + b"*"))
        await sharded.take(job(32))
        await sharded.until(lambda: sharded.of(2) == [job(32)], "the next")
    await sharded.shipped()
    assert sharded.spool.state.lost == 30
    assert "shard 2 of 3: records 1 to 30 are gone" in caplog.text


@pytest.mark.parametrize("bad", [[1], [13, 14], [2, 5, 9, 14, 25]])
async def test_a_malformed_record_goes_to_quarantine_under_its_number(sharded: Sharded, bad: list[int]) -> None:
    records = [job(number, end=0) if number in bad else job(number) for number in range(1, 26)]
    await sharded.take(*records[:13])
    await sharded.take(*records[13:])
    sharded.start()
    await sharded.shipped()
    for shard in range(N):
        assert sharded.of(shard) == [each for each in belonging(shard, 25) if each not in [job(one) for one in bad]]
    rows = sharded.spool.database.connection.execute("SELECT seq, record FROM quarantine ORDER BY seq").fetchall()
    assert rows == [(number, job(number, end=0)) for number in bad]


async def test_a_damaged_batch_is_set_aside_and_all_go_on(sharded: Sharded) -> None:
    await sharded.take(*jobs(1, 10))
    await sharded.take(*jobs(11, 20))
    sharded.spool._tail.clear()
    sharded.spool.database.connection.execute("UPDATE batch SET crc = crc + 1 WHERE first = 1")
    sharded.start()
    await sharded.shipped()
    for shard in range(N):
        assert sharded.of(shard) == belonging(shard, 20, first=11)
    assert sharded.metrics.records_rejected._value.get() == 10
    assert sharded.marks() == [20] * N


async def test_a_spool_that_was_set_back_goes_on_above_all_shards(sharded: Sharded) -> None:
    with sharded.redis.client() as client:
        client.set(layout_key(b"job"), "3")
        words = ("SPOOL", sharded.spool.state.spool_id, 100, "LAST", 100, "GAP", "RECORDS", job(99))
        client.execute_command("SLURMJC.PUT", PREFIXES[0], *words)
    await sharded.take_jobs(1, 6)
    sharded.start()
    await sharded.until(lambda: sharded.spool.state.last >= 100 and not sharded.spool.state.backlog, "the jump")
    await sharded.take_jobs(7, 12)
    await sharded.until(lambda: sharded.marks() == [106] * N, "the watermarks")
    assert sharded.of(0) == [*belonging(0, 12), job(99)]
    assert sharded.of(1) == belonging(1, 12)
    assert sharded.spool.state.lost == 0


@pytest.mark.parametrize(
    ("layout", "shards", "told"),
    [
        ("6", 3, "lie in 6 shards, redis.shards is 3: set redis.shards = 6, or with that move the jobs: slurmjc"),
        ("3", 1, "lie in 3 shards, redis.shards is 1: set redis.shards = 3"),
        ("3>6", 3, "jobs are being moved from 3 shards to 6: records wait until `slurmjc reshard` is done"),
        ("many", 3, "the key 'job:shards' in Redis is no layout of shards: 'many' is no number"),
    ],
)  # fmt: skip
async def test_another_layout_than_configured_is_refused(sharded: Sharded, layout: str, shards: int, told: str) -> None:
    with sharded.redis.client() as client:
        client.set(layout_key(b"job"), layout)
    sharded.start(shards=shards)
    await sharded.take_jobs(1, 6)
    await sharded.until(lambda: told in sharded.shippers.status, "the refusal")
    with sharded.redis.client() as client:
        assert client.keys("*") == [layout_key(b"job")]
        client.set(layout_key(b"job"), str(shards))
    await sharded.shipped()


async def test_jobs_of_before_there_were_shards_are_not_left_behind(sharded: Sharded) -> None:
    sharded.start(shards=1)
    await sharded.take_jobs(1, 6)
    await sharded.shipped()
    await sharded.stop()
    sharded.start()
    told = "the jobs in the store lie in 1 shard, redis.shards is 3: set redis.shards = 1, or with that move the jobs"
    await sharded.until(lambda: told in sharded.shippers.status, "the refusal")
    with sharded.redis.client() as client:
        assert not client.exists(layout_key(b"job"))


async def test_shippers_hold_while_jobs_move_and_go_on_afterwards(
    sharded: Sharded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurmjcd.shipping.shipper._CHECK_S", 0.1)
    monkeypatch.setattr("slurmjcd.store.layout._KEPT_S", 0.1)
    sharded.start()
    await sharded.take_jobs(1, 6)
    await sharded.shipped()
    with sharded.redis.client() as client:
        client.set(layout_key(b"job"), "3>6")
    await sharded.until(lambda: "are being moved" in sharded.shippers.status, "them to hold")
    await sharded.until(lambda: not any(one.up for one in sharded.shippers.each), "all to hold")
    await sharded.take_jobs(7, 12)
    await asyncio.sleep(0.3)
    assert sharded.marks() == [6] * N
    with sharded.redis.client() as client:
        client.set(layout_key(b"job"), "3")
    await sharded.shipped()
    check(sharded, 12)


async def test_questions_are_refused_where_jobs_lie_otherwise(sharded: Sharded) -> None:
    with sharded.redis.client() as client:
        client.set(layout_key(b"job"), "6")
    for shards in (1, 3):
        store = Store(Config(redis=RedisSection(address=sharded.redis.address, shards=shards)))
        with pytest.raises(Unavailable, match=f"lie in 6 shards, redis.shards is {shards}"):
            async with store.shards[0].reader():
                raise AssertionError
        await store.close()
    store = Store(Config(redis=RedisSection(address=sharded.redis.address, shards=6)))
    async with store.shards[5].reader() as link:
        assert (await link.info()).fields["jobs"] == 0
    await store.close()
