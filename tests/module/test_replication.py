# SPDX-License-Identifier: MIT
"""INFO … REPLICATION: what tells whether a replica has all that its master has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import RedisServer, run_dir, wait_until
from tests.harness.ports import free_ports
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job


@pytest.fixture
def servers() -> Iterator[list[RedisServer]]:
    """Two that can reach each other."""
    with run_dir() as directory:
        servers = [
            RedisServer(Path(directory) / str(port), options={"port": port, "repl-ping-replica-period": 1})
            for port in free_ports(2)
        ]
        for server in servers:
            server.start()
        yield servers
        for server in servers:
            server.stop()


@pytest.fixture
def stores(servers: list[RedisServer]) -> Iterator[list[Store]]:
    with ExitStack() as stack:
        yield [Store(stack.enter_context(server.client())) for server in servers]


def port_of(store: Store) -> int:
    return int(store.client.config_get("port")["port"])


def gone(store: Store) -> int:
    return int(store.info("REPLICATION")["segments_gone"])


def fill(store: Store) -> None:
    store.put(*(job(1 + day, end=NOON + 86_400 * day) for day in range(4)))


def test_each_segment_that_leaves_is_counted(stores: list[Store]) -> None:
    store, other = stores
    fill(store)
    before = gone(store)
    store.client.delete(f"job:seg:{DAY}")
    assert gone(store) == before + 1
    store.client.unlink(f"job:seg:{DAY + 1}")
    assert gone(store) == before + 2
    dump = store.client.dump(f"job:seg:{DAY + 2}")
    store.client.restore(f"job:seg:{DAY + 2}", 0, dump, replace=True)
    assert gone(store) == before + 3
    # as a slot that moves takes it, there and back
    store.client.execute_command("MIGRATE", "127.0.0.1", port_of(other), f"job:seg:{DAY + 3}", 0, 5000)
    assert other.ids() == [4]
    assert gone(store) == before + 4
    other.client.execute_command("MIGRATE", "127.0.0.1", port_of(store), f"job:seg:{DAY + 3}", 0, 5000)
    assert store.ids() == [3, 4]
    assert gone(store) == before + 4


def test_what_is_dropped_on_purpose_or_over_is_not_counted(store: Store) -> None:
    fill(store)
    now = int(time.time())
    before, expired = gone(store), store.client.info("stats")["expired_keys"]
    store.call("TRIM", "DAY", DAY)
    store.call("TRIM", "BEFORE", NOON + 86_400 * 10)
    assert store.info()["jobs"] == 0
    store.put(job(1, end=now - 3 * 86_400), options=("TTL", 86_400 * 2))
    wait_until(lambda: store.client.info("stats")["expired_keys"] > expired, what="a segment to expire")
    assert gone(store) == before


def test_a_run_whose_later_report_lies_in_another_segment_is_not_counted(store: Store) -> None:
    before = gone(store)
    for end in (NOON, NOON + 86_400):
        store.put(job(1, submit=NOON - 90, eligible=NOON - 90, start=NOON - 60, end=end))
    assert store.info()["segments"] == 1
    assert gone(store) == before


def test_a_replica_says_how_far_it_has_come(stores: list[Store]) -> None:
    master, replica = stores
    fill(master)
    flushes = replica.info("REPLICATION")["flushes"]
    replica.client.replicaof("127.0.0.1", port_of(master))

    def caught_up() -> bool:
        wanted, told = master.info("REPLICATION"), replica.info("REPLICATION")
        return bool(
            told.get("master_link_status") == b"up"
            and told["replid"] == wanted["replid"]
            and told["offset"] >= wanted["offset"] > 0
        )

    wait_until(caught_up, what="the replica to have it all")
    assert replica.ids() == [1, 2, 3, 4]
    told = replica.info("REPLICATION")
    assert told["role"] == b"slave"
    assert told["master_last_io_seconds_ago"] >= 0
    assert told["flushes"] > flushes  # it was emptied before it took over the master's data
    assert master.info("REPLICATION")["role"] == b"master"
