# SPDX-License-Identifier: MIT
"""Keyspace events: told after a change, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job, pack
from tests.module.test_life import tcp_port, wait_until
from tests.module.test_upstream import job_hash

KEY = f"job:seg:{DAY}"


class Listener:
    """What a client that subscribed hears of segments."""

    def __init__(self, client: Any) -> None:
        client.config_set("notify-keyspace-events", "KA")
        self.pubsub = client.pubsub()
        self.pubsub.psubscribe("__keyspace@0__:*:seg:*")
        assert self.pubsub.get_message(timeout=10)["type"] == "psubscribe"
        self.client = client

    def heard(self) -> list[tuple[str, str]]:
        """Key and event of each since last time."""
        self.client.publish("__keyspace@0__:end:seg:0", "end")
        out: list[tuple[str, str]] = []
        while True:
            message = self.pubsub.get_message(timeout=10)
            assert message is not None
            key, event = message["channel"].decode().split(":", 1)[1], message["data"].decode()
            if event == "end":
                return out
            out.append((key, event))


@pytest.fixture
def listener(make_redis: Callable[..., RedisServer]) -> Iterator[tuple[Store, Listener]]:
    with make_redis().client() as client:
        yield Store(client), Listener(client)


def test_put(listener: tuple[Store, Listener]) -> None:
    store, ear = listener
    store.put(job(1), job(2), job(3, NOON + 86400))
    assert sorted(ear.heard()) == [(KEY, "slurmjc.put"), (f"job:seg:{DAY + 1}", "slurmjc.put")]
    store.put(job(1), job(4, NOON + 86400))
    assert ear.heard() == [(f"job:seg:{DAY + 1}", "slurmjc.put")]
    assert store.put(job(1), job(2)) == 0
    with pytest.raises(redis.ResponseError, match="BADRECORD"):
        store.call("PUT", "RECORDS", pack(job(9)), b"x")
    with pytest.raises(redis.ResponseError, match="OUTOFSEQ"):
        store.call("PUT", "SPOOL", "s", 5, "RECORDS", pack(job(9)))
    assert ear.heard() == []


def test_a_later_report_on_another_day(listener: tuple[Store, Listener]) -> None:
    """It takes the earlier one out; a day that is left empty goes."""
    store, ear = listener
    store.put(job(1))
    ear.heard()
    store.put({**job(1), "end": NOON + 86400})
    heard = ear.heard()
    assert (f"job:seg:{DAY + 1}", "slurmjc.put") in heard
    assert (KEY, "slurmjc.put") in heard
    assert store.client.keys("job:seg:*") == [f"job:seg:{DAY + 1}".encode()]


def test_index(listener: tuple[Store, Listener]) -> None:
    store, ear = listener
    store.client.hset("job:7", mapping=job_hash(7, 0))
    store.call("INDEX", 7)
    assert ear.heard() == [(KEY, "slurmjc.put")]


def test_trim(listener: tuple[Store, Listener]) -> None:
    store, ear = listener
    store.put(job(1), job(2, NOON + 86400), job(3, NOON + 5 * 86400))
    ear.heard()
    assert store.call("TRIM", "BEFORE", (DAY + 2) * 86400) == 2
    assert ear.heard() == [(KEY, "del"), (f"job:seg:{DAY + 1}", "del")]
    assert store.call("TRIM", "BEFORE", (DAY + 2) * 86400) == 0
    assert ear.heard() == []


def test_expiry(listener: tuple[Store, Listener]) -> None:
    store, ear = listener
    store.put(job(1), options=("TTL", 10**9))
    store.client.pexpire(KEY, 1)
    wait_until(lambda: not store.client.exists(KEY))
    assert [event for _, event in ear.heard()] == ["slurmjc.put", "expire", "expired"]


def test_reading_tells_nothing(listener: tuple[Store, Listener]) -> None:
    store, ear = listener
    store.put(job(1))
    ear.heard()
    assert store.ids("user", "alice") == [1]
    store.call("GET", 1)
    store.call("AGG", "BY", "user")
    store.info()
    assert ear.heard() == []


def test_on_a_replica(make_redis: Callable[..., RedisServer]) -> None:
    master = make_redis("master")
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with master.client() as m, replica.client() as r:
        wait_until(lambda: r.info("replication")["master_link_status"] == "up")
        ear = Listener(r)
        Store(m).put(job(1))
        Store(m).call("TRIM", "BEFORE", (DAY + 1) * 86400)
        assert m.wait(1, 10_000) == 1
        assert ear.heard() == [(KEY, "slurmjc.put"), (KEY, "del")]
