# SPDX-License-Identifier: MIT
"""A replica that somebody set up without the module, watched by sentinels: what it costs, and what is said."""

from __future__ import annotations

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
SAID = "lacks the module: add 'loadmodule /usr/lib/redis/modules/slurm_jobcomp.so' to its configuration and restart it"
MakeWorld = Callable[..., World]


@pytest.fixture
def site(rundir: Path, stopper: ExitStack) -> SentinelSite:
    """One replica, set up before there was any job: later its copy of the data would end it."""
    site = SentinelSite(rundir / "site", replicas=1, bare=1, options=REDIS_OPTIONS)
    stopper.callback(site.stop)
    site.start()
    return site


def world_on(site: SentinelSite, make_world: MakeWorld, **redis: object) -> World:
    world = make_world(start=False, redis_address=site.address, settings={"redis": {"reply_s": 1.0, **redis}})
    world.redis = site.master()
    world.daemon.start()
    world.driver.start(CALLS)
    world.driver.wait_calls(CALLS)
    return world


def test_questions_go_to_the_master_instead(site: SentinelSite, make_world: MakeWorld) -> None:
    world = world_on(site, make_world, read_from="replica")
    world.check()
    with site.master().client() as client:
        assert client.info("commandstats")["cmdstat_slurmjc.match"]["calls"] > 0


def test_a_failover_to_it_stops_all_until_it_has_the_module_and_nothing_is_lost(
    site: SentinelSite, make_world: MakeWorld
) -> None:
    """It counts as a replica that has it all, and has nothing: the daemon holds, says so, and sends all again."""
    world = world_on(site, make_world)
    world.check()
    before = site.master_port()
    site.servers[before].kill()
    after = site.wait_failover(before)
    world.driver.start(CALLS)
    wait_until(lambda: SAID in world.daemon.process.log_text(), what="the daemon to say what is wrong")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        sacct.job_ids(world.directory / "sacct", world.daemon.run_dir, cluster=world.driver.cluster)
    assert (failed.value.returncode, failed.value.stdout) == (1, "")
    assert SAID in failed.value.stderr
    bare = site.servers[after]
    bare.stop()
    bare = RedisServer(bare.directory, options={**REDIS_OPTIONS, "port": after, "bind": "127.0.0.1"})
    site.servers[after] = bare
    bare.start()
    world.redis = bare
    world.driver.wait_calls(2 * CALLS + 1)
    world.check()
    assert "sending again" in world.daemon.process.log_text()


def test_one_that_comes_later_ends_before_it_could_be_chosen(
    rundir: Path, stopper: ExitStack, make_world: MakeWorld
) -> None:
    """The data it gets from the master has keys of a type that it doesn't know."""
    site = SentinelSite(rundir / "site", replicas=0, sentinels=1, options=REDIS_OPTIONS)
    stopper.callback(site.stop)
    site.start()
    world = world_on(site, make_world)
    world.check()
    late = RedisServer(rundir / "late", module=None, options={"replicaof": f"127.0.0.1 {site.master_port()}"})
    late.process.start()
    assert late.process.wait() >= 0  # by itself
    assert "slurmjseg" in late.process.log_text()
    world.check()
