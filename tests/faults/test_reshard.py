# SPDX-License-Identifier: MIT
"""slurmjc reshard on a cluster beside live records, killed and run again: each job is in the new shards once."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.store.shards import layout_key, shard_prefixes
from tests.faults.cluster_world import OPTIONS, ClusterWorld
from tests.faults.world import REDIS_OPTIONS
from tests.harness import RedisServer, wait_until
from tests.harness.cluster import ClusterSite, slot_of
from tests.harness.paths import program
from tests.slurmjcd.resharding.store import Shards, some_jobs

CALLS = 30_000
RATE = 1000
KEY = layout_key(b"job").decode()


@pytest.fixture
def site(rundir: Path, stopper: ExitStack) -> ClusterSite:
    site = ClusterSite(rundir / "site", options=OPTIONS)
    stopper.callback(site.stop)
    site.start()
    return site


@pytest.fixture
def world(rundir: Path, stopper: ExitStack, site: ClusterSite) -> ClusterWorld:
    world = ClusterWorld(rundir, stopper, site, shards=3)
    world.daemon.start()
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(6000)
    return world


def reshard(world: ClusterWorld, *words: str) -> subprocess.Popen[str]:
    argv = [program("slurmjc"), "reshard", "--config", str(world.daemon.conf), *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def layout(site: ClusterSite) -> str:
    return str(site.ask(site.owner_of(KEY), "GET", KEY))


def go_on_with(world: ClusterWorld, shards: int) -> None:
    """The daemon with the new number; the rest of the calls goes there."""
    world.daemon.stop()
    world.configure(shards=shards)
    world.prefixes = [name.decode() for name in shard_prefixes(b"job", shards)]
    world.start_daemon()
    world.driver.wait_calls(CALLS)
    world.check()


def test_killed_again_and_again_beside_live_records(world: ClusterWorld, site: ClusterSite) -> None:
    new = [name.decode() for name in shard_prefixes(b"job", 6)]
    for reached in (
        lambda: world.stored_in(new[0]) > 0,
        lambda: sum(map(world.stored_in, new)) > 3000,
        lambda: layout(site) == "3>6",
    ):
        process = reshard(world, "--to", "6")
        wait_until(lambda reached=reached, p=process: reached() or p.poll() is not None, what="a moment to kill it")
        process.kill()
        said, _ = process.communicate()
        assert process.returncode == -9, said
    # who has been told to hold does so although nobody moves anything
    wait_until(lambda: "jobs are being moved from 3 shards to 6" in world.daemon.process.log_text(), what="it holds")
    process = reshard(world, "--to", "6")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert layout(site) == "6"
    wait_until(lambda: "set redis.shards = 6" in world.daemon.process.log_text(), what="the daemon to say so")
    go_on_with(world, 6)
    process = reshard(world, "--drop-old")
    said, _ = process.communicate(timeout=120)
    assert said.startswith("dropped "), said
    assert sum(world.stored_in(name.decode()) for name in shard_prefixes(b"job", 3)) == 0
    world.check()


def test_a_master_dies_and_a_slot_moves_meanwhile(world: ClusterWorld, site: ClusterSite) -> None:
    process = reshard(world, "--to", "6", "--wait", "120")
    new = [name.decode() for name in shard_prefixes(b"job", 6)]
    wait_until(lambda: world.stored_in(new[0]) > 0, what="the first copies")
    slot = slot_of(new[0])
    master = site.owner(slot)
    site.kill(master)
    site.wait_failover(slot, master)
    site.nodes[master].start()
    site.wait_ok()
    site.move_prefix(new[5], site.owner(slot_of(new[2])), pause_s=0.5)
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    go_on_with(world, 6)


def test_it_is_given_up_beside_live_records(world: ClusterWorld, site: ClusterSite) -> None:
    process = reshard(world, "--to", "6")
    wait_until(lambda: layout(site) == "3>6" or process.poll() is not None, what="it holds", timeout_s=60)
    process.kill()
    process.communicate()
    process = reshard(world, "--to", "3")
    said, _ = process.communicate(timeout=60)
    assert said.startswith("given up: slurmjcd goes on with 3 shards"), said
    world.driver.wait_calls(CALLS)
    world.check()


def test_one_server_becomes_a_cluster(rundir: Path, stopper: ExitStack) -> None:
    """As docs/scale.md has it: first shards, then the same server as a node, then the others."""
    single = RedisServer(rundir / "site" / "node0", options=REDIS_OPTIONS)
    stopper.callback(single.stop)
    single.start()
    site = ClusterSite(rundir / "site", replicas=False, options=OPTIONS)
    stopper.callback(site.stop)
    world = ClusterWorld(rundir, stopper, site, shards=6, settings={"address": single.address, "shards": 1})
    world.daemon.start()
    world.driver.start(CALLS, rate=RATE)
    world.driver.wait_calls(3000)
    said, _ = reshard(world, "--to", "6").communicate(timeout=120)
    assert "set redis.shards = 6" in said, said
    world.daemon.stop()
    world.configure(shards=6)
    world.start_daemon()
    said, _ = reshard(world, "--drop-old").communicate(timeout=120)
    assert said.startswith("dropped "), said
    single.stop()
    for node in site.nodes:
        node.start()
    site.learn_ids()
    first, *others = (f"127.0.0.1:{port}" for port in site.ports)
    site.cli("fix", first, answer="yes\n")
    for known, other in enumerate(others, 2):
        wait_until(lambda: site.all_agree(0), what="the nodes to agree")
        site.cli("add-node", other, first)
        wait_until(lambda n=known: site.know_each_other(range(n)), what="all to know the new node")
    wait_until(lambda: site.all_agree(0), what="the nodes to agree")
    site.cli("rebalance", first, "--cluster-use-empty-masters")
    site.wait_ok()
    assert {site.owner_of(prefix) for prefix in world.prefixes} == {0, 1, 2}
    world.daemon.stop()
    world.configure(address=site.address)
    world.start_daemon()
    world.driver.wait_calls(CALLS)
    world.check()
    assert "sending again" not in world.daemon.process.log_text()


def test_one_shard_of_a_cluster_becomes_three_and_one_again(site: ClusterSite, tmp_path: Path) -> None:
    """One has a hash tag in its prefix, three have none there: slurmjc says what the setting has to be."""

    def asked(command: str, key: str | bytes, *words: Any) -> Any:
        name = key if isinstance(key, str) else key.decode()
        with site.client(site.owner(slot_of(name))) as client:
            return client.execute_command(command, key, *words)

    one = Shards(asked, tmp_path / "slurmjcd.toml", {"address": site.address, "prefix": "{job}"}, prefix="{job}")
    want = some_jobs(2000)
    one.configure()
    one.put(1, want)
    assert one.reshard("--to", 3)["settings"] == {"shards": 3, "prefix": "job"}
    assert one.layout() == b"3"  # a daemon with the old prefix sees it too
    three = Shards(asked, one.conf, {"address": site.address, "prefix": "job", "shards": 3})
    three.configure()
    assert three.jobs(3) == sorted(want)
    assert three.layout() == b"3"
    assert three.reshard("--to", 1, "--drop-old")["settings"] == {"shards": 1, "prefix": "{job}"}
    assert one.jobs(1) == sorted(want)
    assert three.count(3) == 0
    assert one.layout() in (None, b"1")
