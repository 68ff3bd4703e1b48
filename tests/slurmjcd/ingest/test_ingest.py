# SPDX-License-Identifier: MIT
"""ingest.sock and group commit over a real Unix socket, with a real spool."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import protocol
from slurmjcd.errors import SpoolError
from slurmjcd.health.metrics import Metrics
from slurmjcd.ingest.committer import Committer
from slurmjcd.ingest.server import IngestServer
from slurmjcd.protocol import Limits
from slurmjcd.spool.batch import Ring
from slurmjcd.spool.spool import Spool
from slurmjcd.spool.spooldb import SpoolDatabase
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire, text


@dataclass
class Intake:
    """A running ingest half."""

    path: Path
    spool: Spool
    committer: Committer
    server: IngestServer
    task: asyncio.Task[None]
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, *, hello: bool = True) -> Wire:
        wire = await Wire.connect(self.path, hello=hello)
        self.wires.append(wire)
        return wire

    async def stored(self) -> list[bytes]:
        self.spool._tail.clear()
        return [
            record
            for batch in await self.spool.read(0, max_bytes=2**30)
            for record in protocol.split_frames(batch.frames)
        ]


@pytest.fixture
async def ingest(tmp_path: Path, rundir: Path, request: pytest.FixtureRequest) -> AsyncIterator[Intake]:
    options: dict[str, Any] = {"pending_bytes": 2**20, "connections": 8, "max_bytes": 2**30} | getattr(
        request, "param", {}
    )
    spool = await Spool.open(tmp_path / "spool.db", max_bytes=options["max_bytes"], replay_s=0, replay_bytes=0)
    committer = Committer(spool, Metrics(), batch_records=1000, batch_bytes=2**20, batch_ms=1)
    server = IngestServer(
        committer,
        allowed_uids=options.get("uids", frozenset({os.geteuid()})),
        limits=Limits(request_bytes=2**20),
        pending_bytes=options["pending_bytes"],
        connections=options["connections"],
    )
    task = asyncio.create_task(committer.run())
    listener = await asyncio.get_running_loop().create_unix_server(server.connection, rundir / "i.sock")
    intake = Intake(rundir / "i.sock", spool, committer, server, task)
    yield intake
    listener.close()
    for wire in intake.wires:
        await wire.close()
    server.close()
    committer.close()
    await task
    await spool.close()


async def test_hello_says_who_answers(ingest: Intake) -> None:
    wire = await ingest.connect(hello=False)
    reply = await wire.call("SLURMJC.HELLO", 1, "test/1")
    about = dict(zip(reply[::2], reply[1::2], strict=True))
    assert about[b"server"].startswith(b"slurmjcd/")
    assert (about[b"protocol"], about[b"record"], about[b"role"], about[b"max_request_bytes"]) == (
        1,
        1,
        b"ingest",
        2**20,
    )


async def test_a_put_is_answered_when_it_is_in_the_spool(ingest: Intake) -> None:
    wire = await ingest.connect()
    assert await wire.put(1, job(1), job(2)) == 2
    assert await wire.put(3, job(3)) == 1
    assert await ingest.stored() == [job(1), job(2), job(3)]
    assert ingest.spool.state.watermarks == {"ring": 3}


async def test_known_records_are_skipped_and_new_ones_behind_them_taken(ingest: Intake) -> None:
    wire = await ingest.connect()
    await wire.put(1, job(1), job(2))
    assert await wire.put(1, job(1), job(2)) == 0
    assert await wire.put(2, job(2), job(3)) == 1
    assert await ingest.stored() == [job(1), job(2), job(3)]


async def test_a_gap_is_refused_with_the_expected_number(ingest: Intake) -> None:
    wire = await ingest.connect()
    assert text(await wire.put(2, job(2))) == "OUTOFSEQ 1"
    await wire.put(1, job(1))
    assert text(await wire.put(3, job(3))) == "OUTOFSEQ 2"
    assert await ingest.stored() == [job(1)]


async def test_sources_count_for_themselves(ingest: Intake) -> None:
    wire = await ingest.connect()
    assert await wire.put(1, job(1), source="a") == 1
    assert await wire.put(1, job(2), source="b") == 1
    assert ingest.spool.state.watermarks == {"a": 1, "b": 1}


async def test_pipelined_requests_are_answered_in_order(ingest: Intake) -> None:
    wire = await ingest.connect()
    for number in range(1, 51):
        wire.send("SLURMJC.PUT", "SPOOL", "ring", number, "RECORDS", job(number))
        wire.send("PING")
        wire.send("SLURMJC.PUT", "SPOOL", "ring", number + 5, "RECORDS", job(1))
    for number in range(1, 51):
        assert await wire.reply() == 1
        assert await wire.reply() == b"PONG"
        assert text(await wire.reply()) == f"OUTOFSEQ {number + 1}"
    assert await ingest.stored() == [job(number) for number in range(1, 51)]


async def test_the_same_records_on_two_connections_are_taken_once(ingest: Intake) -> None:
    """As when a reconfigured slurmctld sends again what the old process had sent and not heard about."""
    old, new = await ingest.connect(), await ingest.connect()
    for wire in (old, new):
        for number in range(1, 101):
            wire.send("SLURMJC.PUT", "SPOOL", "ring", number, "RECORDS", job(number))
    for wire in (old, new):
        for _ in range(100):
            assert await wire.reply() in (0, 1)
    assert await ingest.stored() == [job(number) for number in range(1, 101)]


async def test_no_answer_is_sent_before_the_commit(ingest: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = await ingest.connect()
    held, real = threading.Event(), SpoolDatabase.append

    def slow(self: SpoolDatabase, *args: Any) -> None:
        assert held.wait(20)
        real(self, *args)

    monkeypatch.setattr(SpoolDatabase, "append", slow)
    wire.send("SLURMJC.PUT", "SPOOL", "ring", 1, "RECORDS", job(1))
    wire.send("SLURMJC.PUT", "SPOOL", "ring", 1, "RECORDS", job(1))  # a repeat of what isn't on disk yet
    wire.send("PING")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await wire.reply()
    held.set()
    assert [await wire.reply() for _ in range(3)] == [1, 0, b"PONG"]


async def test_a_failed_commit_is_refused_with_all_that_waits_behind_it(
    ingest: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await ingest.connect()
    await wire.put(1, job(1))
    ingest.spool.database.connection.execute("PRAGMA query_only = on")
    for number in (2, 3):
        wire.send("SLURMJC.PUT", "SPOOL", "ring", number, "RECORDS", job(number))
    for _ in range(2):
        assert "TRYAGAIN the spool's disk: " in text(await wire.reply())
    assert await wire.put(2, job(2), job(3)) == 2
    assert await ingest.stored() == [job(1), job(2), job(3)]


async def test_what_waits_behind_a_failed_commit_is_not_taken_either(
    ingest: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers follow on those that were refused."""
    wire = await ingest.connect()
    held, begun, real = threading.Event(), threading.Event(), SpoolDatabase.append

    def fail(self: SpoolDatabase, *args: Any) -> None:
        begun.set()
        assert held.wait(20)
        raise SpoolError("the spool's disk: on fire")

    monkeypatch.setattr(SpoolDatabase, "append", fail)
    wire.send("SLURMJC.PUT", "SPOOL", "ring", 1, "RECORDS", job(1))
    await asyncio.to_thread(begun.wait, 20)
    wire.send("SLURMJC.PUT", "SPOOL", "ring", 2, "RECORDS", job(2))
    wire.send("SLURMJC.PUT", "SPOOL", "ring", 3, "RECORDS", job(3))
    while ingest.committer._queued_records < 2:
        await asyncio.sleep(0)
    monkeypatch.setattr(SpoolDatabase, "append", real)
    held.set()
    for _ in range(3):
        assert text(await wire.reply()) == "TRYAGAIN the spool's disk: on fire"
    metrics = ingest.committer.metrics
    assert metrics.records_refused.labels("disk")._value.get() == 3
    assert metrics.commit_failures._value.get() == 1
    assert await wire.put(1, job(1), job(2), job(3)) == 3
    assert await ingest.stored() == [job(1), job(2), job(3)]
    assert ingest.committer.pending_bytes == 0


