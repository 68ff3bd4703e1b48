# SPDX-License-Identifier: MIT
"""Questions to replicas of a real cluster whose slots move: whole answers or an error, never fewer rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import protocol
from slurmjcd.config.settings import Config, QuerySection, RedisSection
from slurmjcd.errors import Unavailable
from slurmjcd.query import fanout
from slurmjcd.query.fanout import Forgetting, MergedQuery
from slurmjcd.query.sources import ShardSource, shard_sources
from slurmjcd.record import decode
from slurmjcd.store.shards import layout_key, shard_of, shard_prefixes, slot_of
from slurmjcd.store.store import Store
from slurmjcd.store.storelink import StoreLink
from tests.harness import wait_until
from tests.harness.cluster import ClusterSite
from tests.harness.rundir import run_dir
from tests.slurmjcd.jobs import NOON, job

SHARDS = 3
DAYS = 6
JOBS = 12_000
REPLICAS = {3, 4, 5}
PREFIXES = shard_prefixes(b"job", SHARDS)
PREFIX, SLOT = PREFIXES[1].decode(), slot_of(PREFIXES[1])
# a list to be taken apart for each job, so that a question takes many slices
HEAVY = [(b"node", b"zz1,x[1-7]")]


@pytest.fixture
def site() -> Iterator[ClusterSite]:
    """Shard i on master i and its replica, at first; jobs of several days."""
    options: dict[str, str | int] = {"cluster-require-full-coverage": "no", "repl-ping-replica-period": 1}
    with run_dir() as directory:
        site = ClusterSite(Path(directory) / "site", options=options)
        try:
            site.start()
            fill(site)
            yield site
        finally:
            site.stop()


def fill(site: ClusterSite) -> None:
    parts: list[list[bytes]] = [[] for _ in PREFIXES]
    for number in range(1, JOBS + 1):
        end = NOON + number + 86_400 * (number * DAYS // (JOBS + 1))
        nodes = f"n[1-3,5-9],m[2,4,6,8],r[1-9]q[1-9],x{number}"
        parts[shard_of(number, SHARDS)].append(job(number, end=end, nodes=nodes, user=f"u{number % 7}"))
    for prefix, part in zip(PREFIXES, parts, strict=True):
        for first in range(0, len(part), 1000):
            site.call(prefix.decode(), "PUT", "RECORDS", *part[first : first + 1000])
    with site.cluster_client() as client:
        client.set(layout_key(b"job").decode(), SHARDS)


class Asking:
    """A daemon's sources over a cluster, whose replicas are asked."""

    def __init__(self, site: ClusterSite, store: Store, sources: list[ShardSource]) -> None:
        self.site, self.store, self.sources = site, store, sources

    async def count(self) -> int:
        groups = await fanout.groups(self.sources, [b"user"], [])
        return int(sum(group[1] for group in groups))

    async def ids(self) -> list[int]:
        return await ids_of(await fanout.match(self.sources, []))

    async def asked(self) -> set[int]:
        """The nodes that answer a question now."""
        before = {number: aggs(self.site, number) for number in up(self.site)}
        assert await self.count() == JOBS
        return {number for number, count in before.items() if aggs(self.site, number) > count}


@asynccontextmanager
async def asking(site: ClusterSite, **settings: float) -> AsyncIterator[Asking]:
    redis = RedisSection(address=site.address, shards=SHARDS, read_from="replica", reply_s=1.0, **settings)
    store = Store(Config(redis=redis))
    config, forget = QuerySection(timeout_s=20.0), Forgetting()
    try:
        yield Asking(site, store, shard_sources(store, lambda: config, forget))
    finally:
        await forget.close()
        await store.close()


def up(site: ClusterSite) -> list[int]:
    return [number for number, node in enumerate(site.nodes) if node.process.running]


def aggs(site: ClusterSite, number: int) -> int:
    """How many AGGs a node has answered."""
    with site.client(number) as client:
        return int(client.info("commandstats").get("cmdstat_slurmjc.agg", {}).get("calls", 0))


async def ids_of(opened: MergedQuery | None) -> list[int]:
    found: list[int] = []
    async for page in fanout.records(opened, 2000):
        found += [decode(record)["job_id"] for record in page]
    return found


async def tried(asked: Asking) -> int:
    """How many of two questions were answered; an answer that has fewer rows fails the test."""
    answers = 0
    for question in (asked.count(), asked.ids()):
        try:
            found = await question
        except Unavailable:
            continue
        assert (found if isinstance(found, int) else len(found)) == JOBS
        answers += 1
    return answers


async def begun(site: ClusterSite, node: int, task: asyncio.Task[object]) -> None:
    """Until the node is at work on a question, in slices."""
    with site.client(node) as client:
        while not task.done() and not client.info("clients")["blocked_clients"]:
            await asyncio.sleep(0)
    assert not task.done(), "answered in one go: it shows nothing"


async def test_replicas_answer_and_masters_are_left_alone(site: ClusterSite) -> None:
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        assert await asked.ids() == list(range(1, JOBS + 1))


async def test_a_replica_that_has_not_come_far_enough_is_waited_for(site: ClusterSite) -> None:
    """After the master got again what it had lost, what the replica had before doesn't count."""
    more = 20_000
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        site.pause(4)
        ids = range(JOBS + 1, JOBS + SHARDS * more, SHARDS)
        records = [job(number, end=NOON + number, user=f"u{number % 7}") for number in ids]
        for first in range(0, more, 1000):
            site.call(PREFIX, "PUT", "RECORDS", *records[first : first + 1000])
        for shard in asked.store.shards:
            shard.has_jobs_again()
        site.resume(4)
        assert await asked.count() == JOBS + more


async def test_a_replica_that_stands_still_is_not_asked(site: ClusterSite) -> None:
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        site.pause(4)
        assert await asked.count() == JOBS
        site.resume(4)


