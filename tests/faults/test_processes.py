# SPDX-License-Identifier: MIT
"""SIGKILL and SIGSTOP of each program, alone and together, while records come in: nothing lost, nothing twice."""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.driver import hold
from tests.faults.shim import Shim
from tests.faults.world import World
from tests.harness import wait_until

RATE = 3000
NAMES = ("driver", "daemon", "redis")
SETS = [names for size in (1, 2, 3) for names in itertools.combinations(NAMES, size)]


@pytest.mark.faults_fast
def test_without_a_fault_every_record_arrives(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.driver.start(2000)
    world.driver.wait_calls(2000)
    world.check()


@pytest.mark.parametrize(
    "names",
    [pytest.param(names, marks=pytest.mark.faults_fast) if len(names) == 3 else names for names in SETS],
    ids="+".join,
)
def test_killed_under_load(make_world: Callable[..., World], names: tuple[str, ...]) -> None:
    """SIGKILL of these at the same moment: whoever comes back goes on without a loss."""
    world = make_world()
    world.driver.start(2000, rate=RATE)
    world.driver.wait_calls(300)
    for name in names:
        world.processes[name].send(signal.SIGKILL)
    for name in names:
        world.processes[name].wait()
    if "driver" not in names:
        world.driver.wait_calls(1000)
    world.revive()
    if "driver" in names:
        world.driver.start(700, rate=RATE)
        world.driver.wait_calls(world.driver.calls + 100)
    world.check()


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_stopped_under_load_for_longer_than_every_timeout(
    make_world: Callable[..., World], names: tuple[str, ...]
) -> None:
    """SIGSTOP, then SIGCONT: connections are given up and made again meanwhile."""
    world = make_world()
    world.driver.start(9000, rate=1000)
    world.driver.wait_calls(300)
    for name in names:
        world.processes[name].send(signal.SIGSTOP)
    hold(8)
    if "driver" not in names:
        assert world.driver.calls > 4000, "the hook waited"
    for name in names:
        world.processes[name].send(signal.SIGCONT)
    world.driver.wait_calls(world.driver.calls + 500)
    world.check()


def test_daemon_killed_again_and_again(make_world: Callable[..., World]) -> None:
    """A new daemon dies whenever it has taken something, 15 times."""
    world = make_world()
    world.driver.start(200_000, rate=1000)  # more than there is time for
    for _ in range(15):
        before = world.stored_count()
        wait_until(lambda before=before: world.stored_count() > before, what="records to arrive")
        world.daemon.kill()
        world.start_daemon()
    world.driver.process.kill()
    world.check()


@pytest.mark.parametrize("seed", range(3))
def test_slurmctld_killed_at_random_moments(make_world: Callable[..., World], seed: int) -> None:
    """SIGKILL after a random number of microseconds of calls at full speed, 15 times a seed."""
    chance = random.Random(seed)
    world = make_world()
    for _ in range(15):
        process = world.driver.start(3000)
        wanted = world.driver.calls + chance.randrange(1, 400)
        world.driver.wait_calls(wanted)
        hold(chance.random() / 1000)
        process.kill()
    world.check()


@pytest.mark.faults_fast
def test_redis_stopped_acks_go_on(make_world: Callable[..., World]) -> None:
    """The spool takes what Redis can't: the driver's ring is empty again although Redis stands still."""
    world = make_world()
    world.redis.process.send(signal.SIGSTOP)
    world.driver.start(3000)
    world.driver.wait_calls(3000)
    wait_until(
        lambda: b'"backlog_records": 3000' in world.daemon.get("/readyz")[1].encode(),
        what=lambda: f"3000 records in the spool: {world.daemon.get('/readyz')}",
    )
    world.check()


def test_daemon_upgraded_under_load(make_world: Callable[..., World]) -> None:
    """SIGTERM and a new process on the same spool, five times: each ends by itself, with status 0."""
    world = make_world()
    world.driver.start(4000, rate=1000)
    for number in range(1, 6):
        world.driver.wait_calls(300 * number)
        assert world.daemon.stop() == 0
        world.start_daemon()
    world.check()


def test_daemon_asked_to_end_while_it_starts(make_world: Callable[..., World]) -> None:
    """SIGTERM after 0 to 900 ms of a start: before Python knows of signals it ends by it, later with status 0."""
    world = make_world()
    world.driver.start(4000, rate=1000)
    for tenth in range(10):
        assert world.daemon.stop() == 0
        world.daemon.process.start()
        hold(tenth / 10)
        world.daemon.process.send(signal.SIGTERM)
        assert world.daemon.process.wait() in (0, -signal.SIGTERM)
        world.start_daemon()
    world.check()


@pytest.mark.parametrize("years", [10, -10])
def test_wall_clock_jumps_by_years(make_world: Callable[..., World], rundir: Path, years: int) -> None:
    """Of slurmctld, daemon and Redis: no timer, no order and no retention of the spool hangs on it."""
    shim = Shim(rundir / "shim", "nothing")
    world = make_world(daemon_env=shim.env, settings={"spool": {"replay_s": 3600}})
    world.driver.env = world.redis.process.env = shim.env
    world.driver.start(3000, rate=1500)
    world.driver.wait_calls(300)
    shim.move_clock(years * 365 * 86_400)
    world.driver.wait_calls(1000)
    assert world.daemon.stop() == 0  # which trims the spool
    world.start_daemon()
    shim.move_clock(0)
    with world.redis.client() as client:
        client.flushall()  # what was spooled before the jump must still be there to be sent again
    world.check()