@pytest.mark.parametrize("ingest", [{"max_bytes": 4096}], indirect=True)
async def test_a_full_spool_is_told_and_heals(ingest: Intake) -> None:
    wire = await ingest.connect()
    number = 1
    while not isinstance(reply := await wire.put(number, job(number)), Exception):
        number += 1
    assert text(reply).startswith("TRYAGAIN the spool has reached spool.max_bytes (4096)")
    ingest.spool.confirm(number - 1)
    await ingest.spool.trim()
    assert await wire.put(number, job(number)) == 1


@pytest.mark.parametrize("ingest", [{"max_bytes": 16384}], indirect=True)
async def test_a_small_spool_takes_of_many_requests_those_that_fit(ingest: Intake) -> None:
    """Committed all together they would never fit."""
    wire = await ingest.connect()
    numbers = range(1, 2 * 16384 // len(job(1)))
    for number in numbers:
        wire.send("SLURMJC.PUT", "SPOOL", "ring", number, "RECORDS", job(number))
    replies = [await wire.reply() for _ in numbers]
    taken = replies.count(1)
    assert replies[:taken] == [1] * taken
    assert 16384 // 2 < ingest.spool.state.bytes <= 16384
    assert text(replies[-1]).startswith("TRYAGAIN the spool has reached spool.max_bytes (16384)")
    assert await ingest.stored() == [job(number) for number in numbers[:taken]]


async def test_ring_counters_are_kept(ingest: Intake) -> None:
    wire = await ingest.connect()
    assert (
        await wire.call("SLURMJC.RING", "ring", "ATTEMPTED", 10, "DROPPED", 2, "SPILLED", 3, "LAST_DROPPED", 77)
        == b"OK"
    )
    assert ingest.spool.state.rings["ring"] == Ring(10, 2, 3, 77)
    assert await wire.call("SLURMJC.RING", "ring", "ATTEMPTED", 11, "DROPPED", 2, "SPILLED", 3) == b"OK"
    assert ingest.spool.state.rings["ring"] == Ring(11, 2, 3, None)


BAD = [
    (("SLURMJC.PUT",), "ERR SLURMJC.PUT takes SPOOL <source> <seq> RECORDS"),
    (("SLURMJC.PUT", "SPOOL", "ring", "1", "RECORDS"), "ERR SLURMJC.PUT takes"),
    (("SLURMJC.PUT", "SPOOL", "ring", "1", "ROWS", job(1)), "ERR SLURMJC.PUT takes"),
    (("SLURMJC.PUT", "SPOOL", "r g", "1", "RECORDS", job(1)), "ERR a source is 1 to 64 of"),
    (("SLURMJC.PUT", "SPOOL", "x" * 65, "1", "RECORDS", job(1)), "ERR a source is 1 to 64 of"),
    (("SLURMJC.PUT", "SPOOL", "ring", "0", "RECORDS", job(1)), "ERR seq starts at 1"),
    (("SLURMJC.PUT", "SPOOL", "ring", "-1", "RECORDS", job(1)), "ERR seq must be a number"),
    (("SLURMJC.PUT", "SPOOL", "ring", "1e9", "RECORDS", job(1)), "ERR seq must be a number"),
    (("SLURMJC.PUT", "SPOOL", "ring", 2**63, "RECORDS", job(1)), "ERR seq must be a number"),
    (("SLURMJC.PUT", "SPOOL", "ring", "9" * 40, "RECORDS", job(1)), "ERR seq must be a number"),
    (("SLURMJC.PUT", "SPOOL", "ring", "1", "RECORDS", job(1), b"\x90"), "BADRECORD 1 not a MessagePack array"),
    (("SLURMJC.PUT", "SPOOL", "ring", "1", "RECORDS", b""), "BADRECORD 0 not a MessagePack array"),
    (("SLURMJC.RING",), "ERR SLURMJC.RING takes"),
    (("SLURMJC.RING", "ring", "DROPPED", 1, "ATTEMPTED", 1, "SPILLED", 1), "ERR SLURMJC.RING takes"),
    (("SLURMJC.RING", "ring", "ATTEMPTED", "x", "DROPPED", 1, "SPILLED", 1), "ERR ATTEMPTED must be a number"),
    (("SLURMJC.MATCH", "q"), "ERR unknown command 'SLURMJC.MATCH', expected PING"),
    (("FLUSHALL",), "ERR unknown command 'FLUSHALL'"),
    (("\r\n+OK",), "ERR unknown command"),
    (("SLURMJC.HELLO",), "ERR SLURMJC.HELLO takes 2 arguments"),
]


@pytest.mark.parametrize(("args", "message"), BAD)
async def test_a_wrong_request_is_refused_and_the_connection_goes_on(
    ingest: Intake, args: tuple[Any, ...], message: str
) -> None:
    wire = await ingest.connect()
    assert text(await wire.call(*args)).startswith(message)
    assert await wire.put(1, job(1)) == 1
    assert await ingest.stored() == [job(1)]


async def test_hello_must_come_first(ingest: Intake) -> None:
    wire = await ingest.connect(hello=False)
    assert await wire.call("PING") == b"PONG"
    assert text(await wire.put(1, job(1))).startswith("NOHELLO the first command must be SLURMJC.HELLO 1")
    with pytest.raises(EOFError):
        await wire.reply()


async def test_another_protocol_version_is_refused(ingest: Intake) -> None:
    wire = await ingest.connect(hello=False)
    assert text(await wire.call("SLURMJC.HELLO", 2, "test/1")) == "NOPROTO this daemon speaks protocol 1"
    with pytest.raises(EOFError):
        await wire.reply()


async def test_a_broken_frame_closes_the_connection_after_what_came_before_it(ingest: Intake) -> None:
    wire = await ingest.connect()
    wire.send("SLURMJC.PUT", "SPOOL", "ring", 1, "RECORDS", job(1))
    wire.send_raw(b"*4294967295\r\n")
    assert await wire.reply() == 1
    assert "arguments, not 4294967295" in text(await wire.reply())
    with pytest.raises(EOFError):
        await wire.reply()
    assert await ingest.stored() == [job(1)]


async def test_half_closed_peers_still_get_their_answers(ingest: Intake) -> None:
    wire = await ingest.connect()
    wire.send("SLURMJC.PUT", "SPOOL", "ring", 1, "RECORDS", job(1))
    wire.writer.write_eof()
    assert await wire.reply() == 1
    with pytest.raises(EOFError):
        await wire.reply()


@pytest.mark.parametrize("ingest", [{"uids": frozenset({12345})}], indirect=True)
async def test_other_users_are_refused(ingest: Intake) -> None:
    wire = await ingest.connect(hello=False)
    assert text(await wire.reply()) == "NOPERM ingest.sock takes records from root and SlurmUser only"
    with pytest.raises(EOFError):
        await wire.reply()


@pytest.mark.parametrize("ingest", [{"connections": 2}], indirect=True)
async def test_connections_are_limited(ingest: Intake) -> None:
    kept = [await ingest.connect() for _ in range(2)]
    third = await ingest.connect(hello=False)
    assert text(await third.reply()) == "LIMIT ingest.sock has its 2 connections already"
    assert await kept[0].call("PING") == b"PONG"


@pytest.mark.parametrize("ingest", [{"pending_bytes": 2**20}], indirect=True)
async def test_sockets_are_not_read_while_too_much_waits(ingest: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the disk held up, what is in memory stays near the limit; with the disk back, everything is taken."""
    wire = await ingest.connect()
    held, real = threading.Event(), SpoolDatabase.append

    def slow(self: SpoolDatabase, *args: Any) -> None:
        assert held.wait(20)
        real(self, *args)

    monkeypatch.setattr(SpoolDatabase, "append", slow)
    record = job(1, work_dir="/" + "x" * 10_000)
    requests = 400
    for number in range(1, requests + 1):
        wire.send("SLURMJC.PUT", "SPOOL", "ring", number, "RECORDS", record)
    while not ingest.server.must_wait:
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert ingest.committer.pending_bytes < 2**20 + 2**19
    held.set()
    assert [await wire.reply() for _ in range(requests)] == [1] * requests
    assert ingest.committer.pending_bytes == 0


async def test_an_idle_committer_ends_when_closed(ingest: Intake) -> None:
    ingest.committer.close()
    await asyncio.wait_for(asyncio.shield(ingest.task), 5)


@pytest.mark.parametrize("cut", range(0, 400, 7))
async def test_a_connection_that_breaks_anywhere_leaves_whole_requests_only(ingest: Intake, cut: int) -> None:
    stream = b"".join(protocol.command("SLURMJC.PUT", "SPOOL", "ring", n, "RECORDS", job(n)) for n in (1, 2))
    wire = await ingest.connect()
    wire.send_raw(stream[:cut])
    wire.writer.write_eof()
    replies = 0
    while True:
        try:
            assert await wire.reply() == 1
        except EOFError:
            break
        replies += 1
    assert await ingest.stored() == [job(n) for n in range(1, replies + 1)]
    assert replies == cut // (len(stream) // 2)  # both requests are equally long
