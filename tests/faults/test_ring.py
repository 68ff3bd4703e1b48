# SPDX-License-Identifier: MIT
"""The ring and the spill file: a daemon that stays away, a slurmctld that is replaced, disks that fail, a reboot."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import sqlite3
from collections.abc import Callable

import pytest

from tests.faults.driver import hold
from tests.faults.shim import Op, Shim
from tests.faults.world import World
from tests.harness import wait_until


def counters(world: World) -> dict[str, int]:
    """The sums of what all rings have told the daemon, as its spool has them."""
    with contextlib.closing(sqlite3.connect(f"file:{world.daemon.state_dir / 'spool.db'}?mode=ro", uri=True)) as spool:
        row = spool.execute("SELECT sum(attempted), sum(dropped), sum(spilled), sum(watermark) FROM source").fetchone()
    return dict(zip(("attempted", "dropped", "spilled", "watermark"), map(int, row), strict=True))


def test_daemon_away_for_longer_than_the_ring_spills_to_state_save_location(make_world: Callable[..., World]) -> None:
    world = make_world(params="ring_mib=1")
    world.daemon.stop()
    process = world.driver.start(9000, rate=2500)
    assert world.driver.report(process)["failed"] == 0, "the ring was full although it could be spilled"
    assert world.driver.spills(), "nothing was spilled"
    world.check()
    wait_until(lambda: not world.driver.spills(), what="the empty spill file to be removed")
    assert counters(world)["dropped"] == 0


@pytest.mark.faults_fast
def test_a_ring_that_is_full_drops_the_newest_and_counts_each(make_world: Callable[..., World]) -> None:
    """Without spilling: what had room arrives, what had none is counted, and the two add up to the calls."""
    world = make_world(params="ring_mib=1,spill_mib=0")
    world.daemon.stop()
    process = world.driver.start(9000)
    failed = world.driver.report(process)["failed"]
    assert 0 < failed < 9000
    wait_until(lambda: "dropped" in process.log_text() and "JobId" in process.log_text(), what="a line in the log")
    world.revive()
    wait_until(lambda: world.stored_count() == 9000 - failed, what="what was in the ring")
    wait_until(
        lambda: counters(world)["dropped"] == failed, what=lambda: f"{failed} counted as dropped: {counters(world)}"
    )
    assert counters(world)["attempted"] == 9000
    world.check()


@pytest.mark.faults_fast
def test_reconfigure_leaves_two_plugins_alive_for_a_while(make_world: Callable[..., World]) -> None:
    """scontrol reconfigure: the new slurmctld works while the old one still does, which then ends without fini."""
    world = make_world()
    old = world.driver.start(2500, rate=1500, linger_s=0, fini=False)
    world.driver.wait_calls(500)
    world.driver.start(2500, rate=1500)
    assert old.running, "the two did not overlap"
    world.daemon.stop()
    assert old.wait(30) == 0
    world.driver.wait_calls(5000)
    world.revive()
    # by the new process, which adopts the ring: no further one opens it
    wait_until(lambda: world.stored_count() == 5000, what="the old one's records, from the ring it left")
    world.check()


def test_the_daemons_absence_at_reconfigure_loses_nothing(make_world: Callable[..., World]) -> None:
    """_exit with a ring full of records, five times in a row, nobody to send them to."""
    world = make_world()
    world.daemon.stop()
    for _ in range(5):
        assert world.driver.start(300, linger_s=0, fini=False).wait(30) == 0
    world.check()


def test_a_reboot_after_a_clean_stop_loses_nothing(make_world: Callable[..., World]) -> None:
    """fini spills what no daemon took; the tmpfs with the ring is gone afterwards."""
    world = make_world()
    world.daemon.stop()
    assert world.driver.start(3000, linger_s=0).wait(30) == 0
    shutil.rmtree(world.driver.ring_dir)
    world.check()


FAILURES = {"ENOSPC": (errno.ENOSPC, 0), "EIO": (errno.EIO, 0), "short": (errno.ENOSPC, 40)}


@pytest.mark.parametrize("nth", [1, 2], ids=["header", "records"])
@pytest.mark.parametrize(
    ("op", "failure"),
    [(op, failure) for op in (Op.WRITE, Op.SYNC) for failure in FAILURES if (op, failure) != (Op.SYNC, "short")],
)  # a sync has no length
def test_a_spill_disk_that_fails_keeps_records_in_the_ring(
    make_world: Callable[..., World], op: Op, failure: str, nth: int
) -> None:
    """StateSaveLocation takes nothing for a while; meanwhile the ring has room, and then it is spilled."""
    world = make_world(params="ring_mib=2")
    shim = Shim(world.daemon.directory / "shim", ".spill")
    world.driver.env = shim.env
    world.daemon.stop()
    error, part = FAILURES[failure]
    shim.fail(op, error=error, part=part, nth=nth, times=2)
    process = world.driver.start(4500, rate=1500)
    report = world.driver.report(process)
    wait_until(lambda: shim.hits(op) >= 1, what="the disk to fail")
    assert report["failed"] == 0
    world.check()


@pytest.mark.parametrize("op", [Op.WRITE, Op.SYNC, Op.TRUNCATE, Op.UNLINK, Op.OPEN])
def test_slurmctld_killed_at_any_call_on_its_spill_file(make_world: Callable[..., World], op: Op) -> None:
    """Sweep: SIGKILL before and after the Nth call while it spills, and while it sends from the file."""
    world = make_world(params="ring_mib=1")
    shim = Shim(world.daemon.directory / "shim", ".spill")
    world.driver.env = shim.env
    for kill in (1, 2):
        for nth in range(1, 8):
            world.daemon.stop()
            before = shim.hits(op)
            shim.fail(op, error=0, nth=nth, times=1, kill=kill)  # type: ignore[arg-type]
            process = world.driver.start(3000, rate=1500)
            wait_until(
                lambda process=process: not process.running or "{" in process.log_text(), what="the calls to be made"
            )
            world.start_daemon()
            wait_until(lambda process=process: not process.running or not world.driver.spills(), what="all to be sent")
            process.kill()
            if shim.hits(op) == before:
                break
    shim.heal()
    world.check()


def test_a_daemon_that_hangs_for_longer_than_the_ring(make_world: Callable[..., World]) -> None:
    """SIGSTOP: the connection is there and takes bytes, no answer comes; what it swallowed is sent again."""
    world = make_world(params="ring_mib=2")
    world.driver.start(16_000, rate=1500)
    world.driver.wait_calls(500)
    world.daemon.process.send(signal.SIGSTOP)
    hold(8)
    assert world.driver.spills(), "nothing was spilled"
    world.daemon.process.send(signal.SIGCONT)
    world.check()
    assert counters(world)["dropped"] == 0
