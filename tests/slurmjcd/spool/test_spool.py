# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurmjcd import protocol
from slurmjcd.errors import SpoolError, SpoolFull
from slurmjcd.spool import batch
from slurmjcd.spool.batch import Batch, Intake, Ring
from slurmjcd.spool.spool import Spool
from tests.slurmjcd.jobs import job

OpenSpool = Callable[..., Awaitable[Spool]]


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[OpenSpool]:
    opened: list[Spool] = []

    async def open_(path: Path | None = None, **options: Any) -> Spool:
        sizes = {"max_bytes": 2**30, "replay_s": 0.0, "replay_bytes": 0} | options
        spool = await Spool.open(path or tmp_path / "spool.db", **sizes)
        opened.append(spool)
        return spool

    yield open_
    for spool in opened:
        await spool.close()


def intake(*numbers: int, source: str = "ring") -> Intake:
    """Records of jobs `numbers`, which are the source's own numbers too."""
    records = [job(number) for number in numbers]
    return Intake(source, numbers[-1], len(records), protocol.join_frames(records))


def records_of(batches: list[Batch]) -> list[bytes]:
    return [record for batch in batches for record in protocol.split_frames(batch.frames)]


async def read_all(spool: Spool, after: int = 0) -> list[Batch]:
    batches: list[Batch] = []
    while page := await spool.read(batches[-1].last if batches else after, max_bytes=4000):
        batches += page
    return batches


def from_disk(spool: Spool) -> None:
    """Make the spool forget what it keeps in memory."""
    spool._tail.clear()


async def test_what_was_appended_is_there_after_a_restart(open_spool: OpenSpool) -> None:
    first = await open_spool()
    await first.append([intake(1, 2), intake(7, source="other")], {"ring": Ring(5, 1, 2, 99)})
    await first.append([intake(3)], {})
    await first.close()
    second = await open_spool()
    assert second.state.spool_id == first.state.spool_id
    assert second.state.watermarks == {"ring": 3, "other": 7}
    assert second.state.rings["ring"] == Ring(5, 1, 2, 99)
    assert (second.state.last, second.state.backlog) == (4, 4)
    assert records_of(await read_all(second)) == [job(1), job(2), job(7), job(3)]


async def test_an_append_survives_without_close(open_spool: OpenSpool, tmp_path: Path) -> None:
    spool = await open_spool()
    await spool.append([intake(1)], {})
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.glob("spool.db*"):
        (copy / path.name).write_bytes(path.read_bytes())
    again = await open_spool(copy / "spool.db")
    assert records_of(await read_all(again)) == [job(1)]


@pytest.mark.parametrize("memory", [True, False])
async def test_read_starts_at_the_batch_that_holds_the_next_record(open_spool: OpenSpool, memory: bool) -> None:
    spool = await open_spool()
    for numbers in ((1, 2, 3), (4, 5), (6,)):
        await spool.append([intake(*numbers)], {})
    for after, first in ((0, 1), (1, 1), (2, 1), (3, 4), (4, 4), (5, 6)):
        again = await open_spool(spool.path) if memory else spool
        if not memory:
            from_disk(spool)
        assert (await again.read(after, max_bytes=10**6))[0].first == first
    assert await spool.read(6, max_bytes=10**6) == []


