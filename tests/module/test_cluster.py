# SPDX-License-Identifier: MIT
"""The module on a real cluster: a prefix without hash tag, slots that move, a replica that takes over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.harness.cluster import ClusterSite, slot_of
from tests.harness.rundir import run_dir
from tests.module.records import DAY, NOON, Job, identity, job, pack, unpack

DAYS = 5
JOBS = 1500


@pytest.fixture(scope="module")
def site() -> Iterator[ClusterSite]:
    with run_dir() as directory:
        site = ClusterSite(Path(directory) / "site")
        try:
            site.start()
            yield site
        finally:
            site.stop()


def jobs() -> list[Job]:
    return [
        job(1 + n, end=NOON + 86400 * (n % DAYS) + n, user=f"u{n % 7}", name=f"n{n}", extra={"comment": f"c{n}"})
        for n in range(JOBS)
    ]


def everything(site: ClusterSite, prefix: str) -> list[Job]:
    """All jobs of a prefix, in the order of the answer."""
    if site.call(prefix, "MATCH", "q") is None:
        return []
    rows: list[Job] = []
    while page := site.call(prefix, "FETCH", "q", 400, "RECORDS"):
        rows += map(unpack, page)
    return rows


def digests(site: ClusterSite, prefix: str) -> dict[int, Any]:
    """The digest of each segment, by its day."""
    keys = {day: f"{prefix}:seg:{day}" for day in range(DAY, DAY + DAYS)}
    with site.client(site.owner_of(prefix)) as client:
        return {day: client.execute_command("DEBUG", "DIGEST-VALUE", key)[0] for day, key in keys.items()}


def test_a_prefix_without_hash_tag_is_refused(site: ClusterSite) -> None:
    with site.client(site.owner_of("job")) as client:
        for words in (("PUT", "job", "RECORDS", pack(job(1))), ("MATCH", "job", "q"), ("AGG", "job", "BY", "user")):
            with pytest.raises(redis.ResponseError, match=r"needs a hash tag in cluster mode, such as '\{job\}'"):
                client.execute_command(f"SLURMJC.{words[0]}", *words[1:])
        assert client.execute_command("DBSIZE") == 0


def test_a_node_without_the_slot_says_who_has_it(site: ClusterSite) -> None:
    prefix = "{moved}"
    there = site.owner_of(prefix)
    with site.client((there + 1) % site.masters) as client, pytest.raises(redis.exceptions.MovedError) as caught:
        client.execute_command("SLURMJC.PUT", prefix, "RECORDS", pack(job(1)))
    assert caught.value.port == site.ports[there]
    assert caught.value.slot_id == slot_of(prefix)


def test_segments_move_with_their_slot(site: ClusterSite) -> None:
    """MIGRATE is DUMP and RESTORE of our own type: each job arrives, and so does the spool's watermark."""
    prefix, want = "{move}", jobs()
    site.call(prefix, "PUT", "TTL", 10**9, "SPOOL", "a", 1, "RECORDS", *map(pack, want))
    before, rows = digests(site, prefix), everything(site, prefix)
    assert sorted(map(identity, rows)) == sorted(map(identity, want))
    assert len(set(before.values())) == DAYS
    old = site.owner_of(prefix)
    new = (old + 1) % site.masters
    site.move_prefix(prefix, new)
    site.wait_ok()
    assert site.owner_of(prefix) == new
    assert digests(site, prefix) == before
    assert everything(site, prefix) == rows
    with site.client(new) as client:
        assert 0 < client.ttl(f"{prefix}:seg:{DAY}") <= 10**9
    # the watermark came along: what the spool sends again is known, a gap is one
    assert site.call(prefix, "PUT", "SPOOL", "a", 1, "RECORDS", *map(pack, want)) == 0
    with pytest.raises(redis.ResponseError, match=f"OUTOFSEQ {JOBS + 1}"):
        site.call(prefix, "PUT", "SPOOL", "a", JOBS + 9, "RECORDS", pack(job(9999)))


def test_a_slot_between_two_masters(site: ClusterSite) -> None:
    """The command's declared key, the prefix, exists nowhere: the old master sends everyone on, ASK, from the start.

    Whoever follows such a reply makes a second segment at the new master, which then has no room for the old one.
    """
    prefix = "{between}"
    slot = slot_of(prefix)
    site.call(prefix, "PUT", "RECORDS", *map(pack, jobs()))
    old = site.owner(slot)
    new = (old + 1) % site.masters
    site.begin_move(slot, new)
    try:
        with site.client(old) as client:
            for words in (("MATCH", prefix, "q"), ("PUT", prefix, "RECORDS", pack(job(10**6)))):
                with pytest.raises(redis.exceptions.AskError):
                    client.execute_command(f"SLURMJC.{words[0]}", *words[1:])
        with site.client(new) as client, pytest.raises(redis.exceptions.MovedError):
            client.execute_command("SLURMJC.MATCH", prefix, "q")
        assert site.move_keys(slot, new, at_most=2) == 2
        while site.move_keys(slot, new):
            pass
    finally:
        site.end_move(slot, new)
    site.wait_ok()
    assert sorted(map(identity, everything(site, prefix))) == sorted(map(identity, jobs()))


def test_redis_cli_moves_slots_too(site: ClusterSite) -> None:
    prefix = "{cli}"
    site.call(prefix, "PUT", "RECORDS", *map(pack, jobs()))
    rows = everything(site, prefix)
    source = site.owner_of(prefix)
    to = (source + 1) % site.masters
    site.reshard(20, source=source, to=to)
    site.wait_ok()
    assert everything(site, prefix) == rows


def test_a_replica_takes_over(site: ClusterSite) -> None:
    """What a master has acknowledged with WAIT is there when it is killed."""
    prefix = "{fail}"
    site.wait_ok()  # a replica that has not heard yet of a slot that came would not take it over
    owner = site.owner_of(prefix)
    with site.client(owner) as client:
        client.execute_command("SLURMJC.PUT", prefix, "RECORDS", *map(pack, jobs()))
        assert client.execute_command("WAIT", 1, 10_000) == 1
    rows = everything(site, prefix)
    assert len(rows) == JOBS
    (replica,) = site.replicas_of(owner)
    site.kill(owner)
    assert site.wait_failover(slot_of(prefix), owner) == replica
    assert everything(site, prefix) == rows
    site.nodes[owner].start()
    site.wait_ok()
    assert site.replicas_of(replica) == [owner]
    site.fail_over(owner)
    site.wait_ok()
    assert site.owner_of(prefix) == owner
    assert everything(site, prefix) == rows
