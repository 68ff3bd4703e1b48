# SPDX-License-Identifier: MIT
"""`sacct -c` from a cluster's replicas, while slots move and masters change: all jobs, or an error."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from slurmjcd.store.shards import slot_of
from tests.faults import sacct
from tests.faults.cluster_world import OPTIONS, ClusterWorld
from tests.harness import wait_until
from tests.harness.cluster import ClusterSite

CALLS = 1200
SHARDS = 3
MASTERS, REPLICAS = [0, 1, 2], [3, 4, 5]


@pytest.fixture
def read_from() -> str:
    return "replica"


@pytest.fixture
def world(rundir: Path, stopper: ExitStack, read_from: str) -> ClusterWorld:
    site = ClusterSite(rundir / "site", options={**OPTIONS, "repl-ping-replica-period": 1})
    stopper.callback(site.stop)
    site.start()
    world = ClusterWorld(rundir, stopper, site, shards=SHARDS, settings={"read_from": read_from})
    world.daemon.start()
    world.driver.start(CALLS)
    world.driver.wait_calls(CALLS)
    world.check()
    answering = REPLICAS if read_from == "replica" else MASTERS
    wait_until(lambda: asked(world) == answering, what="these to be asked", timeout_s=60)
    return world


def listed(world: ClusterWorld) -> int | None:
    """How many jobs `sacct -c` lists; None when it fails, which must list nothing."""
    try:
        jobs = sacct.job_ids(world.directory / "sacct", world.daemon.run_dir, cluster=world.driver.cluster)
    except subprocess.CalledProcessError as exc:
        return len(exc.output) or None
    return sum(jobs.values())


def whole_or_none(world: ClusterWorld) -> bool:
    count = listed(world)
    assert count in (None, CALLS + 1)  # check() adds one
    return count is not None


def asked(world: ClusterWorld) -> list[int]:
    """The nodes that answer a question now; none when it fails."""
    site = world.site
    up = [number for number, node in enumerate(site.nodes) if node.process.running]
    before = {number: matches(site, number) for number in up}
    return [number for number in up if matches(site, number) > before[number]] if whole_or_none(world) else []


def matches(site: ClusterSite, number: int) -> int:
    with site.client(number) as client:
        return int(client.info("commandstats").get("cmdstat_slurmjc.match", {}).get("calls", 0))


def while_it_goes_on(world: ClusterWorld, work: Callable[[], object]) -> int:
    """Ask again and again until `work` is done; how often there was an answer."""
    thread, answers = threading.Thread(target=work), 0
    thread.start()
    while thread.is_alive():
        answers += whole_or_none(world)
    thread.join()
    return answers


def test_slots_move_while_replicas_are_asked(world: ClusterWorld) -> None:
    site = world.site

    def work() -> None:
        for _ in range(2):
            for prefix in world.prefixes:
                site.move_prefix(prefix, (site.owner_of(prefix) + 1) % 3, pause_s=0.2)

    while_it_goes_on(world, work)
    wait_until(lambda: asked(world) == REPLICAS, what="the replicas to be asked again", timeout_s=60)


def test_masters_change_while_replicas_are_asked(world: ClusterWorld) -> None:
    """One on request, one by its death; its replica, now the master, answers until it has one again."""
    site = world.site
    assert while_it_goes_on(world, lambda: site.fail_over(3))
    slot = slot_of(world.prefixes[1].encode())
    site.kill(1)
    while_it_goes_on(world, lambda: site.wait_failover(slot, 1))
    wait_until(lambda: 4 in asked(world), what="the new master to be asked", timeout_s=60)
    site.nodes[1].start()
    site.wait_ok()
    wait_until(lambda: asked(world) == [0, 1, 5], what="the old masters to be asked", timeout_s=60)


@pytest.mark.parametrize("read_from", ["replica", "master"])
def test_a_new_master_that_lacks_jobs_gets_them_before_anything_is_listed(world: ClusterWorld, read_from: str) -> None:
    """Questions find it before the records do, since these are all stored and nothing is sent."""
    site = world.site
    slot = slot_of(world.prefixes[1].encode())
    site.kill(4)
    world.driver.start(CALLS)
    world.driver.wait_calls(2 * CALLS + 1)
    wait_until(lambda: world.stored_count() == 2 * CALLS + 1, what="all to be stored", timeout_s=60)
    site.kill(1)
    site.nodes[4].start()
    site.wait_failover(slot, 1)
    counts: list[int] = []

    def all_listed() -> bool:
        counts.extend(count for count in [listed(world)] if count is not None)
        return bool(counts)

    wait_until(all_listed, what="something to be listed", timeout_s=60)
    assert counts == [2 * CALLS + 1]
    site.nodes[1].start()
    site.wait_ok()
    node = 1 if read_from == "replica" else 4
    wait_until(lambda: node in asked_all(world, 2 * CALLS + 1), what="it to be asked", timeout_s=60)


def asked_all(world: ClusterWorld, jobs: int) -> list[int]:
    before = {number: matches(world.site, number) for number in range(6)}
    assert listed(world) in (None, jobs)
    return [number for number in range(6) if matches(world.site, number) > before[number]]
