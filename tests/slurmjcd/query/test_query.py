# SPDX-License-Identifier: MIT
"""query.sock over a real Unix socket, with a real server and module behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from slurmjcd.access.policy import AccessPolicy, Peer
from slurmjcd.config.settings import Config, QuerySection, RedisSection
from slurmjcd.health.metrics import Metrics
from slurmjcd.query.server import QueryServer, query_server
from slurmjcd.query.sources import shard_sources
from slurmjcd.store.store import Store
from tests.harness import RedisServer
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire, text

ME = 1000


@dataclass
class Asking:
    """A running query half with some jobs of uids 1000 to 1002 behind it."""

    path: Path
    redis: RedisServer
    server: QueryServer
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, *, hello: bool = True) -> Wire:
        wire = await Wire.connect(self.path, hello=hello)
        self.wires.append(wire)
        return wire


def put(server: RedisServer, *records: bytes) -> None:
    with server.client() as client:
        client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records)


@pytest.fixture
async def asking(
    rundir: Path,
    make_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Asking]:
    """`private`: the caller is ME and sees its own jobs only."""
    options: dict[str, Any] = dict(getattr(request, "param", {}))
    private = options.pop("private", False)
    server_behind = make_redis()
    put(server_behind, *(job(number, uid=ME + number % 3, end=1772366400 + number) for number in range(1, 31)))
    if private:
        monkeypatch.setattr("slurmjcd.query.asking.peer_of", lambda transport: Peer(ME, 1, ME))
    config = Config(redis=RedisSection(address=server_behind.address), query=QuerySection(**options))
    server = query_server(
        Store(config), config.query, Metrics(), AccessPolicy(private=private, operators=[], operator_uids=[0])
    )
    listener = await asyncio.get_running_loop().create_unix_server(server.connection, rundir / "q.sock")
    asking = Asking(rundir / "q.sock", server_behind, server)
    yield asking
    listener.close()
    for wire in asking.wires:
        await wire.close()
    await server.close()
    await server.store.close()


private = pytest.mark.parametrize("asking", [{"private": True}], indirect=True)


async def fetch_all(wire: Wire, query: str = "q", page: int = 7) -> list[bytes]:
    rows: list[bytes] = []
    while batch := await wire.call("SLURMJC.FETCH", query, page, "RECORDS"):
        assert isinstance(batch, list), batch
        rows += batch
    return rows


async def test_hello_says_what_the_caller_sees(asking: Asking) -> None:
    wire = await asking.connect(hello=False)
    reply = await wire.call("SLURMJC.HELLO", 1, "test/1")
    about = dict(zip(reply[::2], reply[1::2], strict=True))
    assert (about[b"role"], about[b"uid"], about[b"sees"]) == (b"query", os.geteuid(), b"all")


async def test_match_and_fetch_return_the_records_that_were_put(asking: Asking) -> None:
    wire = await asking.connect()
    assert await wire.call("SLURMJC.MATCH", "q") == b"job:mat:q"
    rows = await fetch_all(wire)
    assert rows == [job(number, uid=ME + number % 3, end=1772366400 + number) for number in range(1, 31)]


async def test_match_with_criteria(asking: Asking) -> None:
    wire = await asking.connect()
    await wire.call("SLURMJC.MATCH", "q", "uid", "1001", "job", "1-10")
    assert len(await fetch_all(wire)) == 4
    assert await wire.call("SLURMJC.MATCH", "none", "user", "nobody") is None
    assert await wire.call("SLURMJC.FETCH", "none", 5, "RECORDS") == []


async def test_fetch_without_records_is_upstreams_form(asking: Asking) -> None:
    wire = await asking.connect()
    await wire.call("SLURMJC.MATCH", "q", "job", "3")
    (row,) = await wire.call("SLURMJC.FETCH", "q", 500)
    assert len(row) == 28
    assert row[2] == b"3"


async def test_a_page_has_at_most_page_rows(asking: Asking) -> None:
    asking.server.config = QuerySection(page_rows=4)
    wire = await asking.connect()
    await wire.call("SLURMJC.MATCH", "q")
    assert len(await wire.call("SLURMJC.FETCH", "q", 1000, "RECORDS")) == 4


async def test_cursors_are_private_to_their_connection(asking: Asking) -> None:
    one, other = await asking.connect(), await asking.connect()
    await one.call("SLURMJC.MATCH", "q")
    assert text(await other.call("SLURMJC.FETCH", "q", 5)) == "NOQUERY no query 'q' is open, send SLURMJC.MATCH first"
    assert len(await fetch_all(one)) == 30


async def test_a_query_has_a_name_in_the_store_that_nobody_can_guess(asking: Asking) -> None:
    wire = await asking.connect()
    await wire.call("SLURMJC.MATCH", "q")
    with asking.redis.client() as client, pytest.raises(redis.ResponseError, match="NOQUERY"):
        client.execute_command("SLURMJC.FETCH", "job", "q", 5)
    assert len(await fetch_all(wire)) == 30


async def test_get_agg_and_info(asking: Asking) -> None:
    wire = await asking.connect()
    (run,) = await wire.call("SLURMJC.GET", "3")
    assert dict(zip(run[::2], run[1::2], strict=True))[b"job_id"] == 3
    rows = await wire.call("SLURMJC.AGG", "BY", "user", "state", "uid", "1001")
    assert rows[0][:3] == [b"ada", b"3", 10]
    info = await wire.call("SLURMJC.INFO")
    assert dict(zip(info[::2], info[1::2], strict=True))[b"jobs"] == 30


async def test_info_lists_segments_when_asked(asking: Asking) -> None:
    wire = await asking.connect()
    flat = await wire.call("SLURMJC.INFO", "SEGMENTS")
    info = dict(zip(flat[::2], flat[1::2], strict=True))
    assert [row[:2] for row in info[b"segment_sizes"]] == [[1772366400 // 86400, 30]]
    assert sum(row[2] for row in info[b"segment_sizes"]) == info[b"bytes"]
    assert b"segment_sizes" not in await wire.call("SLURMJC.INFO")


async def test_status_tells_operators_more(asking: Asking) -> None:
    told: list[bool] = []

    def status(operator: bool) -> dict[str, Any]:
        told.append(operator)
        return {"operator": operator}

    wire = await asking.connect()
    assert text(await wire.call("SLURMJC.STATUS")).startswith("UNAVAILABLE")
    asking.server.status = status
    for operators in ([os.geteuid()], []):
        asking.server.policy = AccessPolicy(private=False, operators=[], operator_uids=operators)
        assert json.loads(await wire.call("SLURMJC.STATUS")) == {"operator": bool(operators)}
    assert told == [True, False]


@private
async def test_under_private_data_match_finds_own_jobs_only(asking: Asking) -> None:
    wire = await asking.connect()
    for words in ((), ("uid", "1000,1001"), ("uid", "1001", "uid", "1000"), ("UID", "1000", "job", "1-30")):
        await wire.call("SLURMJC.MATCH", "q", *words)
        assert len(await fetch_all(wire)) == 10, words
    assert await wire.call("SLURMJC.MATCH", "q", "uid", "1001") is None
    assert await wire.call("SLURMJC.FETCH", "q", 5) == []


@private
async def test_under_private_data_get_agg_and_info_show_own_jobs_only(asking: Asking) -> None:
    wire = await asking.connect()
    assert len(await wire.call("SLURMJC.GET", "3")) == 1
    assert await wire.call("SLURMJC.GET", "4") == []
    assert (await wire.call("SLURMJC.AGG", "BY", "user"))[0][1] == 10
    assert await wire.call("SLURMJC.AGG", "BY", "user", "uid", "1001") == []
    info = await wire.call("SLURMJC.INFO")
    assert set(info[::2]) <= {b"module_version", b"protocol", b"record", b"server", b"server_version", b"role"}


BAD = [
    (("SLURMJC.MATCH",), "ERR usage: SLURMJC.MATCH <id>"),
    (("SLURMJC.MATCH", "a b"), "ERR a query id is 1 to 64"),
    (("SLURMJC.MATCH", "q", "user"), "ERR criteria are pairs"),
    (("SLURMJC.MATCH", "q", "usr", "x"), "ERR unknown criterion 'usr', expected one of"),
    (("SLURMJC.MATCH", "q", "start", "yesterday"), "ERR "),
    (("SLURMJC.FETCH", "q"), "ERR usage: SLURMJC.FETCH"),
    (("SLURMJC.FETCH", "q", "0"), "ERR <max> must be a number"),
    (("SLURMJC.FETCH", "q", "-1"), "ERR <max> must be a number"),
    (("SLURMJC.FETCH", "q", "9" * 30), "ERR <max> must be a number"),
    (("SLURMJC.FETCH", "q", "5", "ROWS"), "ERR usage: SLURMJC.FETCH"),
    (("SLURMJC.FETCH", "q", "5"), "NOQUERY no query 'q' is open"),
    (("SLURMJC.GET",), "ERR usage: SLURMJC.GET"),
    (("SLURMJC.GET", "x"), "ERR a job id is a number"),
    (("SLURMJC.AGG", "BY", "uid"), "ERR usage: SLURMJC.AGG"),
    (("SLURMJC.AGG", "BY", "user", "usr", "x"), "ERR unknown criterion 'usr'"),
    (("SLURMJC.PUT", "SPOOL", "s", "1", "RECORDS", "x"), "ERR unknown command 'SLURMJC.PUT', expected one of PING"),
    (("CONFIG", "GET", "*"), "ERR unknown command 'CONFIG'"),
]


@pytest.mark.parametrize(("args", "message"), BAD)
async def test_a_wrong_request_is_refused_and_the_connection_goes_on(
    asking: Asking, args: tuple[str, ...], message: str
) -> None:
    wire = await asking.connect()
    assert text(await wire.call(*args)).startswith(message)
    assert await wire.call("SLURMJC.MATCH", "q") == b"job:mat:q"
    assert len(await fetch_all(wire)) == 30


async def test_a_store_that_went_away_is_unavailable_and_comes_back(asking: Asking) -> None:
    wire = await asking.connect()
    assert await wire.call("SLURMJC.MATCH", "q") is not None
    asking.redis.kill()
    assert text(await wire.call("SLURMJC.FETCH", "q", 5)).startswith("UNAVAILABLE no connection to Redis at unix:")
    assert text(await wire.call("SLURMJC.MATCH", "q")).startswith("UNAVAILABLE no connection to Redis at unix:")
    asking.redis.start()
    put(asking.redis, job(1))
    assert await wire.call("SLURMJC.MATCH", "q") == b"job:mat:q"
    assert await fetch_all(wire) == [job(1)]


async def test_a_server_without_the_module_is_unavailable(
    rundir: Path, make_redis: Callable[..., RedisServer], asking: Asking
) -> None:
    bare = make_redis("bare", module=None)
    store = Store(Config(redis=RedisSection(address=bare.address)))
    asking.server.shards[:] = shard_sources(store, lambda: asking.server.config)
    wire = await asking.connect()
    try:
        assert "lacks the module: add 'loadmodule" in text(await wire.call("SLURMJC.MATCH", "q"))
    finally:
        await store.close()


async def test_a_store_that_hangs_is_unavailable(asking: Asking) -> None:
    asking.server.config = QuerySection(timeout_s=0.2)
    wire = await asking.connect()
    asking.redis.process.send(signal.SIGSTOP)
    try:
        assert "gave no answer within query.timeout_s (0.2 s)" in text(await wire.call("SLURMJC.MATCH", "q"))
    finally:
        asking.redis.process.send(signal.SIGCONT)
    assert await wire.call("SLURMJC.MATCH", "q") == b"job:mat:q"


async def test_an_incomplete_store_is_unavailable(asking: Asking) -> None:
    asking.server.why_incomplete = lambda: "records are being sent again"
    wire = await asking.connect()
    assert text(await wire.call("SLURMJC.MATCH", "q")) == "UNAVAILABLE records are being sent again"


async def test_hello_must_come_first(asking: Asking) -> None:
    wire = await asking.connect(hello=False)
    assert text(await wire.call("SLURMJC.MATCH", "q")).startswith("NOHELLO")
    with pytest.raises(EOFError):
        await wire.reply()


@pytest.mark.parametrize("asking", [{"connections_per_uid": 2}], indirect=True)
async def test_connections_of_a_user_are_limited_and_freed(asking: Asking) -> None:
    first, _second = await asking.connect(), await asking.connect()
    third = await asking.connect(hello=False)
    assert text(await third.reply()) == "LIMIT a user may have 2 connections to query.sock"
    await first.close()
    while asking.server.by_uid[os.geteuid()] > 1:
        await asyncio.sleep(0.01)
    await asking.connect()


@pytest.mark.parametrize("asking", [{"open_queries": 2}], indirect=True)
async def test_open_queries_are_limited(asking: Asking) -> None:
    wire = await asking.connect()
    for query in ("a", "b", "a"):
        assert await wire.call("SLURMJC.MATCH", query) is not None
    assert text(await wire.call("SLURMJC.MATCH", "c")) == "LIMIT a connection may have 2 open queries"


@pytest.mark.parametrize("asking", [{"idle_s": 0.1}], indirect=True)
async def test_an_idle_connection_is_closed(asking: Asking) -> None:
    wire = await asking.connect()
    with pytest.raises(EOFError):
        await wire.reply()


async def test_requests_sent_ahead_are_all_answered(asking: Asking) -> None:
    wire = await asking.connect()
    for _ in range(500):
        wire.send("PING")
    assert [await wire.reply() for _ in range(500)] == [b"PONG"] * 500
