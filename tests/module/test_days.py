# SPDX-License-Identifier: MIT
"""What the mover of days into files relies on: one day goes, only if nobody has changed it; runs by when they began."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job
from tests.module.test_life import MakeRedis, tcp_port, wait_until


def stamps(store: Store) -> dict[int, bytes]:
    return {row[0]: row[4] for row in store.info("SEGMENTS")["segment_sizes"]}


def test_one_day_goes_alone(store: Store) -> None:
    store.put(*(job(number, NOON + number * 86400) for number in range(1, 4)))
    assert store.call("TRIM", "DAY", DAY + 2) == 1
    assert store.ids() == [1, 3]
    assert store.call("TRIM", "DAY", DAY + 2) == 0
    assert store.call("TRIM", "DAY", DAY + 2, "IF", "gone") == 0


def test_a_day_that_changed_stays(store: Store) -> None:
    store.put(job(1), job(2), job(3, NOON + 86400))
    seen = stamps(store)
    assert stamps(store) == seen
    changes: list[Any] = [
        lambda: store.put(job(4)),  # a late one
        lambda: store.put(job(4, NOON, name="other")),  # replaced
        lambda: store.put(job(1, NOON + 7, submit=NOON - 600, start=NOON - 500)),  # moved inside the day
        lambda: store.put(job(2, NOON + 86400, submit=NOON - 600, start=NOON - 500)),  # moved to the next
    ]
    for change in changes:
        change()
        now = stamps(store)
        assert now[DAY] != seen[DAY]
        assert store.call("TRIM", "DAY", DAY, "IF", seen[DAY]) is None
        seen = now
    before = store.ids()
    assert store.call("TRIM", "DAY", DAY, "IF", seen[DAY]) == 2
    assert store.ids() == [number for number in before if number in (2, 3)]


def test_what_changes_no_record_changes_no_stamp(store: Store) -> None:
    store.put(job(1), job(2))
    seen = stamps(store)
    store.put(job(1))
    store.put(job(1, NOON - 5, submit=NOON - 600, start=NOON - 500))  # an earlier report
    store.find()
    assert stamps(store) == seen
    other = Store(store.client, "other")
    other.put(job(1), job(2))
    assert stamps(other)[DAY] != seen[DAY]


def test_a_replica_drops_the_same_day(make_redis: MakeRedis) -> None:
    """What it gets has no stamp: its segments have others."""
    master = make_redis("master")
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with master.client() as m, replica.client() as r:
        store = Store(m)
        store.put(*(job(number, NOON + number * 86400) for number in range(1, 4)))
        wait_until(lambda: r.info("replication")["master_link_status"] == "up")
        store.call("TRIM", "DAY", DAY + 2, "IF", stamps(store)[DAY + 2])
        assert m.wait(1, 10000) == 1
        assert Store(r).ids() == store.ids() == [1, 3]
        with pytest.raises(redis.ReadOnlyError):
            Store(r).call("TRIM", "DAY", DAY + 1)


@pytest.mark.parametrize(
    "words", [("DAY", "x"), ("DAY", -1), ("DAY", 1, "WHEN", "s"), ("BEFORE", 1, "IF", "s"), ("DAY", 10**9)]
)
def test_wrong_words(store: Store, words: tuple[Any, ...]) -> None:
    store.put(job(1))
    with pytest.raises(redis.ResponseError, match=r"^syntax: SLURMJC.TRIM prefix BEFORE epoch-seconds or DAY d"):
        store.call("TRIM", *words)
    assert store.ids() == [1]


def test_runs_that_began_before(store: Store) -> None:
    store.put(job(1, submit=NOON - 90, start=0), job(2, submit=NOON - 90, start=NOON - 50), job(3, submit=NOON - 40))
    assert store.ids("begun_before", NOON - 40) == [1, 2]
    assert store.ids("begun_before", NOON - 50) == [1]
    assert store.ids("begun_before", NOON - 90) == []
    for value in ("0", "x", ""):
        with pytest.raises(redis.ResponseError, match="criterion 'begun_before' wants one time"):
            store.call("MATCH", "q", "begun_before", value)
    with pytest.raises(redis.ResponseError, match="criterion 'begun_before' wants one time"):
        store.call("MATCH", "q", "begun_before", 5, "begun_before", 6)
