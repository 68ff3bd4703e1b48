# SPDX-License-Identifier: MIT
"""SLURMJC.WATCH over a real socket: who is woken, for what, and what waiting costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from slurmjcd.access.policy import AccessPolicy, Peer
from slurmjcd.record import decode
from slurmjcd.watching import events
from slurmjcd.watching.feeds import Place
from tests.slurmjcd.jobs import NOON, job
from tests.slurmjcd.query.test_query import ME, Asking, asking, private
from tests.slurmjcd.wire import Wire, text

__all__ = ["asking"]

LONG = 60_000  # ms

OURS = '{"job": "9", "job_id": 9, "cluster": "c", "uid": 1000, "account": "a", "submit": 1, "start": 1, "restarts": 0}'
# what somebody else may have put on the stream
FOREIGN = [
    b"", b"x", b"\xff", b"null", b"[]", b"{}", b"[" * 100_000, OURS + "}", OURS.replace("1000", '"1000"'),
    OURS.replace("1000", "1e3"), OURS.replace("1000", "NaN"), OURS.replace('"c"', "{}"), OURS.replace('"a"', "[1]"),
    OURS.replace('"9"', "9"), OURS.replace('"job_id": 9', '"job_id": ' + "9" * 5000),
]  # fmt: skip


def end(asking: Asking, *records: bytes, keep: int = 1000) -> None:
    with asking.redis.client() as client:
        words = ("EVENTS", keep, time.time_ns() // 1_000_000, "RECORDS", *records)
        client.execute_command("SLURMJC.PUT", "job", *words)


async def start(wire: Wire, *criteria: str) -> bytes:
    """The id from which on a watch begins now."""
    reply = await wire.call("SLURMJC.WATCH", "$", 10, 0, *criteria)
    assert isinstance(reply, list), reply
    assert reply[1:] == [0]
    return bytes(reply[0])


async def told(wire: Wire) -> list[int]:
    return ids(await wire.reply())


def ids(reply: Any) -> list[int]:
    assert isinstance(reply, list), reply
    return [decode(record)["job_id"] for record in reply[2:]]


def place_of(cursor: bytes) -> Place:
    return (events.parse_id(cursor),)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def waiting(asking: Asking, count: int) -> None:
    await until(lambda: asking.server.waiting.total() == count)


async def test_a_job_is_pushed_when_it_is_stored(asking: Asking) -> None:
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 1)
    end(asking, job(50), job(51))
    assert await told(wire) == [50, 51]


async def test_only_what_meets_the_criteria(asking: Asking) -> None:
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG, "state", "5", "partition", "gpu")
    await waiting(asking, 1)
    end(asking, job(50), job(51, state=5))
    end(asking, job(52, partition="gpu"), job(53, state=5, partition="gpu"))
    assert await told(wire) == [53]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("50", [50]),
        ("49-51", [50, 51]),
        ("1-4000000", [50, 51, 60, 61, 70, 71]),
        ("60", [60, 61]),
        ("60_[1-3]", [60]),
        ("60_[0,5]", [61]),
        ("60_5", [61]),
        ("70+1", [71]),
        ("70,50", [50, 70, 71]),
        ("71", [71]),
    ],
)
async def test_jobs_by_number_task_and_part(asking: Asking, words: str, expected: list[int]) -> None:
    """As MATCH has it, which is asked beside it."""
    wire = await asking.connect()
    cursor = await start(wire, "job", words)
    records = [
        job(50), job(51), job(60, array_job_id=60, array_task_id=2), job(61, array_job_id=60, array_task_id=5),
        job(70, het_job_id=70, het_job_offset=0), job(71, het_job_id=70, het_job_offset=1),
    ]  # fmt: skip
    end(asking, *records)
    await until(lambda: asking.server.feed.last > place_of(cursor))
    assert ids(await wire.call("SLURMJC.WATCH", cursor, 10, 0, "job", words)) == expected
    await wire.call("SLURMJC.MATCH", "q", "job", words)
    found = await wire.call("SLURMJC.FETCH", "q", 100, "RECORDS")
    assert sorted({decode(record)["job_id"] for record in found} & set(range(50, 80))) == expected


async def test_the_place_goes_on_from_answer_to_answer(asking: Asking) -> None:
    wire = await asking.connect()
    cursor, seen = await start(wire), []
    end(asking, *map(job, range(100, 130)))
    while len(seen) < 30:
        reply = await wire.call("SLURMJC.WATCH", cursor, 7, LONG)
        cursor = reply[0]
        assert len(reply) <= 2 + 7
        seen += ids(reply)
    assert seen == list(range(100, 130))
    assert await wire.call("SLURMJC.WATCH", cursor, 7, 0) == [cursor, 0]


async def test_the_place_passes_over_what_was_not_for_this_caller(asking: Asking) -> None:
    wire = await asking.connect()
    cursor = await start(wire, "job", "7000")
    wire.send("SLURMJC.WATCH", cursor, 7, 300, "job", "7000")
    await waiting(asking, 1)
    end(asking, job(50))
    reply = await wire.reply()
    assert reply[2:] == []
    assert place_of(reply[0]) == asking.server.feed.last > place_of(cursor)


async def test_what_memory_no_longer_has_comes_from_the_stream(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = await asking.connect()
    end(asking, job(40))
    cursor = await start(wire)
    end(asking, *map(job, range(100, 120)))
    await asking.server.feed.close()
    reply = await wire.call("SLURMJC.WATCH", cursor, 500, LONG)
    assert (ids(reply), reply[1]) == (list(range(100, 120)), 0)


async def test_that_events_are_gone_is_said(asking: Asking) -> None:
    wire = await asking.connect()
    end(asking, job(40))
    cursor = await start(wire)
    end(asking, *map(job, range(100, 120)), keep=5)
    await asking.server.feed.close()
    reply = await wire.call("SLURMJC.WATCH", cursor, 500, LONG)
    assert (ids(reply), reply[1]) == (list(range(115, 120)), 1)


async def test_a_run_that_was_stored_before_is_not_told_again(asking: Asking) -> None:
    wire = await asking.connect()
    end(asking, job(50, start=NOON - 50))
    cursor = await start(wire)
    end(asking, job(50, restart_count=1))
    assert ids(await wire.call("SLURMJC.WATCH", cursor, 10, LONG)) == [50]


# ---- who sees what -----------------------------------------------------------------------------------------------


@private
async def test_jobs_of_others_wake_nobody_who_may_not_see_them(asking: Asking) -> None:
    wire = await asking.connect()
    cursor = await start(wire)
    wire.send("SLURMJC.WATCH", cursor, 10, LONG)
    await waiting(asking, 1)
    end(asking, job(50, uid=ME + 1))
    await until(lambda: asking.server.feed.last > place_of(cursor))
    end(asking, job(51, uid=ME), job(52, uid=ME + 1))
    assert await told(wire) == [51]


@private
@pytest.mark.parametrize("cursor", ["0-0", "$"])
async def test_neither_by_number_nor_from_the_beginning(asking: Asking, cursor: str) -> None:
    end(asking, job(50, uid=ME + 1))
    wire = await asking.connect()
    assert (await wire.call("SLURMJC.WATCH", cursor, 10, 100, "job", "50"))[2:] == []
    assert (await wire.call("SLURMJC.WATCH", cursor, 10, 100))[2:] == []


@private
async def test_to_ask_for_others_alone_is_refused(asking: Asking) -> None:
    wire = await asking.connect()
    assert text(await wire.call("SLURMJC.WATCH", "$", 10, LONG, "uid", str(ME + 1))).startswith("NOPERM")


@private
async def test_a_right_that_is_taken_away_while_somebody_waits(asking: Asking) -> None:
    asking.server.policy = AccessPolicy(private=True, operators=[], operator_uids=[ME])
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, 2000)
    await waiting(asking, 1)
    asking.server.policy = AccessPolicy(private=True, operators=[], operator_uids=[])
    end(asking, job(50, uid=ME + 1), job(51, uid=ME))
    assert await told(wire) == [51]


@private
async def test_a_coordinator_is_told_of_the_accounts_jobs(asking: Asking) -> None:
    asking.server.policy = AccessPolicy(
        private=True, operators=[], operator_uids=[], coordinators={"Physics": [str(ME)]}
    )
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 1)
    end(asking, job(50, uid=ME + 1, account="chem"), job(51, uid=ME + 1, account="physics"))
    assert await told(wire) == [51]


# ---- what it costs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asking", [{"waiting": 400, "waiting_per_uid": 400, "connections": 8}], indirect=True)
async def test_many_wait_on_one_read_and_let_others_ask(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurmjcd.query.asking.peer_of", lambda transport: Peer(ME, 1, ME))
    wires = []
    for number in range(200):
        wires.append(await asking.connect())
        wires[-1].send("SLURMJC.WATCH", "$", 10, LONG, "job", str(1000 + number))
        await waiting(asking, number + 1)
    with asking.redis.client() as client:
        client.config_resetstat()
        end(asking, job(50))
        other = await asking.connect()
        assert await other.call("SLURMJC.MATCH", "q", "job", "1") is not None
        await asyncio.sleep(0)
        # nobody of them asked Redis for anything
        calls = client.info("commandstats")
        assert calls["cmdstat_slurmjc.match"]["calls"] == 1
        assert calls.get("cmdstat_xread", {"calls": 0})["calls"] <= 2
        assert client.info("clients")["blocked_clients"] <= 1
    end(asking, *(job(1000 + number) for number in range(200)))
    assert [await told(wire) for wire in wires] == [[1000 + number] for number in range(200)]
    assert not asking.server.waiting
    assert asking.server.by_uid[ME] == 201


@pytest.mark.parametrize("asking", [{"waiting_per_uid": 2}], indirect=True)
async def test_a_user_may_wait_so_often_and_no_more(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurmjcd.query.asking.peer_of", lambda transport: Peer(ME, 1, ME))
    wires = [await asking.connect() for _ in range(3)]
    for number in (1, 2):
        wires[number].send("SLURMJC.WATCH", "$", 10, LONG)
        await waiting(asking, number)
    assert text(await wires[0].call("SLURMJC.WATCH", "$", 10, LONG)).startswith("LIMIT 2 connections may wait")
    await wires[1].close()
    await waiting(asking, 1)
    wires[0].send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 2)


@pytest.mark.parametrize("asking", [{"waiting": 2}], indirect=True)
async def test_nor_do_all_together(asking: Asking) -> None:
    wires = [await asking.connect() for _ in range(3)]
    for number in (1, 2):
        wires[number].send("SLURMJC.WATCH", "$", 10, LONG)
        await waiting(asking, number)
    assert text(await wires[0].call("SLURMJC.WATCH", "$", 10, LONG)).startswith("LIMIT")


async def test_who_goes_away_waits_no_more(asking: Asking) -> None:
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 1)
    await wire.close()
    await until(lambda: not asking.server.connections)
    assert not asking.server.waiting
    assert not asking.server.by_uid


async def test_the_daemons_end_ends_the_wait(asking: Asking) -> None:
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 1)
    await asking.server.close()
    assert (await wire.reply())[2:] == []
    with pytest.raises(EOFError):
        await wire.reply()


async def test_nobody_waits_any_more_nobody_reads(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_IDLE_S", 0.3)
    asking.server.feed.feeds[0]._block_ms = b"50"
    wire = await asking.connect()
    await start(wire)
    await until(lambda: asking.server.feed.feeds[0]._task is None)
    end(asking, job(50))
    cursor = await start(wire)
    wire.send("SLURMJC.WATCH", cursor, 10, LONG)
    await waiting(asking, 1)
    end(asking, job(51))
    assert await told(wire) == [51]


# ---- Redis comes and goes ----------------------------------------------------------------------------------------


async def test_a_wait_outlives_redis(asking: Asking) -> None:
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 1)
    await asyncio.to_thread(asking.redis.kill)
    await asyncio.to_thread(asking.redis.start)  # with nothing in it: an earlier time's store
    with asking.redis.client() as client:
        await until(lambda: client.info("clients")["blocked_clients"] == 1)
    end(asking, job(50))
    assert await told(wire) == [50]


async def test_without_redis_one_is_told(asking: Asking) -> None:
    asking.redis.stop()
    wire = await asking.connect()
    assert text(await wire.call("SLURMJC.WATCH", "$", 10, LONG)).startswith("UNAVAILABLE")


async def test_entries_of_others_do_not_stop_it(asking: Asking) -> None:
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 1)
    with asking.redis.client() as client:
        client.xadd("job:events", {"hello": "world"})
        for foreign in FOREIGN:
            client.xadd("job:events", {"event": foreign})
    end(asking, job(50))
    assert await told(wire) == [50]


async def test_a_run_of_a_cluster_whose_name_is_no_utf8_is_told_of(asking: Asking) -> None:
    """The event has another name of it than the record."""
    wire = await asking.connect()
    wire.send("SLURMJC.WATCH", "$", 10, LONG)
    await waiting(asking, 1)
    end(asking, job(50, cluster="caf\udce9\udce2\udc82"))
    assert await told(wire) == [50]


async def test_a_reader_who_may_not_read_the_stream_is_told_so(asking: Asking) -> None:
    with asking.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-xread")
    wire = await asking.connect()
    assert "permissions to run the 'xread' command" in text(await wire.call("SLURMJC.WATCH", "$", 10, LONG))


# ---- what is no question -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("$",), ("$", 0, 10), ("$", 501, 10), ("$", 10, 600_001), ("$", 10, -1), ("x", 10, 10), ("1", 10, 10),
        ("1-", 10, 10), (f"1-{10**20}", 10, 10), ("$", 10, 10, "job"), ("$", 10, 10, "start", "1"),
        ("$", 10, 10, "limit", "1"), ("$", 10, 10, "nonsense", "1"), ("$", 10, 10, "job", "x"),
        ("$", 10, 10, "job", "1_[2-"), ("$", 10, 10, "job", "1_[a]"), ("$", 10, 10, "viewer", "0"),
        ("$", 10, 10, "state", "x"),
    ],
)  # fmt: skip
async def test_bad_questions(asking: Asking, words: tuple[Any, ...]) -> None:
    wire = await asking.connect()
    assert text(await wire.call("SLURMJC.WATCH", *words)).startswith("ERR")
