# SPDX-License-Identifier: MIT
"""Several shards asked as one, with real servers behind them: the same answers as of one, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.config.settings import QuerySection
from slurmjcd.criteria import Criteria
from slurmjcd.errors import Refused, StoreError, Unavailable
from slurmjcd.protocol import bulk
from slurmjcd.query import fanout
from slurmjcd.query.fanout import Forgetting, MergedQuery
from slurmjcd.query.merging import Group, Page, row_key
from slurmjcd.query.sources import Cursor, Source, parse_page, shard_sources
from tests.harness import RedisServer
from tests.slurmjcd import sharded
from tests.slurmjcd.jobs import NOON, job

COUNTS = (1, 3, 6)
USERS = ("ada", "bob", "cyd", "")
JOBS = [
    job(number, end=NOON + number // 4 * 900, uid=1000 + number % 3, user=USERS[number % 4],
        account=None if number % 5 == 0 else f"a{number % 7}", state=(3, 5, 6)[number % 3],
        array_job_id=100 if number % 9 == 0 else None, array_task_id=number if number % 9 == 0 else None)
    for number in range(1, 500)
] + [job(7, restart_count=again, start=NOON - 50 + again, end=NOON + again) for again in range(1, 4)]  # fmt: skip
QUESTIONS: list[Criteria] = [
    [],
    [(b"user", b"ada")],
    [(b"job", b"100")],
    [(b"job", b"7,8,100_9")],
    [(b"uid", b"1001"), (b"state", b"5"), (b"start", b"%d" % (NOON + 9000)), (b"end", b"%d" % (NOON + 90_000))],
    [(b"limit", b"10")],
    [(b"limit", b"0")],
    [(b"user", b"ada"), (b"limit", b"200")],
    [(b"user", b"nobody")],
]
FIELDS = [(b"user",), (b"account", b"state"), (b"day",), (b"hour",), (b"name",)]


@pytest.fixture(scope="module")
def shared(session_rundir: Path) -> Iterator[RedisServer]:
    with sharded.serving(session_rundir / "fanout", JOBS, COUNTS) as server:
        yield server


@asynccontextmanager
async def sources(server: RedisServer, shards: int, **query: Any) -> AsyncIterator[list[Source]]:
    store, config, forget = sharded.store(server, shards), QuerySection(**query), Forgetting()
    try:
        yield list(shard_sources(store, lambda: config, forget))
    finally:
        await forget.close()
        await store.close()


async def all_pages(opened: MergedQuery | None, most: int, *, records: bool = True) -> list[bytes]:
    rows: list[bytes] = []
    while opened is not None and (page := await opened.page(most, records=records)):
        assert len(page) <= most
        rows += page
    return rows


@pytest.mark.parametrize("asked", QUESTIONS)
@pytest.mark.parametrize("records", [True, False])
async def test_rows_are_the_same_with_any_number_of_shards(shared: RedisServer, asked: Criteria, records: bool) -> None:
    answers = []
    for count in COUNTS:
        for most in (1 if len(asked) > 1 else 50, 2000):
            async with sources(shared, count) as several:
                answers.append(await all_pages(await fanout.match(several, asked), most, records=records))
    assert bool(answers[0]) == (asked not in ([(b"user", b"nobody")], [(b"limit", b"0")]))
    assert answers == answers[:1] * len(answers)


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("asked", [[], [(b"uid", b"1001")], [(b"limit", b"3")], [(b"limit", b"0")]])
async def test_groups_are_those_of_one_server(shared: RedisServer, fields: tuple[bytes, ...], asked: Criteria) -> None:
    words = [word for pair in asked for word in pair]
    with shared.client() as client:
        whole = client.execute_command("SLURMJC.AGG", "job", "BY", *fields, *words)
    for count in COUNTS:
        async with sources(shared, count) as several:
            assert await fanout.groups(several, fields, asked) == whole


async def test_runs_of_a_job_come_from_the_one_shard_that_has_it(shared: RedisServer) -> None:
    answers = []
    for count in COUNTS:
        async with sources(shared, count) as several:
            holding = [source for source in several if source.holds(7)]
            assert len(holding) == 1
            answers.append(await fanout.runs(several, 7, 1024 * 1024))
    assert len(answers[0]) == 4
    assert answers == answers[:1] * 3


@pytest.mark.parametrize("limit", [b"-1", b"many", b"99999999999999999999"])
async def test_a_limit_that_is_none_is_refused(shared: RedisServer, limit: bytes) -> None:
    async with sources(shared, 3) as several:
        with pytest.raises(Refused, match="limit"):
            await fanout.match(several, [(b"limit", limit)])
        with pytest.raises(Refused, match="limit"):
            await fanout.groups(several, [b"user"], [(b"limit", limit)])


async def test_rows_come_in_one_form(shared: RedisServer) -> None:
    async with sources(shared, 3) as several:
        opened = await fanout.match(several, [])
        assert opened is not None
        assert await opened.page(5, records=True)
        with pytest.raises(Refused, match="all with RECORDS or all without"):
            await opened.page(5, records=False)


async def test_what_is_held_is_a_page_of_each(shared: RedisServer) -> None:
    async with sources(shared, 3) as several:
        opened = await fanout.match(several, [])
        assert opened is not None
        size = len(JOBS[0]) + 6
        most = 0
        while await opened.page(60, records=True):
            most = max(most, opened.held_bytes)
        assert 0 < most < 3 * 1.5 * 1.25 * 30 * size
        assert opened.held_bytes == 0


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.fixture
def two_servers(make_redis: Callable[..., RedisServer]) -> list[RedisServer]:
    """Two shards of two, each on a server of its own: shard 0 on the first, shard 1 on the second."""
    servers = [make_redis("one"), make_redis("two")]
    for server in servers:
        sharded.put(server, JOBS, shards=2)
    return servers


@asynccontextmanager
async def split(servers: list[RedisServer], **query: Any) -> AsyncIterator[list[Source]]:
    """Shard i, as server i has it."""
    store, config, forget = sharded.split_store(servers), QuerySection(**query), Forgetting()
    try:
        yield list(shard_sources(store, lambda: config, forget))
    finally:
        await forget.close()
        await store.close()


NAMED = r"shard 1 of 2 \(job ids with id % 2 = 1\): "


async def until_closed(server: RedisServer, shards: int, left: int = 0) -> None:
    async with asyncio.timeout(10):
        while sharded.open_queries(server, shards=shards) > left:
            await asyncio.sleep(0.01)


async def test_a_shard_that_is_away_is_named_in_every_answer(two_servers: list[RedisServer]) -> None:
    two_servers[1].stop()
    forget = Forgetting()
    async with split(two_servers) as several:
        for asking in (
            fanout.match(several, [], forget),
            fanout.groups(several, [b"user"], []),
            fanout.runs(several, 7, 10**6),
        ):
            with pytest.raises(Unavailable, match=rf"^{NAMED}no connection to Redis at unix:"):
                await asking
        assert len(await fanout.runs(several, 8, 10**6)) == 1  # its shard is there
        await until_closed(two_servers[0], 2)  # what was opened there
    await forget.close()


@pytest.mark.parametrize("back", [False, True])
async def test_a_shard_killed_between_two_pages_ends_the_query_with_an_error(
    two_servers: list[RedisServer], back: bool
) -> None:
    async with split(two_servers) as several:
        opened = await fanout.match(several, [])
        assert opened is not None
        assert len(await opened.page(100, records=True)) == 100
        two_servers[1].kill()
        if back:
            two_servers[1].start()
        with pytest.raises(Unavailable, match=NAMED):
            await all_pages(opened, 100)
        with pytest.raises(Unavailable, match="ask again from the beginning"):  # rows of the other may be lost
            await opened.page(100, records=True)


async def test_a_query_that_its_shard_has_lost_ends_with_an_error_and_not_with_what_was_left(
    shared: RedisServer,
) -> None:
    async with sources(shared, 3) as several:
        opened = await several[1].open([])
        assert opened is not None
        assert len((await opened.page(5, records=True)).rows) == 5
        await opened.close()
        with pytest.raises(Unavailable, match=r"not open any more .*ask again"):
            await opened.page(5, records=True)


async def test_a_question_in_vain_leaves_nothing_open(shared: RedisServer) -> None:
    """Cut short while it waits for one of the shards, or refused by them."""

    class Stuck:
        name = "files"

        def holds(self, job_id: int) -> bool:
            return False

        async def open(self, asked: Criteria) -> Cursor | None:
            await asyncio.sleep(60)
            return None

        async def aggregate(self, fields: Any, asked: Criteria) -> list[Group]:
            raise AssertionError

        async def runs(self, job_id: int, most_bytes: int) -> list[Any]:
            raise AssertionError

    before = sharded.open_queries(shared, shards=3)
    forget = Forgetting()
    async with sources(shared, 3) as several:
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(0.3):
                await fanout.match([*several, Stuck()], [], forget)
        assert fanout.awaited(late.value) == "files"
        with pytest.raises(Refused, match="unknown criterion"):
            await fanout.match(several, [(b"shoe", b"42")], forget)
        opened = await fanout.match(several, [], forget)
        assert sharded.open_queries(shared, shards=3) >= before + 3
        assert opened is not None
        forget(opened)
        await until_closed(shared, 3, before)
    await forget.close()


async def test_a_source_that_is_no_shard_is_merged_as_well(shared: RedisServer) -> None:
    """As files of old days are: it gives pages with keys, and groups."""

    class Given:
        def __init__(self, rows: list[tuple[int, bytes]]) -> None:
            self.rows = rows

        async def page(self, rows: int, *, records: bool) -> Page:
            page, self.rows = self.rows[:rows], self.rows[rows:]
            return Page([key for key, _ in page], [row for _, row in page])

        async def close(self) -> None:
            self.rows = []

    class Files:
        name = "files"

        def holds(self, job_id: int) -> bool:
            return True

        async def open(self, asked: Criteria) -> Cursor | None:
            return Given([(row_key(NOON - 900 + at * 900, 5000 + at), bulk(b"old%d" % at)) for at in range(20)])

        async def aggregate(self, fields: Any, asked: Criteria) -> list[Group]:
            return [[b"ada", 20, 1, 2, 3, 4]]

        async def runs(self, job_id: int, most_bytes: int) -> list[Any]:
            return [[b"job_id", job_id]]

    async with sources(shared, 3) as several:
        alone = await all_pages(await fanout.match(several, []), 100)
        both = await all_pages(await fanout.match([Files(), *several], []), 100)
        assert both[0] == bulk(b"old0")
        assert [row for row in both if b"old" not in row] == alone
        assert [row for row in both if b"old" in row] == [bulk(b"old%d" % at) for at in range(20)]
        counted = {group[0]: group[1] for group in await fanout.groups([Files(), *several], [b"user"], [])}
        whole = {group[0]: group[1] for group in await fanout.groups(several, [b"user"], [])}
        assert counted == whole | {b"ada": whole[b"ada"] + 20}
        assert (await fanout.runs([Files(), *several], 8, 10**6))[0] == [b"job_id", 8]


@pytest.mark.parametrize(
    "answer",
    [b"", b"*0\r\n", b"*2\r\n$0\r\n\r\n*1\r\n$1\r\na\r\n", b"*2\r\n$16\r\n" + bytes(16) + b"\r\n*1\r\n$1\r\na\r\n",
     b"*2\r\n$17\r\n" + bytes(17) + b"\r\n*1\r\n$1\r\na\r\n", b"*2\r\n$99\r\n" + bytes(16) + b"\r\n*1\r\n$1\r\na\r\n"],
)  # fmt: skip
def test_a_page_that_is_none_is_not_taken_for_an_empty_one(answer: bytes) -> None:
    for records in (True, False):
        if records or b"$16" not in answer:  # upstream's rows say no size
            with pytest.raises(StoreError, match="can't be read"):
                parse_page(answer, records=records)
