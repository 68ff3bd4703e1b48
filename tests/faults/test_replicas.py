# SPDX-License-Identifier: MIT
"""Questions answered by a replica, as long as it keeps up; by another, or the master, when it doesn't."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults import sacct
from tests.faults.world import REDIS_OPTIONS, World
from tests.harness import RedisServer, wait_until
from tests.harness.sentinel import SentinelSite

CALLS = 1000


@pytest.fixture
def site(rundir: Path, stopper: ExitStack) -> SentinelSite:
    options = {**REDIS_OPTIONS, "repl-ping-replica-period": 1, "repl-timeout": 600}
    site = SentinelSite(rundir / "site", options=options, down_after_ms=600_000)  # nobody fails over by itself
    stopper.callback(site.stop)
    site.start()
    return site


@pytest.fixture
def world(site: SentinelSite, make_world: Callable[..., World]) -> World:
    settings = {"redis": {"read_from": "replica", "replica_lag_s": 10.0, "reply_s": 2.0}}
    world = make_world(start=False, redis_address=site.address, settings=settings)
    world.redis = site.master()
    world.daemon.start()
    world.driver.start(CALLS)
    world.driver.wait_calls(CALLS)
    world.check()
    return world


def matches(server: RedisServer) -> int:
    """How many MATCHes a server has answered."""
    with server.client() as client:
        stats = client.info("commandstats")
    return int(stats.get("cmdstat_slurmjc.match", {}).get("calls", 0))


def listed(world: World) -> int:
    jobs = sacct.job_ids(world.directory / "sacct", world.daemon.run_dir, cluster=world.driver.cluster)
    return sum(jobs.values())


def asked(site: SentinelSite, world: World) -> RedisServer:
    """The server that answers a question now."""
    ports: list[int] = []
    while len(ports) != 1:  # one whose answer didn't count has answered as well
        before = {port: matches(server) for port, server in site.servers.items() if server.process.running}
        assert listed(world) == CALLS + 1  # check() adds one
        ports = [port for port, count in before.items() if matches(site.servers[port]) > count]
    return site.servers[ports[0]]


def test_a_replica_answers_and_the_master_is_left_alone(world: World, site: SentinelSite) -> None:
    assert asked(site, world) is not site.master()


def test_another_answers_for_a_replica_that_is_gone_and_the_master_for_all(world: World, site: SentinelSite) -> None:
    first = asked(site, world)
    first.kill()
    second = asked(site, world)
    assert second not in (first, site.master())
    second.kill()
    assert asked(site, world) is site.master()


def test_a_replica_that_lost_its_master_is_not_asked(world: World, site: SentinelSite) -> None:
    """Its link is down, so nobody knows what it lacks."""
    first = asked(site, world)
    with first.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        wait_until(lambda: client.info("replication")["master_link_status"] == "down", what="the link to be down")
    second = wait_until(lambda: (now := asked(site, world)) is not first and now, what="another to be asked")
    assert second is not first


def test_a_replica_whose_master_is_silent_for_too_long_is_not_asked(world: World, site: SentinelSite) -> None:
    """The master stands still and the link with it; when it goes on, everybody is asked again."""
    master = site.master()
    first = asked(site, world)
    master.process.send(signal.SIGSTOP)
    with first.client() as client:
        wait_until(
            lambda: int(client.info("replication")["master_last_io_seconds_ago"]) > 11, what="silence", timeout_s=40
        )
    with pytest.raises(subprocess.CalledProcessError):
        listed(world)
    master.process.send(signal.SIGCONT)
    wait_until(lambda: listed(world) == CALLS + 1, what="an answer")
