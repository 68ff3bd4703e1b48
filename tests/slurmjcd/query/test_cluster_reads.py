# SPDX-License-Identifier: MIT
"""Questions to a real cluster whose slots move: whole answers, waited for if need be, or an error; never fewer rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from slurmjcd.config.settings import Config, QuerySection, RedisSection
from slurmjcd.errors import Unavailable
from slurmjcd.query import fanout
from slurmjcd.query.fanout import Forgetting, MergedQuery
from slurmjcd.query.sources import ShardSource, shard_sources
from slurmjcd.record import decode
from slurmjcd.store.shards import layout_key, shard_of, shard_prefixes, slot_of
from slurmjcd.store.store import Store
from tests.harness.cluster import ClusterSite
from tests.harness.rundir import run_dir
from tests.slurmjcd.jobs import NOON, job

SHARDS = 3
JOBS = 24_000
PREFIXES = shard_prefixes(b"job", SHARDS)
# a list to be taken apart for each job, so that a question takes many slices
HEAVY = [(b"node", b"zz1,x[1-7]")]


@pytest.fixture(scope="module")
def site() -> Iterator[ClusterSite]:
    """Shard i on master i, at first; half of the jobs a day later."""
    with run_dir() as directory:
        site = ClusterSite(Path(directory) / "site", replicas=False)
        try:
            site.start()
            parts: list[list[bytes]] = [[] for _ in PREFIXES]
            for number in range(1, JOBS + 1):
                end = NOON + number + (86_400 if number > JOBS // 2 else 0)
                nodes = f"n[1-3,5-9],m[2,4,6,8],r[1-9]q[1-9],x{number}"
                parts[shard_of(number, SHARDS)].append(job(number, end=end, nodes=nodes, user=f"u{number % 7}"))
            for prefix, part in zip(PREFIXES, parts, strict=True):
                for first in range(0, len(part), 1000):
                    site.call(prefix.decode(), "PUT", "RECORDS", *part[first : first + 1000])
            with site.cluster_client() as client:
                client.set(layout_key(b"job").decode(), SHARDS)
            yield site
        finally:
            site.stop()


@asynccontextmanager
async def asking(site: ClusterSite) -> AsyncIterator[list[ShardSource]]:
    store = Store(Config(redis=RedisSection(address=site.address, shards=SHARDS)))
    config, forget = QuerySection(timeout_s=20.0), Forgetting()
    try:
        yield shard_sources(store, lambda: config, forget)
    finally:
        await forget.close()
        await store.close()


async def ids(opened: MergedQuery | None) -> list[int]:
    found: list[int] = []
    async for page in fanout.records(opened, 2000):
        found += [decode(record)["job_id"] for record in page]
    return found


async def begun(site: ClusterSite, node: int, task: asyncio.Task[object]) -> None:
    """Until the node is at work on a question, in slices."""
    with site.client(node) as client:
        while not task.done() and not client.info("clients")["blocked_clients"]:
            await asyncio.sleep(0)
    assert not task.done(), "answered in one go: it shows nothing"


async def test_all_shards_answer_wherever_they_are(site: ClusterSite) -> None:
    async with asking(site) as sources:
        assert await ids(await fanout.match(sources, [])) == list(range(1, JOBS + 1))
        assert sum(group[1] for group in await fanout.groups(sources, [b"user"], [])) == JOBS
        await asyncio.to_thread(site.move_prefix, PREFIXES[1].decode(), 0)
        assert await ids(await fanout.match(sources, [])) == list(range(1, JOBS + 1))
        assert len(await fanout.runs(sources, 4, 10**6)) == 1


@pytest.mark.parametrize("what", ["groups", "match"])
async def test_segments_that_leave_while_they_are_counted_are_not_left_out(site: ClusterSite, what: str) -> None:
    prefix = PREFIXES[2].decode()
    slot, source = slot_of(PREFIXES[2]), site.owner_of(prefix)
    target = (source + 1) % 3
    async with asking(site) as sources:
        await fanout.runs(sources, 5, 10**6)  # connected
        if what == "groups":
            task = asyncio.ensure_future(fanout.groups(sources, [b"user"], HEAVY))
        else:
            task = asyncio.ensure_future(fanout.match(sources, [(b"node", b"x%d" % (JOBS - 1))]))  # type: ignore[arg-type]
        await begun(site, source, task)  # type: ignore[arg-type]
        site.begin_move(slot, target)
        while site.move_keys(slot, target):
            pass
        await asyncio.sleep(0.2)
        assert not task.done(), "it was answered while its jobs were on two servers"
        await asyncio.to_thread(site.end_move, slot, target)
        found = await task
        if what == "groups":
            assert sum(group[1] for group in found) == 7  # type: ignore[index, union-attr]
        else:
            assert await ids(found) == [JOBS - 1]  # type: ignore[arg-type]


async def test_a_shard_that_moves_between_two_pages_ends_the_query_with_an_error(site: ClusterSite) -> None:
    prefix = PREFIXES[0].decode()
    async with asking(site) as sources:
        opened = await fanout.match(sources, [])
        assert opened is not None
        assert len(await opened.page(100, records=True)) == 100
        await asyncio.to_thread(site.move_prefix, prefix, (site.owner_of(prefix) + 1) % 3)
        with pytest.raises(Unavailable, match=r"^shard 0 of 3 \(job ids with id % 3 = 0\): .*ask again"):
            await ids(opened)
        assert len(await ids(await fanout.match(sources, []))) == JOBS


async def test_a_master_that_is_away_is_named(site: ClusterSite) -> None:
    prefix = PREFIXES[0].decode()
    async with asking(site) as sources:
        opened = await fanout.match(sources, [])
        assert opened is not None
        assert await opened.page(100, records=True)
        site.kill(site.owner_of(prefix))
        with pytest.raises(Unavailable, match="shard 0 of 3"):
            await ids(opened)
        with pytest.raises(Unavailable, match="shard 0 of 3"):
            await fanout.groups(sources, [b"user"], [])
