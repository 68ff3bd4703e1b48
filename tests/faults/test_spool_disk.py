# SPDX-License-Identifier: MIT
"""The daemon's disk fails in every way at every call: nothing that was acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from pathlib import Path

import pytest

from slurmjcd.spool import spoolfile
from slurmjcd.spool.spoolscan import PAGE_BYTES
from tests.faults import oracle
from tests.faults.feeder import Feeder, feed_until
from tests.faults.shim import Kill, Op, Shim
from tests.harness import Daemon, wait_until
from tests.harness.daemon import accepts

# No Redis answers here: what counts is what is on disk.
NO_REDIS = "unix:/nonexistent/redis.sock"
SWEEP_MAX = 60  # no operation of this daemon makes so many calls of one kind for one batch

# how one call goes wrong: errno, percent written first
FAILURES = {
    "ENOSPC": (errno.ENOSPC, 0),
    "EIO": (errno.EIO, 0),
    "EDQUOT": (errno.EDQUOT, 0),
    "short": (errno.ENOSPC, 40),
}


@pytest.fixture
def shim(rundir: Path) -> Shim:
    return Shim(rundir / "shim", "/spool.db")


@pytest.fixture
def stopped_daemon(rundir: Path, stopper: ExitStack, shim: Shim) -> Daemon:
    """A daemon with a spool and nothing else, not started yet."""
    daemon = Daemon(rundir / "jc", redis_address=NO_REDIS, settings={"daemon": {"roles": ["ingest"]}}, env=shim.env)
    stopper.callback(daemon.stop)
    return daemon


@pytest.fixture
def daemon(stopped_daemon: Daemon) -> Daemon:
    start(stopped_daemon)
    return stopped_daemon


def start(daemon: Daemon) -> None:
    """Start it, and wait until its spool is open (health is served after that)."""
    daemon.process.start()
    daemon.process.wait_ready(daemon.health_socket.exists)
    daemon.process.wait_ready(lambda: accepts(daemon.health_socket))


def check(daemon: Daemon, feeder: Feeder) -> None:
    """All that was promised is in the spool file once; nothing else is but what was sent."""
    verdict = oracle.compare(
        feeder.job_ids(),
        oracle.spooled(daemon.state_dir / "spool.db"),
        possible=feeder.job_ids(feeder.wanted),
    )
    assert verdict.good, verdict


@pytest.mark.parametrize(
    ("op", "failure"),
    [
        pytest.param(op, failure, marks=[pytest.mark.faults_fast] if failure == "ENOSPC" else [])
        for op in (Op.WRITE, Op.SYNC)
        for failure in FAILURES
        if (op, failure) != (Op.SYNC, "short")  # a sync has no length
    ],
)
def test_spool_survives_one_failing_call_wherever_it_comes(daemon: Daemon, shim: Shim, op: Op, failure: str) -> None:
    """Sweep: the Nth call fails, for N from 1 on until a batch goes through untouched."""
    error, part = FAILURES[failure]
    with Feeder(daemon.ingest_socket) as feeder:
        for nth in range(1, SWEEP_MAX):
            before = shim.hits(op)
            shim.fail(op, error=error, nth=nth, times=1, part=part)
            feeder.feed(60)
            feeder.wait_acked()
            if shim.hits(op) == before:
                break
        else:
            pytest.fail(f"call {SWEEP_MAX} was still reached")
        assert nth > 1, "no call was made to fail"
    assert daemon.process.running
    check(daemon, feeder)
    daemon.stop()
    check(daemon, feeder)


@pytest.mark.faults_fast
@pytest.mark.parametrize("op", [Op.WRITE, Op.SYNC])
def test_spool_takes_nothing_while_the_disk_fails_and_goes_on_when_it_is_well(
    daemon: Daemon, shim: Shim, op: Op
) -> None:
    with Feeder(daemon.ingest_socket) as feeder:
        feeder.feed(100)
        feeder.wait_acked()
        for error in (errno.ENOSPC, errno.EIO):
            shim.fail(op, error=error)
            acked, hits = feeder.acked, shim.hits(op)
            feed_until(feeder, lambda hits=hits: shim.hits(op) > hits + 8, what="the disk to fail often")
            assert feeder.acked == acked, "acknowledged what no disk has"
            assert any("TRYAGAIN" in text for text in feeder.errors)
            assert daemon.get("/readyz")[0] == 503
            shim.heal()
            feeder.wait_acked(timeout_s=60)
            wait_until(lambda: daemon.get("/readyz")[0] == 200, what="/readyz to be 200 again")
            check(daemon, feeder)
    assert daemon.process.running
    daemon.kill()
    check(daemon, feeder)


@pytest.mark.parametrize("op", [Op.WRITE, Op.SYNC, Op.TRUNCATE, Op.UNLINK, Op.OPEN])
@pytest.mark.parametrize("kill", [Kill.BEFORE, Kill.AFTER])
def test_daemon_killed_at_any_call_keeps_what_it_acknowledged(
    stopped_daemon: Daemon, shim: Shim, op: Op, kill: Kill
) -> None:
    """Sweep: SIGKILL at the Nth call of start and intake, until a run is not hit any more."""
    daemon = stopped_daemon
    with Feeder(daemon.ingest_socket) as feeder:
        for nth in range(1, SWEEP_MAX):
            shim.fail(op, error=0, nth=nth, times=1, kill=kill)
            before = shim.hits(op)
            daemon.process.start()
            feeder.feed(30)
            wait_until(
                lambda before=before: shim.hits(op) > before or feeder.acked >= feeder.wanted,
                what="the daemon to be killed or to have taken all",
                timeout_s=60,
            )
            killed = shim.hits(op) > before
            shim.heal()
            if killed:
                assert daemon.process.wait() == -9
                continue
            daemon.kill()
            if op is not Op.SYNC and op is not Op.WRITE:
                break
            if nth > 25:  # they go on with every batch; this is well past the start
                break
        start(daemon)
        feeder.wait_acked()
        check(daemon, feeder)


@pytest.mark.parametrize("op", [Op.WRITE, Op.SYNC, Op.RENAME, Op.UNLINK, Op.OPEN])
@pytest.mark.parametrize("kill", [Kill.BEFORE, Kill.AFTER])
def test_daemon_killed_while_it_salvages(stopped_daemon: Daemon, shim: Shim, rundir: Path, op: Op, kill: Kill) -> None:
    """Sweep: SIGKILL at the Nth call of a start on a damaged spool; in the end the same is saved as without."""
    daemon, spool = stopped_daemon, stopped_daemon.state_dir / "spool.db"
    start(daemon)
    with Feeder(daemon.ingest_socket) as feeder:
        feeder.feed(3000)
        feeder.wait_acked()
    assert daemon.stop() == 0
    content = bytearray(spool.read_bytes())
    for place in (0.3, 0.7):
        at = int(len(content) * place) // PAGE_BYTES * PAGE_BYTES
        content[at : at + PAGE_BYTES] = b"\xa5" * PAGE_BYTES
    spool.write_bytes(content)
    copy = rundir / "copy.db"
    copy.write_bytes(content)
    spoolfile.open_file(copy)[0].close()
    expected = sorted(oracle.spooled(copy))
    assert 0 < len(expected) < 3000
    for nth in range(1, SWEEP_MAX):
        shim.fail(op, error=0, nth=nth, times=1, kill=kill)
        before = shim.hits(op)
        daemon.process.start()
        wait_until(
            lambda before=before: not daemon.process.running or accepts(daemon.health_socket),
            what="the daemon to be killed or to serve",
        )
        shim.heal()
        if shim.hits(op) == before:
            break
        assert daemon.process.wait() == -9
    else:
        start(daemon)
    daemon.kill()
    assert sorted(oracle.spooled(spool)) == expected


def test_slow_fsync_makes_batches_grow_and_never_stops_the_loop(daemon: Daemon, shim: Shim) -> None:
    with Feeder(daemon.ingest_socket) as feeder:
        shim.fail(Op.SYNC, error=0, delay_s=0.5)
        feeder.feed(2000)
        wait_until(lambda: shim.hits(Op.SYNC) > 0, what="a slow fsync")
        while feeder.acked < feeder.wanted:
            assert daemon.get("/healthz")[0] == 200
        assert shim.hits(Op.SYNC) < 2000 / 50, "one fsync for each request: batches did not grow"
    check(daemon, feeder)
