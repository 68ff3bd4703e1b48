# SPDX-License-Identifier: MIT
"""SLURMJC.TAKE, slice by slice, and INDEX beside it: a hash becomes a record and goes with one effect."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job
from tests.module.test_life import tcp_port, wait_until
from tests.module.test_upstream import job_hash


def write(store: Store, *hashes: dict[str, str]) -> None:
    """As upstream's own module has left them: with an index."""
    with store.client.pipeline(transaction=False) as pipe:
        for fields in hashes:
            pipe.hset(f"{store.prefix}:{fields['JobID']}", mapping=fields)
            pipe.sadd(f"{store.prefix}:idx:end:{DAY}", fields["JobID"])
        pipe.execute()


def take(store: Store, *options: Any, count: int = 100) -> list[Any]:
    """All slices: [stored, known, early, index sets, {key: why}]."""
    refused: dict[str, str] = {}
    cursor, sums = b"0", [0, 0, 0, 0]
    while True:
        cursor, *numbers, bad = store.call("TAKE", cursor, count, *options)
        sums = [a + b for a, b in zip(sums, numbers, strict=True)]
        refused |= {key.decode(): why.decode() for key, why in zip(bad[::2], bad[1::2], strict=True)}
        if cursor == b"0":
            return [*sums, refused]


def test_hashes_become_records_and_go(store: Store) -> None:
    write(store, *(job_hash(number, number % 2) for number in range(1, 1001)))
    assert take(store, "INDEXES") == [1000, 0, 0, 1, {}]
    assert store.ids() == list(range(1, 1001))
    assert store.client.keys("*") == [f"job:seg:{DAY}".encode()]
    assert take(store) == [0, 0, 0, 0, {}]


def test_a_slice_is_as_small_as_it_is_asked_for(store: Store) -> None:
    write(store, *(job_hash(number, 0) for number in range(1, 501)))
    cursor, stored, *_ = store.call("TAKE", 0, 10)
    assert cursor != b"0"
    assert stored <= 30
    assert len(store.client.keys("job:[0-9]*")) == 500 - stored


def test_a_slice_ends_by_the_clock_as_well(store: Store) -> None:
    """Redis answers nobody else meanwhile, however many keys were asked for."""
    write(store, *(job_hash(number, 0, End=str(NOON + 86400 * (number % 300))) for number in range(1, 8001)))
    cursor, stored, *_ = store.call("TAKE", 0, 10_000)
    assert cursor != b"0"
    assert 0 < stored < 8000
    assert take(store, count=10_000)[0] == 8000 - stored
    assert store.ids("job", "1-8000") == sorted(range(1, 8001), key=lambda number: (number % 300, number))


def test_it_runs_in_transactions_and_scripts(store: Store) -> None:
    write(store, *(job_hash(number, number % 2) for number in range(1, 11)))
    assert store.client.eval("return redis.call('SLURMJC.TAKE', 'job', 0, 3)[2] >= 0", 1, "job") == 1
    with store.client.pipeline(transaction=True) as pipe:
        pipe.execute_command("SLURMJC.TAKE", "job", 0, 10_000)
        pipe.execute_command("SLURMJC.MATCH", "job", "q")
        assert pipe.execute()[1] == b"job:mat:q"
    take(store)
    assert store.ids() == list(range(1, 11))


def test_without_indexes_the_sets_stay_and_are_counted(store: Store) -> None:
    write(store, job_hash(1, 0))
    assert take(store) == [1, 0, 0, 1, {}]
    assert store.client.smembers(f"job:idx:end:{DAY}") == {b"1"}


def test_a_dry_run_changes_nothing(store: Store) -> None:
    write(store, job_hash(1, 0), job_hash(2, 0, State="x"))
    before = store.digest()
    assert take(store, "DRYRUN", "INDEXES", "CLUSTER", "c9") == [
        1, 0, 0, 1, {"job:2": "State is no state of a job"},
    ]  # fmt: skip
    assert store.digest() == before


def test_what_is_no_job_is_left_alone_and_named(store: Store) -> None:
    write(store, job_hash(1, 0))
    store.client.hset("job:2", "colour", "green")
    store.client.hset("job:3", mapping=job_hash(4, 0))
    store.client.hset("job:4", mapping=job_hash(4, 0, _tmf="2"))
    store.client.hset("job:99999999999", mapping=job_hash(5, 0))
    store.client.set("job:5", "x")
    store.client.hset("job:people", "a", "b")
    store.client.hset("jobs:6", mapping=job_hash(6, 0))
    store.client.hset("jo:6", mapping=job_hash(6, 0))
    left = set(store.client.keys("*")) - {b"job:1", f"job:idx:end:{DAY}".encode()}
    stored, _, _, _, refused = take(store)
    assert stored == 1
    assert refused == {
        "job:2": "the hash lacks JobID, UID or GID",
        "job:3": "JobID is another than the key's name says",
        "job:4": "_tmf is neither 0 nor 1",
        "job:99999999999": "JobID is another than the key's name says",
    }
    assert left <= set(store.client.keys("*"))


