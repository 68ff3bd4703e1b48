# SPDX-License-Identifier: MIT
"""An address that names a replica: its answers are as new as redis.replica_lag_s says, or errors that say why."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.config.settings import Config, QuerySection, RedisSection
from slurmjcd.errors import Unavailable
from slurmjcd.query import fanout
from slurmjcd.query.sources import ShardSource, shard_sources
from slurmjcd.store.store import Store
from slurmjcd.store.storelink import StoreLink
from slurmjcd.watching.events import EventFeed
from tests.harness import RedisServer, wait_until
from tests.harness.ports import free_ports
from tests.slurmjcd.jobs import NOON, job

JOBS = 500
LOST = "is a replica without a connection to its master: nobody knows what it lacks"


class Pair:
    """A master that has jobs, and its replica."""

    def __init__(self, directory: Path) -> None:
        self.ports = free_ports(2)
        self.servers = [
            RedisServer(directory / f"server{port}", options={"port": port, "repl-ping-replica-period": 1})
            for port in self.ports
        ]
        self.master, self.replica = self.servers

    def start(self) -> None:
        for server in self.servers:
            server.start()
        with self.master.client() as client:
            records = [job(number, end=NOON + number) for number in range(1, JOBS + 1)]
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records)
        self.follow()
        wait_until(lambda: self.link() == "up", what="the replica to have it all")

    def follow(self) -> None:
        with self.replica.client() as client:
            client.replicaof("127.0.0.1", self.ports[0])

    def link(self) -> str:
        with self.replica.client() as client:
            return str(client.info("replication").get("master_link_status"))

    def lose_master(self) -> None:
        self.master.kill()
        wait_until(lambda: self.link() == "down", what="the link to be down")


@pytest.fixture
def pair(rundir: Path) -> Iterator[Pair]:
    pair = Pair(rundir)
    try:
        pair.start()
        yield pair
    finally:
        for server in pair.servers:
            server.stop()


@asynccontextmanager
async def asking(port: int, **settings: Any) -> AsyncIterator[ShardSource]:
    store = Store(Config(redis=RedisSection(address=f"redis://127.0.0.1:{port}", **settings)))
    config = QuerySection(timeout_s=5.0)
    try:
        yield shard_sources(store, lambda: config)[0]
    finally:
        await store.close()


async def count(source: ShardSource) -> int:
    return sum(group[1] for group in await fanout.groups([source], [b"user"], []))


async def test_a_replica_that_keeps_up_answers(pair: Pair) -> None:
    async with asking(pair.ports[1]) as source:
        assert await count(source) == JOBS
        opened = await fanout.match([source], [])
        assert sum([len(page) async for page in fanout.records(opened, 100)]) == JOBS


async def test_one_that_has_lost_its_master_says_so(pair: Pair) -> None:
    """To who is connected and to who comes anew; with its master it answers again."""
    async with asking(pair.ports[1]) as source, asking(pair.ports[1]) as other:
        opened = await fanout.match([source], [])
        assert opened is not None
        assert await opened.page(100, records=True)
        pair.lose_master()
        for _ in range(2):
            for asked in (source, other):
                with pytest.raises(Unavailable, match=LOST):
                    await count(asked)
        with pytest.raises(Unavailable, match=LOST):
            await opened.page(100, records=True)
        pair.master.start()
        wait_until(lambda: pair.link() == "up", what="the link to be up")
        assert await count(source) == 0  # it had no files: that is what its master has now


async def test_an_answer_is_not_given_by_one_that_lost_its_master_meanwhile(pair: Pair) -> None:
    async def ask(link: StoreLink) -> Any:
        rows = await link.call(b"SLURMJC.AGG", b"job", b"BY", b"user")
        await asyncio.to_thread(pair.lose_master)
        return rows

    async with asking(pair.ports[1]) as source:
        assert await count(source) == JOBS
        with pytest.raises(Unavailable, match=LOST):
            await source.ask(ask)


async def test_one_whose_master_is_silent_for_too_long_says_so(pair: Pair) -> None:
    async with asking(pair.ports[1], replica_lag_s=10.0) as source:
        pair.master.process.send(signal.SIGSTOP)  # the connection stays
        with pair.replica.client() as client:
            wait_until(
                lambda: int(client.info("replication")["master_last_io_seconds_ago"]) > 10,
                what="silence",
                timeout_s=30,
            )
        why = r"is a replica that has not heard from its master for \d+ s, redis.replica_lag_s is 10"
        with pytest.raises(Unavailable, match=why):
            await count(source)
        pair.master.process.send(signal.SIGCONT)
        wait_until(lambda: pair.link() == "up", what="the link to be up")
        with pair.replica.client() as client:
            wait_until(lambda: int(client.info("replication")["master_last_io_seconds_ago"]) < 2, what="it to be heard")
        assert await count(source) == JOBS


async def test_a_master_that_becomes_a_replica_is_seen(pair: Pair) -> None:
    async with asking(pair.ports[0]) as source:
        assert await count(source) == JOBS
        with pair.master.client() as client:
            client.replicaof("127.0.0.1", 1)
        await asyncio.sleep(1.0)  # it is looked at once a second
        with pytest.raises(Unavailable, match=LOST):
            await count(source)


async def test_one_that_refuses_without_its_master_is_quoted(pair: Pair) -> None:
    with pair.replica.client() as client:
        client.config_set("replica-serve-stale-data", "no")
    async with asking(pair.ports[1]) as source:
        assert await count(source) == JOBS
        pair.lose_master()
        with pytest.raises(Unavailable, match="MASTERDOWN"):
            await count(source)


async def test_who_begins_to_wait_for_a_job_is_told(pair: Pair) -> None:
    """Nothing would come from a replica that has lost its master, and nobody would know."""
    store = Store(Config(redis=RedisSection(address=f"redis://127.0.0.1:{pair.ports[1]}")))
    feed = EventFeed(store.masters[0], 1.0)
    try:
        await feed.position()
        await asyncio.to_thread(pair.lose_master)
        while feed._connected.is_set():
            await asyncio.sleep(0.05)
        with pytest.raises(Unavailable, match=LOST):
            await feed.position()
    finally:
        await feed.close()
        await store.close()
