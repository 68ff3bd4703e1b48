# SPDX-License-Identifier: MIT
"""Queries between MATCH and their last FETCH: how long, how many and how much memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import NOON, job
from tests.module.test_life import wait_until

MakeRedis = Callable[..., RedisServer]
MIB = 1 << 20


def forgotten(store: Store, query: str) -> None:
    with pytest.raises(redis.ResponseError, match=f"^NOQUERY no query '{query}' is open, send SLURMJC.MATCH first$"):
        store.call("FETCH", query, 1)


def test_one_that_nobody_fetches_from_is_forgotten(make_redis: MakeRedis) -> None:
    short = make_redis("short", module_arguments=["QUERY-LIFETIME", "1"])
    usual = make_redis("usual")
    with short.client() as a, usual.client() as b:
        for client in (a, b):
            store = Store(client)
            store.put(job(1), job(2))
            store.call("MATCH", "mine")
            assert len(store.call("FETCH", "mine", 1)) == 1
            assert store.info()["queries"] == 1
        wait_until(lambda: Store(a).info()["queries"] == 0)
        forgotten(Store(a), "mine")
        assert len(Store(b).call("FETCH", "mine", 1)) == 1


def test_beyond_ten_thousand_the_one_longest_unused_is_forgotten(store: Store) -> None:
    store.put(job(1), job(2), job(3))
    for query in ("first", "second"):
        store.call("MATCH", query)
    assert len(store.call("FETCH", "first", 1)) == 1
    pipe = store.client.pipeline(transaction=False)
    for i in range(9_999):
        pipe.execute_command("SLURMJC.MATCH", "job", f"n{i}")
    pipe.execute()
    assert store.info()["queries"] == 10_000
    forgotten(store, "second")
    assert len(store.call("FETCH", "first", 1)) == 1
    store.call("MATCH", "one more")
    assert store.info()["queries"] == 10_000
    forgotten(store, "n0")


def test_they_take_no_more_than_so_much_memory(store: Store) -> None:
    store.put(*(job(i, NOON + i) for i in range(1, 4)))
    before = int(store.client.info("memory")["used_memory"])
    ids = ",".join(map(str, range(1, 2_000_000, 2)))  # 16 MB as ranges
    for query in range(12):
        assert store.call("MATCH", f"q{query}", "job", ids) == b"job:mat:q%d" % query
        assert int(store.client.info("memory")["used_memory"]) - before < 110 * MIB  # a request is in there as well
    assert 1 < store.info()["queries"] < 5
    forgotten(store, "q0")
    assert len(store.call("FETCH", "q11", 5)) == 2


def test_one_larger_than_that_is_answered(store: Store) -> None:
    store.put(job(1), job(5_000_001))
    store.call("MATCH", "small")
    ids = ",".join(map(str, range(1, 10_000_000, 2)))
    assert store.call("MATCH", "large", "job", ids) == b"job:mat:large"
    assert [row["job_id"] for row in store.fetch("large")] == [1, 5_000_001]
    forgotten(store, "small")
