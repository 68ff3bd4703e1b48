# SPDX-License-Identifier: MIT
"""A cluster whose masters die and hang and whose slots move, while records come in: each is there once in the end."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.store.shards import layout_key, slot_of
from tests.faults import sacct
from tests.faults.cluster_world import OPTIONS, ClusterWorld, MakeClusterWorld
from tests.harness import wait_until
from tests.harness.cluster import ClusterSite

CALLS = 12_000
RATE = 1000
SHARDS = 6

MakeSite = Callable[..., ClusterSite]


@pytest.fixture
def make_site(rundir: Path, stopper: ExitStack) -> MakeSite:
    def make(*, start: bool = True, options: dict[str, str | int] | None = None, **kwargs: bool) -> ClusterSite:
        site = ClusterSite(rundir / "site", options={**OPTIONS, **(options or {})}, **kwargs)
        stopper.callback(site.stop)
        if start:
            site.start()
        return site

    return make


@pytest.fixture
def make_world(rundir: Path, stopper: ExitStack) -> MakeClusterWorld:
    def make(site: ClusterSite, *, start: bool = True, shards: int = SHARDS, **kwargs: object) -> ClusterWorld:
        world = ClusterWorld(rundir, stopper, site, shards=shards, **kwargs)  # type: ignore[arg-type]
        if start:
            world.daemon.start()
        return world

    return make


@pytest.fixture
def site(make_site: MakeSite) -> ClusterSite:
    return make_site()


@pytest.fixture
def world(site: ClusterSite, make_world: MakeClusterWorld) -> ClusterWorld:
    """One that records are coming into."""
    world = make_world(site)
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(2000)
    return world


def shards_of(world: ClusterWorld, node: int) -> list[int]:
    """The shards that a node has."""
    return [number for number, prefix in enumerate(world.prefixes) if world.site.owner_of(prefix) == node]


def wait_for_shards(world: ClusterWorld, shards: list[int]) -> None:
    """Until each of these has its part of all that was promised."""
    ids = Counter(job_id % len(world.prefixes) for job_id in world.driver.promised())
    wait_until(
        lambda: [world.stored_in(world.prefixes[shard]) for shard in shards] == [ids[shard] for shard in shards],
        what=f"all of shards {shards}",
        timeout_s=60,
    )


def redis_of(world: ClusterWorld) -> dict[str, Any]:
    """What /readyz says of the store."""
    told: dict[str, Any] = json.loads(world.daemon.get("/readyz")[1])["components"]["redis"]
    return told


def why_no_list(world: ClusterWorld) -> str:
    """What `sacct -c` says, which must not list anything."""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        sacct.job_ids(world.directory / "sacct", world.daemon.run_dir, cluster=world.driver.cluster)
    assert not failed.value.output
    return str(failed.value.stderr)


def go_on_with(world: ClusterWorld, calls: int = CALLS) -> None:
    world.site.wait_ok()
    world.driver.wait_calls(calls)
    world.check()


@pytest.mark.faults_fast
def test_a_shard_that_moves_while_records_come_in(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    """To another master and back, its slot being between the two for a moment each time."""
    site = make_site(replicas=False)
    world = make_world(site, shards=3)
    world.driver.start(1500, rate=500)
    world.driver.wait_calls(200)
    prefix = world.prefixes[1]
    home = site.owner_of(prefix)
    for target in ((home + 1) % 3, home):
        site.move_prefix(prefix, target, pause_s=0.5)
    go_on_with(world, 1500)
    log = world.daemon.process.log_text()
    assert "sending again" not in log
    assert "lost" not in log


def test_a_master_that_is_killed(site: ClusterSite, world: ClusterWorld) -> None:
    slot = slot_of(world.prefixes[2].encode())
    before = site.owner(slot)
    site.kill(before)
    site.wait_failover(slot, before)
    site.nodes[before].start()  # it comes back as a replica, without what only it had
    go_on_with(world)


def test_a_master_that_hangs_and_comes_back(site: ClusterSite, world: ClusterWorld) -> None:
    """It believes to be the master still, for a moment; what went there then is sent again."""
    slot = slot_of(world.prefixes[2].encode())
    before = site.owner(slot)
    site.pause(before)
    site.wait_failover(slot, before)
    site.resume(before)
    go_on_with(world)


def test_a_master_that_lost_its_replica_before_it_died(site: ClusterSite, world: ClusterWorld) -> None:
    """The new master lacks the last seconds of its shards: these get them again, the others don't."""
    slot = slot_of(world.prefixes[2].encode())
    before = site.owner(slot)
    mine = shards_of(world, before)
    (replica,) = site.replicas_of(before)
    site.kill(replica)
    wait_until(lambda: world.stored_count() > 6000, what="records that only the master has")
    site.kill(before)
    site.nodes[replica].start()
    site.wait_failover(slot, before)
    site.nodes[before].start()
    go_on_with(world)
    log = world.daemon.process.log_text()
    for shard in range(SHARDS):
        assert (f"shard {shard} of {SHARDS}: Redis went back" in log) == (shard in mine)


