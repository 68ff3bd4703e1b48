# SPDX-License-Identifier: MIT
"""query.sock over a store of several shards: the bytes that one server would have answered, or an error."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.access.policy import AccessPolicy, Peer
from slurmjcd.config.settings import QuerySection
from slurmjcd.health.metrics import Metrics
from slurmjcd.query.server import QueryServer, query_server
from slurmjcd.store.store import Store
from tests.harness import RedisServer
from tests.slurmjcd import sharded
from tests.slurmjcd.jobs import NOON, job
from tests.slurmjcd.wire import Wire, text

ME = 1000
COUNTS = (1, 3, 6)
JOBS = [job(number, uid=ME + number % 3, end=NOON + number, account=f"a{number % 4}") for number in range(1, 401)]


@pytest.fixture(scope="module")
def shared(session_rundir: Path) -> Iterator[RedisServer]:
    with sharded.serving(session_rundir / "query-shards", JOBS, COUNTS) as server:
        yield server


@asynccontextmanager
async def answering(
    path: Path, store: Store, *, private: bool = False, **query: Any
) -> AsyncIterator[tuple[QueryServer, Wire]]:
    policy = AccessPolicy(private=private, operators=[], operator_uids=[0])
    server = query_server(store, QuerySection(**query), Metrics(), policy)
    listener = await asyncio.get_running_loop().create_unix_server(server.connection, path)
    wire = await Wire.connect(path)
    try:
        yield server, wire
    finally:
        listener.close()
        await wire.close()
        await server.close()
        await store.close()


@pytest.fixture
def seen_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda uid: monkeypatch.setattr("slurmjcd.query.asking.peer_of", lambda transport: Peer(uid, 1, uid))


async def raw_reply(wire: Wire, *args: bytes | str | int) -> bytes:
    """A reply's bytes: the answer to a PING behind it says where it ends."""
    wire.send(*args)
    wire.send("PING")
    async with asyncio.timeout(20):
        return (await wire.reader.readuntil(b"+PONG\r\n"))[:-7]


async def fetched(wire: Wire, *criteria: str, page: int = 37) -> list[Any]:
    if await wire.call("SLURMJC.MATCH", "q", *criteria) is None:
        return []
    rows: list[Any] = []
    while batch := await wire.call("SLURMJC.FETCH", "q", page, "RECORDS"):
        assert isinstance(batch, list), batch
        rows += batch
    return rows


ASKED: list[tuple[str | int, ...]] = [
    ("SLURMJC.MATCH", "q"), ("SLURMJC.FETCH", "q", 1000, "RECORDS"), ("SLURMJC.FETCH", "q", 1000, "RECORDS"),
    ("SLURMJC.MATCH", "q", "job", "5-9"), ("SLURMJC.FETCH", "q", 1000), ("SLURMJC.FETCH", "q", 1000),
    ("SLURMJC.FETCH", "q", 1000), ("SLURMJC.MATCH", "q", "user", "nobody"), ("SLURMJC.FETCH", "q", 5),
    ("SLURMJC.MATCH", "q", "limit", "7"), ("SLURMJC.FETCH", "q", 100, "RECORDS"), ("SLURMJC.FETCH", "q", 5, "RECORDS"),
    ("SLURMJC.AGG", "BY", "account", "user"), ("SLURMJC.AGG", "BY", "day", "uid", "1001", "limit", "2"),
    ("SLURMJC.GET", "17"), ("SLURMJC.GET", "5000"), ("SLURMJC.MATCH", "q", "start", "soon"),
    ("SLURMJC.AGG", "BY", "user", "limit", "few"), ("SLURMJC.MATCH", "q", "shoe", "42"), ("SLURMJC.FETCH", "q", 5),
]  # fmt: skip


@pytest.mark.parametrize("private", [False, True])
async def test_answers_are_the_same_bytes_with_any_number_of_shards(
    shared: RedisServer, rundir: Path, seen_as: Callable[[int], None], private: bool
) -> None:
    seen_as(ME if private else 0)
    answers = []
    for count in COUNTS:
        async with answering(rundir / f"{count}.sock", sharded.store(shared, count), private=private) as (_, wire):
            replies = [await raw_reply(wire, *words) for words in ASKED]
        answers.append([reply.replace(sharded.prefix_of(count).encode() + b":mat:", b"job:mat:") for reply in replies])
    for one, three, six, words in zip(*answers, ASKED, strict=True):
        assert one == three == six, words
    assert answers[0][1].startswith(b"*133\r\n" if private else b"*400\r\n")