async def test_a_large_commit_is_cut_into_batches_of_a_handy_size(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    numbers = range(1, 1201)
    await spool.append([intake(*numbers)], {})
    from_disk(spool)
    batches = await read_all(spool)
    assert [batch.count for batch in batches] == [500, 500, 200]
    assert records_of(batches) == [job(number) for number in numbers]


async def test_trim_keeps_what_is_not_shipped(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    for number in (1, 2, 3):
        await spool.append([intake(number)], {})
    spool.confirm(2)
    assert await spool.trim() == 2
    assert spool.state.oldest == 3
    from_disk(spool)
    assert records_of(await read_all(spool)) == [job(3)]
    assert spool.state.bytes == len(protocol.join_frames([job(3)]))


async def test_trim_keeps_the_replay_window_but_not_beyond_its_bytes(open_spool: OpenSpool) -> None:
    spool = await open_spool(replay_s=3600.0, replay_bytes=2 * len(intake(1).frames))
    for number in (1, 2, 3):
        await spool.append([intake(number)], {})
    spool.confirm(3)
    assert await spool.trim() == 1
    assert await spool.trim() == 0
    assert spool.state.oldest == 2


async def test_numbers_go_on_after_everything_was_trimmed(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.append([intake(1, 2)], {})
    spool.confirm(2)
    await spool.trim()
    await spool.close()
    again = await open_spool()
    assert (again.state.last, again.state.oldest, again.state.shipped, again.state.backlog) == (2, 3, 2, 0)
    await again.append([intake(3)], {})
    assert [batch.first for batch in await read_all(again, after=2)] == [3]


async def test_a_full_spool_takes_nothing_and_goes_on_when_there_is_room(open_spool: OpenSpool) -> None:
    spool = await open_spool(max_bytes=len(intake(1).frames) + 10)
    await spool.append([intake(1)], {})
    with pytest.raises(SpoolFull, match=r"has reached spool\.max_bytes .* with 1 records not in Redis"):
        await spool.append([intake(2)], {})
    assert spool.state.watermarks == {"ring": 1}
    assert spool.full
    spool.confirm(1)
    await spool.trim()
    assert not spool.full
    await spool.append([intake(2)], {})
    assert spool.state.last == 2


async def test_a_spool_is_full_when_what_came_has_no_room(open_spool: OpenSpool) -> None:
    """Also with a quarter of it left."""
    few, many = intake(1, 2, 3), intake(4, 5, 6, 7)
    spool = await open_spool(max_bytes=len(few.frames) * 4 // 3)
    await spool.append([few], {})
    assert not spool.full
    with pytest.raises(SpoolFull):
        await spool.append([many], {})
    assert spool.full
    await spool.append([intake(4)], {})
    assert spool.state.last == 4


async def test_the_replay_window_gives_way_to_what_has_no_room(open_spool: OpenSpool) -> None:
    size = len(intake(1).frames)
    spool = await open_spool(max_bytes=8 * size, replay_s=3600.0, replay_bytes=2**30)
    for number in range(1, 9):
        await spool.append([intake(number)], {})
    spool.confirm(8)
    while await spool.trim():
        pass
    assert spool.state.bytes == 6 * size
    many = intake(9, 10, 11, 12, 13)
    with pytest.raises(SpoolFull):
        await spool.append([many], {})
    while await spool.trim():
        pass
    await spool.append([many], {})
    assert spool.state.last == 13


async def test_a_failed_commit_changes_nothing_and_the_next_one_works(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.append([intake(1)], {})
    spool.database.connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(SpoolError, match="the spool's disk: database or disk is full"):
        await spool.append([intake(*range(2, 200))], {})
    assert spool.state.last == 1
    assert spool.state.error is not None
    await spool.append([intake(2)], {})
    assert spool.state.error is None
    from_disk(spool)
    assert records_of(await read_all(spool)) == [job(1), job(2)]


async def test_quarantine_leaves_an_empty_record_in_its_place(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.append([intake(1, 2, 3)], {})
    (batch,) = await spool.read(0, max_bytes=10**6)
    await spool.quarantine(batch, {1: "end is 0"})
    assert records_of(await read_all(spool)) == [job(1), b"", job(3)]
    row = spool.database.connection.execute("SELECT seq, reason, record FROM quarantine").fetchone()
    assert row == (2, "end is 0", job(2))
    assert spool.state.quarantined == 1


async def test_a_batch_that_changed_on_disk_is_told_and_set_aside(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    for number in (1, 2, 3):
        await spool.append([intake(number)], {})
    frames = bytearray(intake(2).frames)
    frames[20] ^= 1
    spool.database.connection.execute("UPDATE batch SET frames = ? WHERE first = 2", (bytes(frames),))
    from_disk(spool)
    batches = await spool.read(0, max_bytes=10**6)
    assert [(batch.first, bool(batch.frames)) for batch in batches] == [(1, True), (2, False)]
    await spool.quarantine_damaged(batches[1])
    assert records_of(await read_all(spool)) == [job(1), b"", job(3)]
    assert spool.database.connection.execute("SELECT record FROM quarantine").fetchone()[0] == bytes(frames)


async def test_skip_to_leaves_a_hole_that_reading_passes(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.append([intake(1)], {})
    await spool.skip_to(10)
    await spool.append([intake(2)], {})
    from_disk(spool)
    assert [batch.first for batch in await read_all(spool)] == [1, 11]
    assert [batch.first for batch in await read_all(spool, after=5)] == [11]


async def test_close_and_reopen_keeps_lost_and_shipped(open_spool: OpenSpool) -> None:
    spool = await open_spool(replay_s=60.0, replay_bytes=10**6)
    await spool.append([intake(1, 2)], {})
    spool.confirm(1)
    spool.count_lost(7)
    await spool.close()
    state = (await open_spool()).state
    assert (state.shipped, state.lost) == (1, 7)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(
    st.tuples(st.just("append"), st.integers(1, 30)),
    st.tuples(st.just("confirm"), st.integers(0, 40)),
    st.tuples(st.sampled_from(["trim", "restart", "forget", "fail"]), st.just(0)),
), max_size=15))  # fmt: skip
async def test_spool_is_a_list_that_forgets_only_what_was_confirmed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("model") / "spool.db"
    sizes = {"max_bytes": 2**30, "replay_s": 0.0, "replay_bytes": 0}
    spool = await Spool.open(path, **sizes)  # type: ignore[arg-type]
    taken = confirmed = 0
    for step, number in steps:
        if step == "append":
            await spool.append([intake(*range(taken + 1, taken + number + 1))], {})
            taken += number
        elif step == "confirm":
            confirmed = max(confirmed, min(number, taken))
            spool.confirm(number)
        elif step == "trim":
            await spool.trim()
        elif step == "restart":
            await spool.close()
            spool = await Spool.open(path, **sizes)  # type: ignore[arg-type]
        elif step == "forget":
            from_disk(spool)
        else:
            spool.database.connection.execute("PRAGMA query_only = on")
            with pytest.raises(SpoolError):
                await spool.append([intake(taken + 1)], {})
        assert spool.state.last == taken
        assert spool.state.watermarks.get("ring", 0) == taken
        kept = [record for batch in await read_all(spool, confirmed) for record in protocol.split_frames(batch.frames)]
        assert (
            kept[-(taken - confirmed) :] == [job(number) for number in range(confirmed + 1, taken + 1)]
            or taken == confirmed
        )
    await spool.close()


def test_rows_are_cut_at_records() -> None:
    big = [b"\xdc" + b"x" * 300_000 for _ in range(3)]
    rows = batch.cut([Intake("s", 3, 3, protocol.join_frames(big))], 5)
    assert [(row.first, row.count) for row in rows] == [(5, 1), (6, 1), (7, 1)]
    assert records_of(rows) == big


async def test_arrived_is_set_by_a_commit(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    arrived = spool.follow()
    assert not arrived.is_set()
    await spool.append([intake(1)], {})
    await asyncio.wait_for(arrived.wait(), 1)


def test_sqlite_is_new_enough_for_upsert() -> None:
    assert sqlite3.sqlite_version_info >= (3, 24)