def test_a_failover_that_somebody_asked_for(site: ClusterSite, world: ClusterWorld) -> None:
    for _ in range(2):
        owner = site.owner_of(world.prefixes[0])
        # he who was the master until now needs a moment to be a replica
        (replica,) = wait_until(partial(site.replicas_of, owner), what="a replica of the new master")
        site.fail_over(replica)
    go_on_with(world)


def test_slots_that_are_resharded_again_and_again(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    """Each shard's slot goes round all masters, days upon days of jobs with it."""
    site = make_site()
    world = make_world(site)
    world.fill(days=60)
    world.driver.start(CALLS, rate=RATE // 2)
    world.driver.wait_calls(1000)
    rounds = 0
    while world.driver.calls < CALLS or rounds < 2:
        for prefix in world.prefixes:
            site.move_prefix(prefix, (site.owner_of(prefix) + 1) % 3, pause_s=0.05)
        rounds += 1
    go_on_with(world)


def test_the_administrators_reshard(site: ClusterSite, world: ClusterWorld) -> None:
    """`redis-cli --cluster reshard` of 1500 slots, whichever it picks, there and back."""
    site.reshard(1500, source=0, to=1)
    site.wait_ok()
    site.reshard(1500, source=1, to=0)
    go_on_with(world)


def test_a_master_that_dies_while_a_slot_is_on_its_way(site: ClusterSite, world: ClusterWorld) -> None:
    slot = slot_of(world.prefixes[3].encode())
    source = site.owner(slot)
    target = (source + 1) % 3
    site.begin_move(slot, target)
    site.move_keys(slot, target, at_most=1)
    site.kill(source)
    now = site.wait_failover(slot, source)
    site.nodes[source].start()
    # as an administrator would: the new master doesn't know of it, the target believes nobody while it imports
    for number in (now, target):
        site.ask(number, "CLUSTER", "SETSLOT", slot, "STABLE")
    site.wait_ok()
    site.begin_move(slot, target)
    # the new master took records of a day whose segment had gone: one of the two goes, and all is sent again
    while site.move_keys(slot, target, replace=True):
        pass
    site.end_move(slot, target)
    site.ask(target, "DEL", f"{world.prefixes[3]}:spools")
    go_on_with(world)


def test_a_shard_that_is_away_while_the_others_go_on(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    """Its part waits in the spool; a question says which part is missing."""
    site = make_site(replicas=False)
    world = make_world(site, shards=3)
    world.driver.start(600)
    world.driver.wait_calls(600)
    world.check()
    layout = site.owner_of(layout_key(b"job").decode())
    away = next(shard for shard in range(3) if site.owner_of(world.prefixes[shard]) != layout)
    site.kill(site.owner_of(world.prefixes[away]))
    world.driver.start(3000)
    world.driver.wait_calls(3601)
    wait_for_shards(world, [shard for shard in range(3) if shard != away])
    told = redis_of(world)
    assert [shard["ok"] for shard in told["shards"]] == [number != away for number in range(3)]
    assert f"shard {away} of 3 (job ids with id % 3 = {away})" in told["status"]
    assert f"shard {away} of 3" in why_no_list(world)
    go_on_with_all(world, 3601)


def go_on_with_all(world: ClusterWorld, calls: int) -> None:
    world.revive()
    go_on_with(world, calls)


def test_half_a_cluster_that_is_down_at_the_start(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    """The daemon starts, takes records, and ships to the shards that are there."""
    site = make_site()
    world = make_world(site, start=False)
    layout = site.owner_of(layout_key(b"job").decode())
    down = (layout + 1) % 3
    mine = shards_of(world, down)
    (replica,) = site.replicas_of(down)
    (other,) = site.replicas_of(layout)
    for number in (replica, down, other):
        site.kill(number)
    world.start_daemon()
    world.driver.start(1200)
    world.driver.wait_calls(1200)
    wait_for_shards(world, [shard for shard in range(SHARDS) if shard not in mine])
    go_on_with_all(world, 1200)


def test_no_node_that_the_address_names_is_up_at_the_start(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    site = make_site(replicas=False)
    world = make_world(site, start=False, shards=3)
    for number in range(3):
        site.kill(number)
    world.start_daemon()
    world.driver.start(300)
    world.driver.wait_calls(300)
    wait_until(lambda: "no node of the cluster says" in world.daemon.process.log_text(), what="the reason")
    go_on_with_all(world, 300)


def test_another_number_of_shards_than_jobs_lie_in(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    site = make_site(replicas=False)
    world = make_world(site, shards=3)
    world.driver.start(300)
    world.driver.wait_calls(300)
    world.check()
    world.daemon.stop()
    world.configure(shards=6)
    world.start_daemon()
    fix = "lie in 3 shards, redis.shards is 6: set redis.shards = 3, or with that move the jobs: slurmjc reshard --to 6"
    wait_until(lambda: fix in world.daemon.process.log_text(), what="the refusal")
    world.driver.start(300)
    world.driver.wait_calls(601)
    assert "redis.shards is 6" in why_no_list(world)
    world.daemon.stop()
    world.configure(shards=3)
    world.start_daemon()
    go_on_with(world, 601)


def test_one_shard_with_a_hash_tag(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    site = make_site()
    world = make_world(site, shards=1, prefix="{job}")
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(2000)
    slot = slot_of(b"{job}")
    before = site.owner(slot)
    site.kill(before)
    site.wait_failover(slot, before)
    site.nodes[before].start()
    go_on_with(world)


def test_a_replica_without_the_module_that_becomes_the_master(
    make_site: MakeSite, make_world: MakeClusterWorld
) -> None:
    """It has none of the jobs. With the module it gets them all again, out of the spool."""
    site = make_site()
    slot = slot_of(b"{job-0-3.2}")
    before = site.owner(slot)
    (replica,) = site.replicas_of(before)
    node = site.nodes[replica]
    with_module = node.process.argv
    node.stop()
    node.process.argv = with_module[: with_module.index("--loadmodule")]
    node.start()
    site.wait_ok()
    world = make_world(site, shards=3)
    world.driver.start(3000, rate=RATE)
    world.driver.wait_calls(3000)
    site.kill(before)
    site.wait_failover(slot, before)
    wait_until(lambda: "lacks the module" in world.daemon.process.log_text(), what="the reason", timeout_s=60)
    node.stop()
    node.process.argv = with_module
    node.start()
    go_on_with_all(world, 3000)


def test_durability_is_waited_for_in_each_shard(make_site: MakeSite, make_world: MakeClusterWorld) -> None:
    """With `replicas` a master without its replica holds its own shards' part, nobody else's."""
    site = make_site()
    world = make_world(site, settings={"durability": "replicas"})
    world.driver.start(600)
    world.driver.wait_calls(600)
    world.check()
    (replica,) = site.replicas_of(site.owner_of(world.prefixes[0]))
    mine = shards_of(world, site.owner_of(world.prefixes[0]))
    site.kill(replica)
    world.driver.start(600)
    world.driver.wait_calls(1201)

    def waiting() -> list[int]:
        return [number for number, shard in enumerate(redis_of(world)["shards"]) if shard["backlog_records"]]

    wait_until(lambda: waiting() == mine, what=lambda: f"shards {mine} to wait, not {waiting()}")
    go_on_with_all(world, 1201)


def test_two_masters_change_at_once_while_a_slot_moves(site: ClusterSite, world: ClusterWorld) -> None:
    replicas = [site.replicas_of(number)[0] for number in (0, 1)]
    threads = [threading.Thread(target=site.fail_over, args=(replica,)) for replica in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    site.wait_ok()
    prefix = world.prefixes[5]
    target = next(number for number in range(6) if site.is_master(number) and number != site.owner_of(prefix))
    site.move_prefix(prefix, target, pause_s=0.2)
    go_on_with(world)
