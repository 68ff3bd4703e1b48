# SPDX-License-Identifier: MIT
"""Bytes of ring, spill and spool files are flipped, zeroed, cut off: counted, set aside, never fatal."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmjcd.spool.ledger import quarantined_records
from tests.faults import oracle
from tests.faults.test_ring import counters
from tests.faults.world import World
from tests.harness import wait_until

HEADER_BYTES = 4096  # of ring and spill file
CALLS = 1000
KINDS = ("flip", "zero", "truncate", "random")


def damage(path: Path, kind: str, chance: random.Random, *, begin: int, end: int) -> None:
    """Harm a few bytes of a file somewhere between two offsets."""
    at = chance.randrange(begin, end)
    data = bytearray(path.read_bytes())
    if kind == "truncate":
        del data[at:]
    else:
        size = 1 if kind == "flip" else chance.choice((4, 64, 600))
        for i in range(at, min(at + size, len(data))):
            data[i] = data[i] ^ (1 << chance.randrange(8)) if kind == "flip" else 0
            if kind == "random":
                data[i] = chance.randrange(256)
    path.write_bytes(data)


def backlog(world: World) -> int:
    return int(json.loads(world.daemon.get("/readyz")[1])["components"]["spool"]["backlog_records"])


def check_damaged(world: World, *, most: int) -> int:
    """Everything runs, nothing is twice or changed, at most so many records are missing; returns how many."""
    world.revive()
    fresh = world.driver.start(1)

    def arrived() -> bool:
        verdict, last = world.verdict(), world.driver.promised_last()
        here = last and not last.keys() & set(verdict.lost) and len(verdict.lost) <= most
        return bool(here) and backlog(world) == 0

    wait_until(arrived, what=lambda: f"the rest to arrive: {world.verdict()}", every_s=0.2)
    assert fresh.running, "slurmctld's plugin ended it"
    assert world.daemon.process.running
    verdict = world.verdict()
    assert not verdict.twice
    assert not verdict.unknown
    assert not verdict.changed
    return len(verdict.lost)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "truncate"])
def test_a_damaged_ring_loses_what_was_touched_and_counts_it(
    make_world: Callable[..., World], kind: str, seed: int
) -> None:
    """Damage among the records of a ring whose process was killed."""
    chance = random.Random(f"ring {kind} {seed}")
    world = make_world()
    world.daemon.stop()
    process = world.driver.start(CALLS)
    world.driver.wait_calls(CALLS)
    process.kill()
    (ring,) = world.driver.rings()
    damage(ring, kind, chance, begin=HEADER_BYTES, end=HEADER_BYTES + 200 * CALLS)
    lost = check_damaged(world, most=6)
    wait_until(
        lambda: counters(world)["dropped"] == lost,
        what=lambda: f"{lost} to be counted as dropped: {counters(world)}; {world.verdict()}",
    )


# where ring_layout.h has the first and the second copy of identity, producer's and consumer's end
COPIES = {"identity": 0, "head 0": 512, "head 1": 552, "tail 0": 1024, "tail 1": 1096}


@pytest.mark.parametrize("copy", list(COPIES))
def test_a_ring_with_a_damaged_header_is_read_all_the_same(make_world: Callable[..., World], copy: str) -> None:
    """Each end of the ring and its identity is there twice: one damaged copy takes nothing away."""
    world = make_world()
    world.daemon.stop()
    process = world.driver.start(CALLS)
    world.driver.wait_calls(CALLS)
    process.kill()
    (ring,) = world.driver.rings()
    data = bytearray(ring.read_bytes())
    data[COPIES[copy] + 8 : COPIES[copy] + 24] = random.Random(copy).randbytes(16)
    ring.write_bytes(data)
    assert check_damaged(world, most=0) == 0


@pytest.mark.parametrize(
    "text",
    [b"", pytest.param(b"nonsense", marks=pytest.mark.faults_fast), bytes(1 << 20), b"\xff" * (1 << 20)],
    ids=["empty", "a word", "zeros", "ones"],
)
def test_a_file_that_is_no_ring_is_set_aside(make_world: Callable[..., World], text: bytes) -> None:
    world = make_world()
    process = world.driver.start(10)
    wait_until(lambda: world.stored_count() == 10, what="10 records")
    process.kill()
    (ring,) = world.driver.rings()
    ring.write_bytes(text)
    world.check()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_spill_file_loses_what_was_touched_and_counts_it(
    make_world: Callable[..., World], kind: str, seed: int
) -> None:
    chance = random.Random(f"spill {kind} {seed}")
    world = make_world()
    world.daemon.stop()
    assert world.driver.start(CALLS, linger_s=0).wait(30) == 0  # fini spills all of it
    (spill,) = world.driver.spills()
    damage(spill, kind, chance, begin=HEADER_BYTES, end=spill.stat().st_size)
    lost = check_damaged(world, most=CALLS if kind == "truncate" else 6)
    if kind != "truncate":
        wait_until(
            lambda: counters(world)["dropped"] == lost,
            what=lambda: f"{lost} to be counted as dropped: {counters(world)}; {world.verdict()}",
        )


def reasons(spool: Path) -> list[str]:
    """Why records are in quarantine."""
    with contextlib.closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as database:
        return [row[0] for row in database.execute("SELECT reason FROM quarantine")]


def _spool_lost(world: World) -> int:
    spool = world.daemon.state_dir / "spool.db"
    with contextlib.closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT value FROM meta WHERE key = 'lost'").fetchone()[0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["spool.db", "spool.db-wal"])
def test_a_damaged_spool_loses_batches_at_most_and_counts_them(
    make_world: Callable[..., World], file: str, kind: str, seed: int
) -> None:
    """Damage in the daemon's database between its SIGKILL and its next start, Redis having nothing of it yet."""
    chance = random.Random(f"{file} {kind} {seed}")
    world = make_world()
    world.redis.kill()
    world.driver.start(CALLS, rate=2000)
    world.driver.wait_calls(CALLS)
    spool = world.daemon.state_dir / "spool.db"
    wait_until(lambda: len(oracle.spooled(spool)) == CALLS, what="all records in the spool")
    if file == "spool.db":
        world.daemon.stop()  # brings everything from the log into the database
    else:
        world.daemon.kill()
    world.driver.stop()
    path = world.daemon.state_dir / file
    damage(path, kind, chance, begin=100, end=path.stat().st_size)
    lost = check_damaged(world, most=CALLS)
    known = _spool_lost(world) + sum(map(quarantined_records, reasons(spool)))
    if kind == "truncate":
        return  # how many there were behind the cut stands nowhere
    assert lost <= 250, f"{lost} records are gone with a few bytes"
    if lost:
        assert known, f"{lost} records are gone and nobody counted"
        assert list(world.daemon.state_dir.glob("spool.db.damaged*")) or reasons(spool), "the damaged bytes are gone"