def test_a_prefix_is_taken_word_for_word(store: Store) -> None:
    odd = Store(store.client, "a[b]*c-\\d")
    for prefix in (odd.prefix, "ab1c-\\d"):
        store.client.hset(f"{prefix}:1", mapping=job_hash(1, 0))
    assert take(odd)[0] == 1
    assert store.client.exists("ab1c-\\d:1")


def test_a_hash_without_cluster_gets_the_one_that_is_said_from_then_on(store: Store) -> None:
    nameless = [{name: value for name, value in job_hash(n, 0).items() if name != "Cluster"} for n in (1, 2, 3)]
    write(store, nameless[0], job_hash(4, 0, Cluster="own"))
    assert take(store, "CLUSTER", "c9")[0] == 2
    write(store, nameless[1], nameless[2])
    store.call("INDEX", 2)
    assert take(store)[0] == 1
    assert {row["job_id"]: row["cluster"] for row in store.find()} == {1: "c9", 2: "c9", 3: "c9", 4: "own"}


def test_what_was_stored_before_is_known_and_its_hash_goes(store: Store) -> None:
    write(store, job_hash(1, 0), job_hash(2, 1))
    store.call("INDEX", 1)
    write(store, job_hash(1, 1))  # the same run, in the other time format
    assert take(store) == [1, 1, 0, 1, {}]
    assert store.ids() == [1, 2]


def test_times_to_live(store: Store) -> None:
    """A row's is the hash's; TTL is for hashes that have none."""
    now = int(time.time())
    write(store, *(job_hash(n, 0, Start=str(now - 9), End=str(now - n * 86400)) for n in range(1, 4)))
    store.client.expire("job:1", 10 * 86400)
    take(store, "TTL", 5 * 86400)
    midnight = now // 86400 * 86400
    assert store.client.expiretime(f"job:seg:{now // 86400 - 1}") - midnight in range(11 * 86400, 11 * 86400 + 3)
    assert store.client.expiretime(f"job:seg:{now // 86400 - 2}") == midnight - 86400 + 5 * 86400


def test_jobs_that_ended_too_early_stay_as_they_are(store: Store) -> None:
    write(store, job_hash(1, 0), job_hash(2, 0, End=str(NOON - 1)))
    assert take(store, "SINCE", NOON) == [1, 0, 1, 1, {}]
    assert store.client.exists("job:2")


def test_a_hash_that_goes_by_itself_is_taken_however_long_ago_its_job_ended(store: Store) -> None:
    write(store, job_hash(1, 0), job_hash(2, 0))
    store.client.expire("job:1", 10**9)
    assert take(store, "TTL", 60, "SINCE", NOON + 1)[:3] == [1, 0, 1]
    assert store.ids() == [1]
    assert store.client.exists("job:2")


def test_no_event_is_made_of_a_job_that_ended_long_ago(store: Store) -> None:
    store.put(job(9), options=("EVENTS", 0, 1))
    write(store, job_hash(1, 0))
    take(store)
    assert store.client.xlen("job:events") == 1


def test_it_makes_room_where_there_is_none(store: Store) -> None:
    write(store, *(job_hash(number, 0) for number in range(1, 200)))
    store.client.config_set("maxmemory", 1)
    try:
        assert take(store)[0] == 199
    finally:
        store.client.config_set("maxmemory", 0)


def test_a_replica_and_the_append_only_file_come_to_the_same(make_redis: Callable[..., RedisServer]) -> None:
    options = {"appendonly": "yes", "appendfsync": "always", "aof-use-rdb-preamble": "no"}
    master = make_redis("master", options=options)
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with master.client() as m, replica.client() as r:
        wait_until(lambda: r.info("replication")["master_link_status"] == "up")
        store = Store(m)
        write(
            store,
            *(
                job_hash(n, n % 2, End=str(NOON + n * 700) if n % 2 == 0 else "2022-01-08T00:00:00Z")
                for n in range(1, 400)
            ),
        )
        for number in range(1, 400, 7):
            m.expire(f"job:{number}", 10**9 + number)
        write(store, job_hash(500, 0, State="x"))
        store.call("INDEX", 3)
        take(store, "CLUSTER", "c9", "TTL", 10**9, "INDEXES", count=50)
        assert m.wait(1, 10_000) == 1
        digest, rows = store.digest(), store.find()
        assert len(rows) == 399
        assert Store(r).digest() == digest
        assert Store(r).find() == rows
        m.execute_command("DEBUG", "LOADAOF")
        assert store.digest() == digest
        assert store.find() == rows


@pytest.mark.parametrize("name", ["INDEX", "TAKE"])
def test_who_watches_a_hash_is_told(store: Store, name: str) -> None:
    write(store, job_hash(1, 0))
    with store.client.pipeline() as pipe:
        pipe.watch("job:1")
        store.call(*(("INDEX", 1) if name == "INDEX" else ("TAKE", 0, 10)))
        pipe.multi()
        pipe.ping()
        with pytest.raises(redis.WatchError):
            pipe.execute()
