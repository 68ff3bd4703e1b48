# SPDX-License-Identifier: MIT
"""The master of a Redis with sentinels dies, hangs or changes while records come in: the new one gets what it lacks."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.world import REDIS_OPTIONS, World
from tests.harness import RedisServer, wait_until
from tests.harness.ports import free_ports
from tests.harness.sentinel import SentinelSite

CALLS = 12_000
RATE = 1000


@pytest.fixture
def site(rundir: Path, stopper: ExitStack) -> SentinelSite:
    site = SentinelSite(rundir / "site", options=REDIS_OPTIONS)
    stopper.callback(site.stop)
    site.start()
    return site


@pytest.fixture
def world(site: SentinelSite, make_world: Callable[..., World]) -> World:
    world = make_world(start=False, redis_address=site.address, settings={"redis": {"reply_s": 1.0}})
    world.redis = site.master()
    world.daemon.start()
    return world


def go_on_with(world: World, site: SentinelSite) -> None:
    """The question whether all is there goes to the master of now."""
    world.redis = site.master()
    world.driver.wait_calls(CALLS)
    world.check()


def test_a_master_that_is_killed(world: World, site: SentinelSite) -> None:
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(2000)
    before = site.master_port()
    site.servers[before].kill()
    site.wait_failover(before)
    site.servers[before].start()  # it comes back as a replica, without what only it had
    go_on_with(world, site)


def test_a_master_that_hangs_and_comes_back(world: World, site: SentinelSite) -> None:
    """It believes to be the master still, for a moment; what went there then is sent again."""
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(2000)
    before = site.master_port()
    site.servers[before].process.send(signal.SIGSTOP)
    site.wait_failover(before)
    site.servers[before].process.send(signal.SIGCONT)
    go_on_with(world, site)


def test_a_master_that_lost_its_replicas_before_it_died(world: World, site: SentinelSite) -> None:
    """The new master has nothing of the last seconds: the daemon sends that again from its spool."""
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(2000)
    before = site.master_port()
    replicas = [server for port, server in site.servers.items() if port != before]
    for server in replicas:
        server.kill()
    wait_until(lambda: world.stored_count() > 5000, what="records that only the master has")
    site.servers[before].kill()
    for server in replicas:
        server.start()
    site.wait_failover(before)
    world.redis = site.master()
    site.servers[before].start()
    go_on_with(world, site)
    assert "sending again" in world.daemon.process.log_text()


def test_a_failover_that_somebody_asked_for(world: World, site: SentinelSite) -> None:
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(2000)
    for _ in range(2):
        before = site.master_port()
        wait_until(site.ask_for_failover, what="the sentinels to take the wish", timeout_s=60, every_s=0.5)
        site.wait_failover(before)
    go_on_with(world, site)


def test_questions_follow_the_master_too(world: World, site: SentinelSite) -> None:
    """sacct -c in check() asks the new master; sentinels that are all away change nothing."""
    world.driver.start(500)
    world.driver.wait_calls(500)
    world.check()
    for process in site.sentinels:
        process.stop()
    world.driver.start(500)
    world.driver.wait_calls(1000)
    world.check()


def test_another_master_while_the_old_one_is_well(
    rundir: Path, stopper: ExitStack, make_world: Callable[..., World]
) -> None:
    """As it is for a daemon that a broken network left with the old master: it must not go on there."""
    site = SentinelSite(rundir / "site", replicas=0, sentinels=1, options=REDIS_OPTIONS)
    stopper.callback(site.stop)
    site.start()
    (old,) = site.servers.values()
    port = free_ports(1)[0]
    other = RedisServer(rundir / "other", options={**REDIS_OPTIONS, "port": port, "bind": "127.0.0.1"})
    stopper.callback(other.stop)
    other.start()
    world = make_world(start=False, redis_address=site.address)
    world.redis = old
    world.daemon.start()
    world.driver.start(500)
    world.driver.wait_calls(500)
    world.check()
    site.watch(port)
    world.redis = other
    world.check()  # sacct -c as well: it is answered by the new one
    assert "the sentinels have another master now" in world.daemon.process.log_text()
