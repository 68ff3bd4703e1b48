# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgpack
import pytest

from slurmjcd import protocol, record
from slurmjcd.shipping import parts
from slurmjcd.shipping.parts import SpoolParts
from slurmjcd.spool.batch import Batch, Intake
from slurmjcd.spool.spool import Spool
from tests.slurmjcd.jobs import job


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    spool = await Spool.open(tmp_path / "spool.db", max_bytes=2**30, replay_s=3600, replay_bytes=2**30)
    yield spool
    await spool.close()


async def take(spool: Spool, *records: bytes) -> None:
    last = spool.state.last + len(records)
    await spool.append([Intake("ring", last, len(records), protocol.join_frames(records))], {})


@pytest.mark.parametrize("job_id", [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63])
def test_a_job_id_is_read_without_the_rest(job_id: int) -> None:
    data = b"xx" + record.encode({"job_id": job_id, "name": "x"}) + b"yy"
    assert record.peek_job_id(data, 2, len(data) - 2) == job_id


def test_a_job_id_in_a_form_that_no_encoder_of_ours_writes_is_read_too() -> None:
    for blob in (msgpack.packb([1, 7]), b"\xdd\x00\x00\x00\x02\x01\x07", b"\xdc\x00\x02\x01\xd2\x00\x00\x00\x07"):
        assert record.peek_job_id(blob, 0, len(blob)) == 7


@pytest.mark.parametrize(
    "blob", [b"", b"\xdc", b"\xdc\x00", b"\xdc\x00\x02\x01", b"\xdc\x00\x02\x01\xa1x", b"\xdc\x00\x02\x01\xc0", b"\x80",
             b"\xdc\x00\x02\x01\xff", b"\xc1", b"x" * 40]
)  # fmt: skip
def test_what_has_no_job_id(blob: bytes) -> None:
    assert record.peek_job_id(blob, 0, len(blob)) is None


def test_a_batch_is_split_by_job_and_every_shard_gets_its_numbers() -> None:
    ids = [5, 3, 9, 4, 6]
    batch = Batch(11, 5, protocol.join_frames(map(job, ids)))
    cut = parts.split(batch, 3)
    assert [(part.first, part.last) for part in cut] == [(11, 15)] * 3
    assert [part.offsets for part in cut] == [(1, 2, 4), (3,), (0,)]
    assert [protocol.split_frames(part.frames) for part in cut] == [[job(3), job(9), job(6)], [job(4)], [job(5)]]


def test_records_in_quarantine_belong_to_nobody_and_what_is_none_to_the_first() -> None:
    batch = Batch(1, 3, protocol.join_frames([b"", b"\xdc\x00\x01\xc0", job(1)]))
    cut = parts.split(batch, 2)
    assert [(part.count, part.offsets) for part in cut] == [(1, (1,)), (1, (2,))]


async def test_a_batch_is_split_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[int] = []
    real = parts.split
    monkeypatch.setattr(parts, "split", lambda batch, shards: splits.append(batch.first) or real(batch, shards))
    both = SpoolParts(spool, 2)
    for number in range(1, 6):
        await take(spool, job(number))
    for shard in (both.part(0), both.part(1)):
        assert [part.first for part in await shard.read(0)] == [1, 2, 3, 4, 5]
    assert splits == [1, 2, 3, 4, 5]


async def test_the_only_shard_gets_batches_as_they_are(spool: Spool) -> None:
    await take(spool, job(1), job(2))
    (part,) = await SpoolParts(spool, 1).part(0).read(0)
    assert (part.first, part.last, part.count, part.offsets) == (1, 2, 2, None)


async def test_the_spool_is_shipped_as_far_as_all_shards_are(spool: Spool) -> None:
    one, other = (both := SpoolParts(spool, 2)).part(0), both.part(1)
    await take(spool, *map(job, range(10)))
    one.confirm(7)
    assert (one.shipped, one.backlog, spool.state.shipped) == (7, 3, 0)
    other.confirm(5)
    assert spool.state.shipped == 5
    one.rewound(2)
    assert (one.shipped, other.shipped, spool.state.shipped) == (2, 5, 2)
    one.confirm(9)
    assert spool.state.shipped == 5


async def test_numbers_that_were_skipped_have_a_part_without_records(spool: Spool) -> None:
    await take(spool, job(1))
    await spool.skip_to(10)
    part = SpoolParts(spool, 2).part(1)
    (empty,) = await part.read(1)
    assert (empty.first, empty.last, empty.count) == (2, 10, 0)
    await take(spool, job(1))
    part = SpoolParts(spool, 2).part(1)
    assert [(each.first, each.last, each.count) for each in await part.read(1)] == [(2, 10, 0)]
    assert [(each.first, each.last, each.count) for each in await part.read(10)] == [(11, 11, 1)]


async def test_two_shards_set_records_of_one_batch_aside(spool: Spool) -> None:
    """Neither brings back what the other has taken out."""
    both = SpoolParts(spool, 2)
    await take(spool, *map(job, range(1, 5)))
    pieces = [(await both.part(shard).read(0))[0] for shard in (0, 1)]
    assert await both.part(0).set_aside(pieces[0], 1, "bad") == 4  # its second: job 4
    assert await both.part(1).set_aside(pieces[1], 0, "bad") == 1
    (batch,) = await spool.read(0, max_bytes=1)
    assert protocol.split_frames(batch.frames) == [b"", job(2), job(3), b""]
    assert [part.count for shard in (0, 1) for part in await both.part(shard).read(0)] == [1, 1]
    assert spool.state.quarantined == 2


async def test_a_damaged_batch_is_set_aside_once(spool: Spool) -> None:
    both = SpoolParts(spool, 2)
    await take(spool, job(1), job(2))
    spool._tail.clear()
    spool.database.connection.execute("UPDATE batch SET crc = crc + 1")
    damaged = [(await both.part(shard).read(0))[0] for shard in (0, 1)]
    assert all(part.damaged for part in damaged)
    assert [await both.part(shard).set_damaged_aside(damaged[shard]) for shard in (0, 1)] == [2, 0]
    assert [(part.count, part.damaged) for shard in (0, 1) for part in await both.part(shard).read(0)] == [
        (0, False)
    ] * 2


async def test_numbers_are_lost_once_whichever_shards_lost_them(spool: Spool) -> None:
    one, other = (both := SpoolParts(spool, 2)).part(0), both.part(1)
    assert (one.count_lost(1, 10), other.count_lost(1, 10), other.count_lost(5, 12)) == (10, 0, 2)
    assert spool.state.lost == 12
