# SPDX-License-Identifier: MIT
"""Power is lost at any moment: what was acknowledged is on disk, because nothing is acknowledged before its fsync.

A traced daemon takes records; from the trace, disks are made as a power failure may leave them: everything synced is
there, of what was written since the last sync any part may be missing, torn in the middle too.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from slurmjcd import protocol
from slurmjcd.spool import spoolfile
from tests.faults import oracle
from tests.faults.feeder import Feeder
from tests.faults.shim import Entry, Op, Shim
from tests.faults.test_spool_disk import NO_REDIS, start
from tests.harness import Daemon, wait_until

BATCHES = 60
RECORDS = 10  # in each
SECTOR = 512


@pytest.fixture
def traced(rundir: Path, stopper: ExitStack) -> tuple[list[Entry], Path]:
    """What a daemon did on its disk and on its sockets while it took one batch after the other."""
    shim = Shim(rundir / "shim", "/spool.db", traced=True)
    daemon = Daemon(rundir / "jc", redis_address=NO_REDIS, settings={"daemon": {"roles": ["ingest"]}}, env=shim.env)
    stopper.callback(daemon.stop)
    start(daemon)
    with Feeder(daemon.ingest_socket) as feeder:
        for number in range(1, BATCHES + 1):
            feeder.feed(RECORDS)
            wait_until(lambda number=number: feeder.acked == number * RECORDS, what="a batch's answer", every_s=0.001)
    daemon.kill()
    return list(shim.entries()), daemon.state_dir


def acknowledged(entries: Iterable[Entry]) -> int:
    """How many records had been acknowledged: each batch has its own connection, which is sent two answers."""
    sends = sum(1 for entry in entries if entry.op == "N" and entry.result > 0)
    return sends // 2 * RECORDS


@pytest.mark.faults_fast
def test_no_answer_leaves_before_the_fsync_that_covers_it(traced: tuple[list[Entry], Path]) -> None:
    """P6, from the trace: at each send nothing of the write-ahead log is unsynced."""
    entries, _ = traced
    unsynced = sends = 0
    for entry in entries:
        if entry.op == "W" and entry.path.endswith("-wal"):
            unsynced += 1
        elif entry.op == "S" and entry.path.endswith("-wal") and entry.result == 0:
            unsynced = 0
        elif entry.op == "N":
            sends += 1
            assert unsynced == 0, f"an answer was sent while {unsynced} writes were not synced"
    assert sends == 2 * BATCHES, "the trace lacks answers"


def disk_after(entries: list[Entry], chance: random.Random) -> dict[str, bytearray]:
    """Files as they may be when power fails behind these calls."""
    synced: dict[str, bytearray] = {}
    pending: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.op == "S" and entry.result < 0:
            pending.pop(entry.path, None)  # its pages are clean now, yet never reached the disk
        if entry.result < 0:
            continue
        if entry.op == "R":
            to = entry.data.decode()
            synced[to], pending[to] = synced.pop(entry.path, bytearray()), pending.pop(entry.path, [])
        elif entry.op == "U":
            synced.pop(entry.path, None)
            pending.pop(entry.path, None)
        elif entry.op == "S":
            apply(synced.setdefault(entry.path, bytearray()), pending.pop(entry.path, []))
        elif entry.op in "WT":
            pending.setdefault(entry.path, []).append(entry)
    for path, writes in pending.items():
        survivors = [write for write in writes if chance.random() < 0.5]
        chance.shuffle(survivors)
        apply(synced.setdefault(path, bytearray()), survivors, torn=chance)
    return synced


def apply(file: bytearray, writes: list[Entry], *, torn: random.Random | None = None) -> None:
    for write in writes:
        if write.op == "T":
            del file[write.offset :]
            file.extend(bytes(max(0, write.offset - len(file))))
            continue
        data = write.data
        if torn is not None and torn.random() < 0.5:
            data = data[: torn.randrange(0, len(data) // SECTOR + 1) * SECTOR]
        at = write.offset if write.offset >= 0 else len(file)
        file.extend(bytes(max(0, at + len(data) - len(file))))
        file[at : at + len(data)] = data


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.faults_fast), *range(1, 8)])
def test_what_was_acknowledged_survives_power_loss_at_any_call(
    traced: tuple[list[Entry], Path], rundir: Path, seed: int
) -> None:
    """Recovered ⊇ acknowledged, ⊆ sent, without a hole."""
    entries, _ = traced
    chance = random.Random(seed)
    made = next(number for number, entry in enumerate(entries) if entry.op == "R")
    for trial in range(60):
        cut = chance.randrange(made, len(entries) + 1)
        directory = rundir / f"disk{trial}"
        directory.mkdir()
        for path, data in disk_after(entries[:cut], chance).items():
            if not path.endswith("-shm"):
                (directory / Path(path).name).write_bytes(data)
        spool = directory / "spool.db"
        if not spool.exists() and acknowledged(entries[:cut]) == 0:
            continue
        database, _ = spoolfile.open_file(spool)
        rows = database.execute("SELECT first, count, frames FROM batch ORDER BY first").fetchall()
        watermark = database.execute("SELECT coalesce(max(watermark), 0) FROM source").fetchone()[0]
        database.close()
        found = [frame for _, _, frames in rows for frame in protocol.split_frames(frames)]
        verdict = oracle.compare(range(1, len(found) + 1), found)
        assert verdict.good, f"trial {trial}, cut {cut}: {verdict}"
        assert len(found) >= acknowledged(entries[:cut]), f"trial {trial}: acknowledged records are gone"
        assert watermark == len(found), "the source's watermark and its records disagree"
        for file in directory.iterdir():
            file.unlink()


@pytest.mark.parametrize("nth", [pytest.param(2, marks=pytest.mark.faults_fast), 3, 5])
def test_a_failed_fsync_is_not_tried_again_but_written_anew(rundir: Path, stopper: ExitStack, nth: int) -> None:
    """After it every page it covered counts as clean: only writing them again brings them to the disk."""
    shim = Shim(rundir / "shim", "/spool.db", traced=True)
    daemon = Daemon(rundir / "jc", redis_address=NO_REDIS, settings={"daemon": {"roles": ["ingest"]}}, env=shim.env)
    stopper.callback(daemon.stop)
    start(daemon)
    with Feeder(daemon.ingest_socket) as feeder:
        feeder.feed(RECORDS)
        feeder.wait_acked()
        shim.fail(Op.SYNC, nth=nth, times=2)
        for _ in range(10):
            feeder.feed(RECORDS)
            feeder.wait_acked()
        entries = list(shim.entries())
    assert any(entry.op == "S" and entry.result < 0 for entry in entries), "no sync failed"
    daemon.kill()
    spool = rundir / "spool.db"
    for path, data in disk_after(entries, random.Random(nth)).items():
        if not path.endswith("-shm"):
            (rundir / Path(path).name).write_bytes(data)
    database, _ = spoolfile.open_file(spool)
    database.close()
    verdict = oracle.compare(feeder.job_ids(), oracle.spooled(spool))
    assert verdict.good, verdict
