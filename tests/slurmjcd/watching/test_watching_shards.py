# SPDX-License-Identifier: MIT
"""SLURMJC.WATCH over a store of several shards: the streams of all of them, as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.access.policy import Peer
from slurmjcd.query.server import QueryServer
from slurmjcd.record import decode
from slurmjcd.watching import events
from slurmjcd.watching.feeds import in_turn
from tests.harness import RedisServer
from tests.slurmjcd import sharded
from tests.slurmjcd.jobs import job
from tests.slurmjcd.query.test_query_shards import ME, NAMED, answering
from tests.slurmjcd.wire import Wire, text

SHARDS = 3
LONG = 60_000  # ms


@pytest.fixture
def redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis()


@pytest.fixture
async def asking(redis: RedisServer, rundir: Path) -> AsyncIterator[tuple[QueryServer, Wire]]:
    async with answering(rundir / "q.sock", sharded.store(redis, SHARDS)) as (server, wire):
        yield server, wire


def end(redis: RedisServer, *job_ids: int, keep: int = 1000, **fields: Any) -> None:
    records = [job(number, **fields) for number in job_ids]
    sharded.put(redis, records, "EVENTS", keep, time.time_ns() // 1_000_000, shards=SHARDS)


def ids(reply: Any) -> list[int]:
    assert isinstance(reply, list), reply
    return [decode(record)["job_id"] for record in reply[2:]]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_jobs_of_every_shard_are_pushed(redis: RedisServer, asking: tuple[QueryServer, Wire]) -> None:
    server, wire = asking
    for number in (50, 51, 52):
        wire.send("SLURMJC.WATCH", "$", 10, LONG, "job", "50-52")
        await until(lambda: server.waiting.total() == 1)
        end(redis, number, 7000 + number)
        assert ids(await wire.reply()) == [number]
        await until(lambda: not server.waiting)


async def test_the_place_goes_on_in_every_shard_and_in_the_order_of_storing(
    redis: RedisServer, asking: tuple[QueryServer, Wire]
) -> None:
    server, wire = asking
    place, seen = (await wire.call("SLURMJC.WATCH", "$", 10, 0))[0], []
    assert place.count(b",") == SHARDS - 1
    for number in range(100, 130):
        end(redis, number)
        time.sleep(0.002)  # ids of events are milliseconds
    while len(seen) < 30:
        reply = await wire.call("SLURMJC.WATCH", place, 7, LONG)
        place = reply[0]
        seen += ids(reply)
    assert sorted(seen) == list(range(100, 130))
    assert await wire.call("SLURMJC.WATCH", place, 7, 0) == [place, 0]
    # what is there all at once is told in order; from the streams, when memory has it no longer
    for kept in (True, False):
        if not kept:
            await server.feed.close()
        assert ids(await wire.call("SLURMJC.WATCH", "0-0", 500, LONG)) == list(range(100, 130))


async def test_the_place_passes_over_what_was_for_others_in_every_shard(
    redis: RedisServer, asking: tuple[QueryServer, Wire]
) -> None:
    server, wire = asking
    place = (await wire.call("SLURMJC.WATCH", "$", 1, 0))[0]
    wire.send("SLURMJC.WATCH", place, 7, LONG, "job", "90")
    await until(lambda: server.waiting.total() == 1)
    end(redis, 50, 51, 52)
    await until(
        lambda: all(last > before for last, before in zip(server.feed.last, server.feed.parse(place), strict=True))
    )
    others = server.feed.last
    end(redis, 90)
    reply = await wire.reply()
    assert ids(reply) == [90]
    ended = server.feed.parse(reply[0])
    assert [a > b for a, b in zip(ended, others, strict=True)] == [True, False, False]
    assert ended[1:] == others[1:]


async def test_that_events_of_one_shard_are_gone_is_said(redis: RedisServer, asking: tuple[QueryServer, Wire]) -> None:
    server, wire = asking
    end(redis, 1, 2, 3)
    place = (await wire.call("SLURMJC.WATCH", "$", 1, 0))[0]
    end(redis, *range(100, 130, 3), keep=4)  # 100 % 3 = 1
    end(redis, 99)
    await server.feed.close()
    reply = await wire.call("SLURMJC.WATCH", place, 500, LONG)
    assert reply[1] == 1
    assert sorted(ids(reply)) == [99, 118, 121, 124, 127]


async def test_jobs_of_others_are_not_told(redis: RedisServer, rundir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurmjcd.query.asking.peer_of", lambda transport: Peer(ME, 1, ME))
    async with answering(rundir / "p.sock", sharded.store(redis, SHARDS), private=True) as (server, wire):
        wire.send("SLURMJC.WATCH", "$", 10, LONG)
        await until(lambda: server.waiting.total() == 1)
        before = server.feed.last
        end(redis, 50, 51, 52, uid=ME + 1)
        await until(lambda: all(last > then for last, then in zip(server.feed.last, before, strict=True)))
        end(redis, 53, uid=ME)
        assert ids(await wire.reply()) == [53]
        assert ids(await wire.call("SLURMJC.WATCH", "0-0", 10, 0)) == [53]


async def test_a_place_in_a_store_of_other_parts_is_refused(asking: tuple[QueryServer, Wire]) -> None:
    _, wire = asking
    for place, why in (
        ("5-0", "a place in 1 streams of events, redis.shards is 3: begin with '$'"),
        ("5-0,6-0,7-0,8-0", "a place in 4 streams of events, redis.shards is 3: begin with '$'"),
        ("5-0,6-0,7-0,8-0,9-0", "the id of an event is"),
        ("5-0,x,7-0", "the id of an event is"),
        (",,", "the id of an event is"),
    ):
        answer = text(await wire.call("SLURMJC.WATCH", place, 1, 0))
        assert why in answer, place


async def test_a_shard_that_is_away_is_named_at_the_start_and_waited_for_later(
    make_redis: Callable[..., RedisServer], rundir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [make_redis(name) for name in ("zero", "one", "two")]
    async with answering(rundir / "q.sock", sharded.split_store(servers)) as (server, wire):
        wire.send("SLURMJC.WATCH", "$", 10, LONG)
        await until(lambda: server.waiting.total() == 1)
        await asyncio.to_thread(servers[2].kill)
        other = await Wire.connect(rundir / "q.sock")
        await until(lambda: not server.feed.feeds[2]._connected.is_set())
        assert text(await other.call("SLURMJC.WATCH", "$", 10, LONG)).startswith(NAMED)
        await other.close()
        end(servers[1], 61)
        assert ids(await wire.reply()) == [61]  # the others go on
        await asyncio.to_thread(servers[2].start)
        with servers[2].client() as client:
            await until(lambda: client.info("clients")["blocked_clients"] == 1)
        wire.send("SLURMJC.WATCH", "$", 10, LONG)
        await until(lambda: server.waiting.total() == 1)
        end(servers[2], 62)
        assert ids(await wire.reply()) == [62]


def test_events_of_streams_come_in_turn() -> None:
    def event(ms: int, seq: int = 0) -> events.Event:
        return events.Event((ms, seq), ("c", ms, 0, 0, 0), events.Shown(ms, None, None), 0, "")

    streams = [[event(1), event(4), event(9)], [], [event(2), event(4), event(4, 1)]]
    order = [(0, (1, 0)), (2, (2, 0)), (0, (4, 0)), (2, (4, 0)), (2, (4, 1)), (0, (9, 0))]
    for most in range(8):
        assert [(number, event.id) for number, event in in_turn(streams, most)] == order[:most]
