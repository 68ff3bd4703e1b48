# SPDX-License-Identifier: MIT
"""What one connection of query.sock can cost the others: bytes, time, memory, rows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hiredis
import pytest

from slurmjcd import protocol
from slurmjcd.access.policy import AccessPolicy
from slurmjcd.config.settings import Config, QuerySection, RedisSection
from slurmjcd.health.metrics import Metrics
from slurmjcd.query import asking
from slurmjcd.query.asking import QueryServer
from slurmjcd.query.server import query_server
from slurmjcd.store.store import Store
from tests.harness import RedisServer
from tests.slurmjcd.jobs import NOON, job
from tests.slurmjcd.wire import Wire, text

JOBS = 3000
MIB = 1024 * 1024


@pytest.fixture
async def running(rundir: Path, make_redis: Callable[..., RedisServer]) -> AsyncIterator[Callable[..., QueryServer]]:
    """Start the query half before some jobs of 2 kB; its socket is q.sock."""
    redis = make_redis()
    with redis.client() as client:
        pad = "x" * 2000
        for first in range(1, JOBS, 500):
            records = [job(n, end=NOON + n, work_dir=f"/{n}{pad}") for n in range(first, first + 500)]
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records)
    made: list[tuple[QueryServer, Any]] = []

    async def start(**options: Any) -> QueryServer:
        config = Config(redis=RedisSection(address=redis.address), query=QuerySection(**options))
        policy = AccessPolicy(private=False, operators=[], operator_uids=[])
        server = query_server(Store(config), config.query, Metrics(), policy)
        listener = await asyncio.get_running_loop().create_unix_server(server.connection, rundir / "q.sock")
        made.append((server, listener))
        return server

    yield start
    for server, listener in made:
        listener.close()
        await server.close()
        await server.store.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_request_that_drips_is_cut(rundir: Path, running: Callable[..., Any]) -> None:
    await running(request_s=0.3)
    wire = await Wire.connect(rundir / "q.sock")
    request = protocol.command("SLURMJC.MATCH", "q", "name", "x" * 1000)
    for position in range(len(request)):
        if wire.reader._buffer:  # type: ignore[attr-defined]
            break
        wire.send_raw(request[position : position + 1])
        await asyncio.sleep(0.01)
    assert b"-LIMIT a request must come whole within 0.3 s\r\n" in wire.reader._buffer  # type: ignore[attr-defined]
    await wire.close()


async def test_who_never_greets_is_cut(rundir: Path, running: Callable[..., Any]) -> None:
    await running(request_s=0.1)
    wire = await Wire.connect(rundir / "q.sock", hello=False)
    with pytest.raises(EOFError):
        await wire.reply()
    await wire.close()


async def test_a_connection_has_an_end(rundir: Path, running: Callable[..., Any]) -> None:
    await running(total_s=0.3)
    wire = await Wire.connect(rundir / "q.sock")
    assert text(await wire.reply()) == "LIMIT a connection may last 0.3 s"
    with pytest.raises(EOFError):
        await wire.reply()
    await wire.close()


async def test_a_query_of_too_many_rows_ends_in_an_error(rundir: Path, running: Callable[..., Any]) -> None:
    await running(query_rows=1000)
    wire = await Wire.connect(rundir / "q.sock")
    await wire.call("SLURMJC.MATCH", "q")
    got: list[Any] = []
    while isinstance(reply := await wire.call("SLURMJC.FETCH", "q", 400, "RECORDS"), list):
        got += reply
    assert text(reply) == "LIMIT a query may have 1000 rows, narrow the criteria"
    assert len(got) <= 1000
    assert text(await wire.call("SLURMJC.FETCH", "q", 1)).startswith("NOQUERY")
    await wire.close()


async def test_an_answer_that_is_too_large_is_refused_and_the_next_one_comes(
    rundir: Path, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await running()
    server.config = server.config.model_copy(update={"answer_bytes": 10_000})
    wire = await Wire.connect(rundir / "q.sock")
    assert text(await wire.call("SLURMJC.AGG", "BY", "name")) == (
        "LIMIT the answer has more than 10000 bytes, narrow the criteria"
    )
    assert (await wire.call("SLURMJC.AGG", "BY", "user"))[0][:2] == [b"ada", JOBS]
    await wire.close()


async def test_a_query_that_could_not_be_opened_is_no_empty_list(rundir: Path, running: Callable[..., Any]) -> None:
    server = await running()
    server.why_incomplete = lambda: None
    wire = await Wire.connect(rundir / "q.sock")
    await wire.call("SLURMJC.MATCH", "q")
    assert text(await wire.call("SLURMJC.MATCH", "q", "start", "x")).startswith("ERR criterion 'start'")
    assert text(await wire.call("SLURMJC.FETCH", "q", 5)).startswith("NOQUERY")
    await wire.close()


async def test_large_requests_that_never_end_leave_memory_for_small_ones(
    rundir: Path, running: Callable[..., Any]
) -> None:
    server = await running(memory_bytes=8 * MIB, connections_per_uid=100)
    started = b"*4\r\n$13\r\nSLURMJC.MATCH\r\n$1\r\nq\r\n$4\r\nname\r\n$500000\r\n" + b"x" * 499_000
    large = [await Wire.connect(rundir / "q.sock") for _ in range(12)]
    refused = 0
    for wire in large:
        wire.send_raw(started)
    await until(lambda: all(wire.reader._buffer for wire in large[9:]) or server.held > 3 * MIB)  # type: ignore[attr-defined]
    other = await Wire.connect(rundir / "q.sock")
    assert await other.call("SLURMJC.MATCH", "q") == b"job:mat:q"
    await until(lambda: len(server.connections) < 13)
    assert server.held <= 4 * MIB + 128 * 1024
    for wire in large:
        # a reset, which follows, would hide the reply from reply()
        refused += b"-LIMIT too many large requests are under way" in wire.reader._buffer  # type: ignore[attr-defined]
        await wire.close()
    assert refused >= 3
    await until(lambda: server.held == 0)
    await other.close()


def stalled(path: Path) -> socket.socket:
    """A client that asks for page after page and reads nothing."""
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    client.connect(str(path))
    pages = [protocol.command("SLURMJC.FETCH", "q", 1000, "RECORDS") for _ in range(20)]
    client.send(b"".join([
        protocol.command("SLURMJC.HELLO", 1, "slow/1"), protocol.command("SLURMJC.MATCH", "q"), *pages,
    ]))  # fmt: skip
    return client


async def test_a_slow_reader_costs_two_pages_and_is_cut(
    rundir: Path, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_STALL_S", 0.5)
    server = await running()
    client = stalled(rundir / "q.sock")
    most = 0
    async with asyncio.timeout(20):
        while not server.connections:
            await asyncio.sleep(0.01)
        while server.connections:
            await asyncio.sleep(0.01)
            most = max(most, server.unread)
    assert 0 < most < 2.5 * MIB
    assert server.unread == 0
    client.close()


async def test_slow_readers_are_cut_earlier_when_others_need_the_memory(
    rundir: Path, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_SHED_S", 0.2)
    monkeypatch.setattr(asking, "_STALL_S", 1000)
    server = await running(memory_bytes=8 * MIB, connections_per_uid=100, timeout_s=20)
    clients = [stalled(rundir / "q.sock") for _ in range(20)]
    await until(lambda: server.unread > 8 * MIB)
    wire = await Wire.connect(rundir / "q.sock")
    assert await wire.call("SLURMJC.MATCH", "q") == b"job:mat:q"
    assert len(await wire.call("SLURMJC.FETCH", "q", 100, "RECORDS")) == 100
    assert len(server.connections) < 21
    await wire.close()
    for client in clients:
        client.close()


async def test_a_thousand_requests_at_once_hold_up_nobody(rundir: Path, running: Callable[..., Any]) -> None:
    """20,000 come in one go on one connection; another connection's single one is answered long before they are."""
    server = await running()
    server.turns._per_round = 4
    flood = await Wire.connect(rundir / "q.sock")
    other = await Wire.connect(rundir / "q.sock")
    flood.send_raw(protocol.command("PING") * 20_000)
    await until(lambda: flood.reader._buffer)  # type: ignore[attr-defined]
    assert await other.call("PING") in (b"PONG", "PONG")
    answered = len(flood.reader._buffer)  # type: ignore[attr-defined]
    assert answered < 20_000 * len(protocol.PONG) / 2
    got = 0
    while got < 20_000:
        assert await flood.reply() in (b"PONG", "PONG")
        got += 1
    await flood.close()
    await other.close()


async def test_replies_come_in_order_however_the_requests_were_cut(rundir: Path, running: Callable[..., Any]) -> None:
    await running()
    wire = await Wire.connect(rundir / "q.sock")
    request = b"".join(protocol.command("SLURMJC.AGG", "BY", "user", "job", str(n)) for n in range(1, 40))
    for start in range(0, len(request), 37):
        wire.send_raw(request[start : start + 37])
    for _ in range(1, 40):
        assert (await wire.reply())[0][:2] == [b"ada", 1]
    assert not isinstance(await wire.call("PING"), hiredis.ReplyError)
    await wire.close()
