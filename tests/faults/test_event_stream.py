# SPDX-License-Identifier: MIT
"""Each stored job is once on <prefix>:events, in order, for two clients of different make, whatever is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import asyncio_redis
import pytest
import redis

from tests.faults.feeder import Feeder
from tests.faults.world import World
from tests.harness import wait_until

KEY = "job:events"
JOBS = 3000
KILLS = 3


class Consumer:
    """Reads the stream as docs/events.md says, in a thread, over all that happens to Redis."""

    def __init__(self, world: World) -> None:
        self.path = str(world.redis.socket)
        self.seen: list[tuple[str, int]] = []  # spool and number, as taken
        self.jobs: list[int] = []
        self.failures = 0
        self._last: dict[str, int] = {}  # by spool: the highest number taken
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def take(self, fields: dict[str, str]) -> None:
        event = json.loads(fields["event"])
        spool, _, number = event["id"].rpartition("/")
        if int(number) <= self._last.get(spool, 0):
            return  # the store had lost it and got it again
        self._last[spool] = int(number)
        self.seen.append((spool, int(number)))
        self.jobs.append(event["job_id"])

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.seen) >= count, what=lambda: f"{count} events, {len(self.seen)} came", timeout_s=60)

    def read(self, stop: threading.Event) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.read(self._stop)
            except (redis.RedisError, asyncio_redis.Error, asyncio_redis.ErrorReply, OSError):
                self.failures += 1
                self._stop.wait(0.05)

    def __enter__(self) -> Consumer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(20)


class WithRedisPy(Consumer):
    """Pushed: XREAD BLOCK."""

    cursor = "0-0"

    def read(self, stop: threading.Event) -> None:
        with contextlib.closing(redis.Redis(unix_socket_path=self.path, protocol=2, decode_responses=True)) as client:
            while not stop.is_set():
                for _, entries in client.xread({KEY: self.cursor}, count=100, block=200) or []:
                    for name, fields in entries:
                        self.take(fields)
                        self.cursor = name


class WithAsyncioRedis(Consumer):
    """A client that knows no streams: a script asks for what came."""

    cursor = "0-0"

    def read(self, stop: threading.Event) -> None:
        asyncio.run(self._read(stop))

    async def _read(self, stop: threading.Event) -> None:
        connection = await asyncio_redis.Connection.create(host=self.path, port=0, auto_reconnect=False)
        try:
            after = await connection.register_script(
                "return redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 100)"
            )
            while not stop.is_set():
                reply = await after.run(keys=[KEY], args=[self.cursor])
                entries = await reply.return_value()
                for name, flat in entries:
                    self.take(dict(zip(flat[::2], flat[1::2], strict=True)))
                    self.cursor = name
                if not entries:
                    await asyncio.sleep(0.02)
        finally:
            connection.close()


def all_events(world: World) -> list[dict[str, Any]]:
    with world.redis.client() as client:
        return [json.loads(fields[b"event"]) for _, fields in client.xrange(KEY)]


@pytest.mark.faults_fast
@pytest.mark.parametrize("killed", ["daemon", "redis"])
def test_no_event_is_lost_or_doubled_when_somebody_is_killed(make_world: Callable[..., World], killed: str) -> None:
    world = make_world(settings={"redis": {"batch_records": 7}})
    with Feeder(world.daemon.ingest_socket) as feeder, WithRedisPy(world) as one, WithAsyncioRedis(world) as two:
        for kills in range(KILLS):
            feeder.feed(JOBS // KILLS)
            one.wait_for(kills * JOBS // KILLS + 50)
            {"daemon": world.daemon, "redis": world.redis}[killed].kill()
            if killed == "redis":
                world.redis.start()
            else:
                world.start_daemon()
        feeder.wait_acked(timeout_s=60)
        jobs = list(feeder.job_ids())
        one.wait_for(len(jobs))
        two.wait_for(len(jobs))
    for consumer in (one, two):
        assert consumer.jobs == jobs
        assert len(set(consumer.seen)) == len(jobs)
    assert killed == "daemon" or two.failures
    # not one too many on the stream itself
    assert [event["job_id"] for event in all_events(world)] == jobs


def test_what_redis_lost_comes_again_under_the_same_ids(make_world: Callable[..., World]) -> None:
    world = make_world()
    with Feeder(world.daemon.ingest_socket) as feeder, WithRedisPy(world) as consumer:
        feeder.feed(500)
        consumer.wait_for(500)
        before = all_events(world)
        with world.redis.client() as client:
            client.flushall()
        feeder.feed(500)
        consumer.wait_for(1000)
        assert consumer.jobs == list(feeder.job_ids())
        assert [event["id"] for event in all_events(world)][:500] == [event["id"] for event in before]


def test_a_consumer_that_is_killed_goes_on_where_it_was(make_world: Callable[..., World]) -> None:
    world = make_world()
    with Feeder(world.daemon.ingest_socket) as feeder:
        feeder.feed(200)
        with WithRedisPy(world) as first:
            first.wait_for(100)
        feeder.feed(200)
        feeder.wait_acked()
        second: Any = WithRedisPy(world)
        second.cursor = first.cursor
        with second:
            second.wait_for(400 - len(first.seen))
        assert first.jobs + second.jobs == list(feeder.job_ids())


def test_events_can_be_off(make_world: Callable[..., World]) -> None:
    world = make_world(settings={"redis": {"events": 0}})
    with Feeder(world.daemon.ingest_socket) as feeder:
        feeder.feed(10)
        wait_until(lambda: world.stored_count() == 10, what="10 jobs")
    with world.redis.client() as client:
        assert not client.exists(KEY)


def test_the_stream_stays_as_long_as_configured(make_world: Callable[..., World]) -> None:
    world = make_world(settings={"redis": {"events": 20}})
    with Feeder(world.daemon.ingest_socket) as feeder:
        feeder.feed(500)
        wait_until(lambda: world.stored_count() == 500, what="500 jobs")
    assert [event["job_id"] for event in all_events(world)] == list(range(481, 501))
