# SPDX-License-Identifier: MIT
"""Work that takes many slices: others are served, clients may leave, segments may change."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import NOON, job, pack

JOBS = 40_000
# Each list is a string of its own that has to be taken apart: far more work than one slice.
ASK = ("node", "zz1")


@pytest.fixture(scope="module")
def full(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.flushall()
        nodes = "n[1-3,5-9],m[2,4,6,8],r[1-9]q[1-9],"
        for at in range(1, JOBS, 1000):
            batch = (job(i, NOON + i, nodes=f"{nodes}x{i}") for i in range(at, min(at + 1000, JOBS)))
            client.execute_command("SLURMJC.PUT", "big", "RECORDS", *map(pack, batch))
        yield
        client.flushall()


@pytest.fixture
def big(server: RedisServer, full: None) -> Iterator[Store]:
    with server.client() as client:
        yield Store(client, "big")


def is_blocked(client: redis.Redis) -> bool:
    return bool(client.info("clients")["blocked_clients"])


def wait_until_blocked(client: redis.Redis) -> None:
    deadline = time.monotonic() + 30
    while not is_blocked(client):
        assert time.monotonic() < deadline


def test_others_are_served_meanwhile(server: RedisServer, big: Store) -> None:
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.extend(big.call("MATCH", f"s{i}", *ASK) for i in range(20)))
    asking.start()
    with server.client() as other:
        wait_until_blocked(other)
        assert other.ping()
        assert Store(other, "big").find("job", "5", "limit", 1)[0]["job_id"] == 5
    asking.join()
    assert answers == [None] * 20


def test_late_hit_is_found_and_fetched(big: Store) -> None:
    assert big.ids("node", f"x{JOBS - 1}") == [JOBS - 1]


def test_client_that_leaves_frees_its_query(server: RedisServer, big: Store) -> None:
    with server.client() as other:
        big.call("MATCH", "gone", "node", "x1,zz1")
        assert len(big.call("FETCH", "gone", 1, "RECORDS")) == 1
        connection = big.client.connection_pool.get_connection()
        connection.send_command("SLURMJC.FETCH", "big", "gone", 5, "RECORDS")
        wait_until_blocked(other)
        with pytest.raises(redis.ResponseError, match="busy"):
            other.execute_command("SLURMJC.FETCH", "big", "gone", 5)
        connection.disconnect()
        deadline = time.monotonic() + 30
        while True:
            try:
                assert other.execute_command("SLURMJC.FETCH", "big", "gone", 5) == []
                break
            except redis.ResponseError as error:
                assert "busy" in str(error)
                assert time.monotonic() < deadline


def test_segments_vanish_under_a_slice(server: RedisServer, big: Store) -> None:
    with server.client() as other:
        other.copy("big:seg:19000", "copy:seg:19000")
        connection = big.client.connection_pool.get_connection()
        connection.send_command("SLURMJC.AGG", "copy", "BY", "name", *ASK)
        wait_until_blocked(other)
        other.delete("copy:seg:19000")
        assert connection.read_response() == []


def test_multi_runs_it_in_one_piece(big: Store) -> None:
    pipe = big.client.pipeline(transaction=True)
    for i in range(40):
        pipe.execute_command("SLURMJC.MATCH", "big", f"m{i}", "node", f"x{JOBS - 1}")
    assert set(pipe.execute()) == {b"big:mat:m%d" % i for i in range(40)}