async def test_segments_that_leave_while_a_replica_counts_are_not_left_out(site: ClusterSite) -> None:
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        task: asyncio.Task[object] = asyncio.ensure_future(fanout.groups(asked.sources, [b"user"], HEAVY))
        await begun(site, 4, task)
        site.begin_move(SLOT, 2)
        while site.move_keys(SLOT, 2):
            pass
        await asyncio.sleep(0.2)
        assert not task.done(), "it was answered while its jobs were on two servers"
        await asyncio.to_thread(site.end_move, SLOT, 2)
        found = await task
        assert sum(group[1] for group in found) == 7  # type: ignore[attr-defined]


async def test_an_answer_from_between_two_moves_is_asked_again(site: ClusterSite) -> None:
    """All is back at its master when it is seen whether the answer counts: who has the slot now doesn't tell."""
    counts: list[int] = []
    moves = iter((move_away, move_back))

    async def count(link: StoreLink) -> int:
        await asyncio.to_thread(next(moves, nothing), site)
        try:
            rows = await link.call(protocol.AGG, link.prefix, b"BY", b"user")
        finally:
            await asyncio.to_thread(next(moves, nothing), site)
        counts.append(sum(row[1] for row in rows))
        return counts[-1]

    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        assert await asked.sources[1].ask(count) == JOBS // SHARDS
    # a replica of Valkey 8 hears that the slot is on its way, and says so
    assert counts in ([0, JOBS // SHARDS], [JOBS // SHARDS])


def nothing(_site: ClusterSite) -> None:
    pass


def move_away(site: ClusterSite) -> None:
    site.begin_move(SLOT, 2)
    while site.move_keys(SLOT, 2):
        pass
    with site.client(4) as client:
        wait_until(lambda: not client.execute_command("CLUSTER", "COUNTKEYSINSLOT", SLOT), what="the replica to follow")


def move_back(site: ClusterSite) -> None:
    """To the master that still has the slot, as an administrator does it who thought better."""
    with site.client(2) as client:
        site.ask(1, "CLUSTER", "SETSLOT", SLOT, "STABLE")
        keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", SLOT, 1000)
        client.execute_command("MIGRATE", "127.0.0.1", site.ports[1], "", 0, 10_000, "KEYS", *keys)
        site.ask(2, "CLUSTER", "SETSLOT", SLOT, "STABLE")


async def test_a_replica_that_has_only_a_part_of_what_came_is_not_asked(site: ClusterSite) -> None:
    """The new master's replica is behind: it has some of the segments. The old one's has none."""
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        with site.client(5) as client:
            site.begin_move(SLOT, 2)
            site.move_keys(SLOT, 2, at_most=3)
            wait_until(lambda: client.execute_command("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 3, what="some of it")
            lose_master(client)
            while site.move_keys(SLOT, 2):
                pass
            await asyncio.to_thread(site.end_move, SLOT, 2)
            assert await asked.count() == JOBS
            assert len(await asked.ids()) == JOBS
            find_master(client)
        site.wait_ok()
        await until_asked(asked, {3, 5})


def lose_master(client: Any) -> None:
    """A replica's master lets it in no more; it goes on answering."""
    for name in ("masteruser", "masterauth"):
        client.config_set(name, "nobody")
    client.execute_command("CLIENT", "KILL", "TYPE", "master")
    wait_until(lambda: client.info("replication")["master_link_status"] == "down", what="the link to be down")


def find_master(client: Any) -> None:
    for name in ("masteruser", "masterauth"):
        client.config_set(name, "")


async def until_asked(asked: Asking, nodes: set[int]) -> None:
    """Wait until those are asked; whoever would not do is left alone for ten seconds."""
    for _ in range(400):
        try:
            if await asked.asked() == nodes:
                return
        except Unavailable:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError(f"nodes {await asked.asked()} are asked, not {nodes}")


async def test_slots_that_move_again_and_again(site: ClusterSite) -> None:
    """Every answer is whole, or there is none."""
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        moving = asyncio.ensure_future(asyncio.to_thread(move_round, site))
        answers = 0
        while not moving.done():
            answers += await tried(asked)
        await moving
        assert answers
        assert await asked.count() == JOBS


def move_round(site: ClusterSite) -> None:
    for _ in range(3):
        for prefix in PREFIXES:
            site.move_prefix(prefix.decode(), (site.owner_of(prefix.decode()) + 1) % 3, pause_s=0.1)


async def test_a_replica_that_is_gone_leaves_its_master_and_comes_back(site: ClusterSite) -> None:
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        site.kill(4)
        assert await asked.asked() == {1, 3, 5}
        site.nodes[4].start()
        site.wait_ok()
        await until_asked(asked, REPLICAS)


async def test_a_master_that_dies_and_its_replica_takes_over(site: ClusterSite) -> None:
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        site.kill(1)
        with pytest.raises(Unavailable, match="shard 1 of 3"):
            await asked.count()  # nobody says whether its replica has it all
        site.wait_failover(SLOT, 1)
        await until_asked(asked, REPLICAS)  # the new master itself
        site.nodes[1].start()
        site.wait_ok()
        await until_asked(asked, {1, 3, 5})  # and now the old one, which replicates it


async def test_pages_that_a_replica_can_not_go_on_with_end_the_query(site: ClusterSite) -> None:
    async with asking(site) as asked:
        await until_asked(asked, REPLICAS)
        opened = await fanout.match(asked.sources, [])
        assert opened is not None
        assert len(await opened.page(100, records=True)) == 100
        site.kill(4)
        with pytest.raises(Unavailable, match=r"^shard 1 of 3 "):
            await ids_of(opened)
        assert len(await asked.ids()) == JOBS