async def test_own_jobs_only_with_any_number_of_shards(
    shared: RedisServer, rundir: Path, seen_as: Callable[[int], None]
) -> None:
    seen_as(ME)
    own = [record for number, record in enumerate(JOBS, 1) if number % 3 == 0]
    async with answering(rundir / "q.sock", sharded.store(shared, 3), private=True) as (_, wire):
        assert await fetched(wire) == own
        assert await fetched(wire, "uid", "1001") == []
        assert await fetched(wire, "uid", "1000,1001") == own
        assert len(await wire.call("SLURMJC.GET", 3)) == 1
        assert await wire.call("SLURMJC.GET", 4) == []
        assert (await wire.call("SLURMJC.AGG", "BY", "user"))[0][1] == len(own)


async def test_info_is_of_all_shards(shared: RedisServer, rundir: Path) -> None:
    infos = []
    for count in COUNTS:
        async with answering(rundir / f"{count}.sock", sharded.store(shared, count)) as (_, wire):
            flat = await wire.call("SLURMJC.INFO", "SEGMENTS")
            infos.append(dict(zip(flat[::2], flat[1::2], strict=True)))
    for info, count in zip(infos, COUNTS, strict=True):
        assert [info[name] for name in (b"jobs", b"oldest", b"newest", b"run_id")] == [
            400, NOON + 1, NOON + 400, infos[0][b"run_id"]
        ]  # fmt: skip
        assert sum(row[1] for row in info[b"segment_sizes"]) == 400
        assert [row[0] for row in info[b"segment_sizes"]] == [NOON // 86400]
        assert info[b"bytes"] == sum(row[2] for row in info[b"segment_sizes"])
        assert info[b"maxmemory"] == infos[0][b"maxmemory"]  # one server, counted once
        assert info.get(b"shards") == (count if count > 1 else None)


@pytest.mark.parametrize("how", ["gone", "replaced", "limit", "refused"])
async def test_a_query_that_nobody_goes_on_with_is_closed_in_every_shard(
    shared: RedisServer, rundir: Path, how: str
) -> None:
    before = sharded.open_queries(shared, shards=3)
    async with answering(rundir / "q.sock", sharded.store(shared, 3), query_rows=50) as (server, wire):
        await wire.call("SLURMJC.MATCH", "q", *(("limit", "10") if how == "limit" else ()))
        assert len(await wire.call("SLURMJC.FETCH", "q", 10, "RECORDS")) == 10
        assert sharded.open_queries(shared, shards=3) == before + 3
        if how == "gone":
            assert server.unread > 0  # rows that were not asked for yet are held, and counted
            await wire.close()
        elif how == "replaced":
            await wire.call("SLURMJC.MATCH", "q", "user", "nobody")
        elif how == "limit":
            assert await wire.call("SLURMJC.FETCH", "q", 10, "RECORDS") == []
        else:
            assert text(await wire.call("SLURMJC.FETCH", "q", 100, "RECORDS")).startswith("LIMIT a query may have 50")
            assert text(await wire.call("SLURMJC.FETCH", "q", 100, "RECORDS")).startswith("NOQUERY")
        async with asyncio.timeout(10):
            while sharded.open_queries(shared, shards=3) > before or server.unread:
                await asyncio.sleep(0.01)


async def test_what_is_held_for_a_caller_who_asks_no_more_gives_way_to_others(
    shared: RedisServer, rundir: Path
) -> None:
    async with answering(rundir / "q.sock", sharded.store(shared, 3)) as (server, idle):
        await idle.call("SLURMJC.MATCH", "q")
        assert len(await idle.call("SLURMJC.FETCH", "q", 10, "RECORDS")) == 10
        server.config = server.config.model_copy(update={"memory_bytes": server.unread - 1})
        other = await Wire.connect(rundir / "q.sock")
        assert len(await fetched(other, "job", "1-5")) == 5
        with pytest.raises(EOFError):
            await idle.reply()
        await other.close()


async def test_who_goes_on_asking_is_served_from_what_is_held_whatever_others_hold(
    shared: RedisServer, rundir: Path
) -> None:
    async with answering(rundir / "q.sock", sharded.store(shared, 3)) as (server, wire):
        await wire.call("SLURMJC.MATCH", "q")
        rows = await wire.call("SLURMJC.FETCH", "q", 10, "RECORDS")
        server.config = server.config.model_copy(update={"memory_bytes": server.unread - 1})
        while batch := await wire.call("SLURMJC.FETCH", "q", 10, "RECORDS"):
            rows += batch
        assert rows == JOBS


# ---- shards that are away --------------------------------------------------------------------------------------------


@pytest.fixture
def servers(make_redis: Callable[..., RedisServer]) -> list[RedisServer]:
    """Three shards, each on a server of its own."""
    three = [make_redis(name) for name in ("zero", "one", "two")]
    for server in three:
        sharded.put(server, JOBS, shards=3)
    return three


NAMED = "UNAVAILABLE shard 2 of 3 (job ids with id % 3 = 2): "


async def test_a_shard_that_is_away_is_named_and_nothing_is_left_out(servers: list[RedisServer], rundir: Path) -> None:
    async with answering(rundir / "q.sock", sharded.split_store(servers)) as (_, wire):
        assert await fetched(wire) == JOBS
        servers[2].kill()
        for words in (("MATCH", "q"), ("AGG", "BY", "user"), ("INFO",), ("GET", "5")):
            assert text(await wire.call(f"SLURMJC.{words[0]}", *words[1:])).startswith(NAMED), words
        assert text(await wire.call("SLURMJC.FETCH", "q", 5)).startswith("NOQUERY")
        assert len(await wire.call("SLURMJC.GET", "6")) == 1
        servers[2].start()
        sharded.put(servers[2], JOBS, shards=3)
        assert await fetched(wire) == JOBS


async def test_where_there_is_one_part_it_is_not_named(make_redis: Callable[..., RedisServer], rundir: Path) -> None:
    server = make_redis()
    async with answering(rundir / "q.sock", sharded.store(server, 1)) as (_, wire):
        server.kill()
        for words in (("MATCH", "q"), ("INFO",), ("WATCH", "$", "1", "0")):
            answer = text(await wire.call(f"SLURMJC.{words[0]}", *words[1:]))
            assert answer.startswith("UNAVAILABLE no connection to Redis at "), words


@pytest.mark.parametrize("back", [False, True])
async def test_a_shard_killed_between_two_pages_ends_the_answer_with_an_error(
    servers: list[RedisServer], rundir: Path, back: bool
) -> None:
    async with answering(rundir / "q.sock", sharded.split_store(servers)) as (_, wire):
        await wire.call("SLURMJC.MATCH", "q")
        rows = await wire.call("SLURMJC.FETCH", "q", 50, "RECORDS")
        servers[2].kill()
        if back:
            servers[2].start()
            sharded.put(servers[2], JOBS, shards=3)
        while isinstance(page := await wire.call("SLURMJC.FETCH", "q", 50, "RECORDS"), list):
            assert page, "it ended as if that had been all"
            rows += page
        assert text(page).startswith(NAMED)
        assert rows == JOBS[: len(rows)]
        assert text(await wire.call("SLURMJC.FETCH", "q", 50, "RECORDS")).startswith("NOQUERY")


async def test_a_shard_that_hangs_is_named_when_the_time_is_up(servers: list[RedisServer], rundir: Path) -> None:
    store = sharded.split_store(servers)
    async with answering(rundir / "q.sock", store, timeout_s=0.3) as (_, wire):
        await wire.call("SLURMJC.MATCH", "q")
        servers[2].process.send(signal.SIGSTOP)
        try:
            for words in (("MATCH", "q"), ("AGG", "BY", "user"), ("INFO",)):
                answer = text(await wire.call(f"SLURMJC.{words[0]}", *words[1:]))
                assert answer.startswith("UNAVAILABLE shard 2 of 3 (job ids with id % 3 = 2) gave no answer within")
        finally:
            servers[2].process.send(signal.SIGCONT)
        assert await fetched(wire) == JOBS
