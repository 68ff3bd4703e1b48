# SPDX-License-Identifier: MIT
"""Work that takes many slices: others are served, clients may leave, segments may change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

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


@contextmanager
def one_turn(server: RedisServer) -> Iterator[None]:
    """What is sent inside is taken up by the server in one turn of its event loop, in that order."""
    with server.client() as sleeper:
        connection = sleeper.connection_pool.get_connection()
        connection.send_command("DEBUG", "SLEEP", "0.3")
        yield
        assert connection.read_response() == b"OK"


def send(client: redis.Redis, *words: object) -> Any:
    """A connection that waits for the reply."""
    connection = client.connection_pool.get_connection()
    connection.send_command(*words)
    return connection


def test_others_are_served_meanwhile(server: RedisServer, big: Store) -> None:
    with server.client() as other:
        with one_turn(server):
            asking = send(big.client, "SLURMJC.MATCH", "big", "s", *ASK)
            others = send(other, "INFO", "clients")
        assert b"blocked_clients:1\r\n" in others.read_response()
        assert Store(other, "big").find("job", "5", "limit", 1)[0]["job_id"] == 5
        assert asking.read_response() is None


def test_many_at_once_take_turns(server: RedisServer, big: Store) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(9)]
        with one_turn(server):
            asking = [send(client, "SLURMJC.AGG", "big", "BY", "user", *ASK, "name", "job") for client in clients[:8]]
            last = send(clients[8], "INFO", "clients")
        assert b"blocked_clients:8\r\n" in last.read_response()
        assert [connection.read_response() for connection in asking] == [[]] * 8
    assert not big.client.info("clients")["blocked_clients"]


def test_late_hit_is_found_and_fetched(big: Store) -> None:
    assert big.ids("node", f"x{JOBS - 1}") == [JOBS - 1]


def test_client_that_leaves_frees_its_query(server: RedisServer, big: Store) -> None:
    with server.client() as other:
        big.call("MATCH", "gone", "node", "x1,zz1")
        assert len(big.call("FETCH", "gone", 1, "RECORDS")) == 1
        with one_turn(server):
            leaving = send(big.client, "SLURMJC.FETCH", "big", "gone", 5, "RECORDS")
            second = send(other, "SLURMJC.FETCH", "big", "gone", 5)
        with pytest.raises(redis.ResponseError, match="busy"):
            raise second.read_response()
        leaving.disconnect()
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
        with one_turn(server):
            asking = send(big.client, "SLURMJC.AGG", "copy", "BY", "name", "node", f"x{JOBS - 1},zz1")
            deleting = send(other, "DEL", "copy:seg:19000")
        assert deleting.read_response() == 1
        assert asking.read_response() == []


def test_a_segment_that_expires_under_a_slice_goes_on_the_replica_too(server: RedisServer, big: Store) -> None:
    """Whoever finds an expired key deletes it, and that has to be passed on at once."""
    with server.client() as other:
        other.copy("big:seg:19000", "copy:seg:19000")
        other.config_set("appendonly", "yes")
        other.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        try:
            with one_turn(server):
                asking = send(big.client, "SLURMJC.AGG", "copy", "BY", "name", "node", f"x{JOBS - 1},zz1")
                expiring = send(other, "PEXPIRE", "copy:seg:19000", 1)
            assert expiring.read_response() == 1
            assert asking.read_response() == []
            assert other.ping()
        finally:
            other.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "1")
            other.config_set("appendonly", "no")


def test_multi_runs_it_in_one_piece(big: Store) -> None:
    pipe = big.client.pipeline(transaction=True)
    for i in range(40):
        pipe.execute_command("SLURMJC.MATCH", "big", f"m{i}", "node", f"x{JOBS - 1}")
    assert set(pipe.execute()) == {b"big:mat:m%d" % i for i in range(40)}
