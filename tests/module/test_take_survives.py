# SPDX-License-Identifier: MIT
"""A server that dies in the midst of SLURMJC.TAKE: each job is then in its hash or in a segment, never in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import NOON
from tests.module.test_life import tcp_port, wait_until
from tests.module.test_take import take, write
from tests.module.test_upstream import index, job_hash

JOBS = 6000
APPEND_ONLY = {"appendonly": "yes", "appendfsync": "everysec", "auto-aof-rewrite-percentage": 0}


def written(store: Store) -> None:
    """Hashes of several days, some that expire."""
    write(store, *(job_hash(n, 0, End=str(NOON + n % 9 * 86400), JobName=f"n{n}") for n in range(1, JOBS + 1)))
    with store.client.pipeline(transaction=False) as pipe:
        for number in range(1, JOBS + 1, 3):
            pipe.expire(f"job:{number}", 10**9)
        pipe.execute()


def take_some(store: Store, share: float, between: Callable[[], Any] = lambda: None) -> None:
    """Slices until so much is stored."""
    cursor, stored = b"0", 0
    while stored < share * JOBS:
        cursor, new, *_ = store.call("TAKE", cursor, 10)
        stored += new
        between()
        assert cursor != b"0"


def each_once(store: Store, extra: int = 0) -> None:
    """In a hash or in a segment; and then all in segments. `extra`: jobs that a client has written beside."""
    hashes = [int(key.rpartition(b":")[2]) for key in store.client.keys("job:[0-9]*")]
    every = list(range(1, JOBS + extra + 1))
    assert sorted(hashes + store.ids()) == every
    assert take(store)[:2] == [len(hashes), 0]
    assert sorted(store.ids()) == every


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_killed_it_goes_on_from_the_append_only_file(make_redis: Callable[..., RedisServer], share: float) -> None:
    server = make_redis(options=APPEND_ONLY)
    with server.client() as client:
        written(Store(client))
        take_some(Store(client), share)
    server.kill()
    server.start()
    with server.client() as client:
        each_once(Store(client))


def test_the_append_only_file_is_rewritten_meanwhile(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis(options={**APPEND_ONLY, "aof-use-rdb-preamble": "no"})
    with server.client() as client:
        store = Store(client)
        written(store)
        take_some(store, 0.2)
        client.bgrewriteaof()
        take_some(store, 0.2)
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        take_some(store, 0.2)
        digest = store.digest()
        client.execute_command("DEBUG", "LOADAOF")
        assert store.digest() == digest
        each_once(store)


def test_back_to_an_older_file(make_redis: Callable[..., RedisServer]) -> None:
    """What was taken since then is in its hash again."""
    server = make_redis(options={"save": "3600 1000000"})
    with server.client() as client:
        store = Store(client)
        written(store)
        take_some(store, 0.3)
        client.save()
        left = client.dbsize()
        take_some(store, 0.3)
    server.kill()
    server.start()
    with server.client() as client:
        assert client.dbsize() == left
        each_once(Store(client))


def test_failover(make_redis: Callable[..., RedisServer]) -> None:
    """The new master has some moment of the old one's, with the jobs that an upstream client has ended until then."""
    master = make_redis("master")
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with replica.client() as r, master.client() as m:
        wait_until(lambda: r.info("replication")["master_link_status"] == "up")
        store, live = Store(m), iter(range(JOBS + 1, JOBS * 2))
        written(store)

        def job_ends() -> None:
            number = next(live)
            index(store, number, job_hash(number, 1))

        take_some(store, 0.4, job_ends)
        with pytest.raises(redis.ReadOnlyError):
            Store(r).call("TAKE", 0, 10)
        master.kill()
        r.replicaof("NO", "ONE")
        new = Store(r)
        each_once(new, len(new.ids("job", f"{JOBS + 1}-{JOBS * 2}")))
