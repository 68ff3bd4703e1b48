# SPDX-License-Identifier: MIT
"""Work that takes many slices: others are served, clients may leave, segments may change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis

from tests.harness import RedisServer
from tests.harness.waiting import scaled
from tests.module.conftest import Store
from tests.module.records import NOON, job, pack, unpack
from tests.module.test_life import tcp_port, wait_until

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


@pytest.fixture
def connect(server: RedisServer) -> Iterator[Callable[[], Any]]:
    """Open connections of which each waits for the replies to what was sent over it."""
    with ExitStack() as stack:

        def connection() -> Any:
            pool = stack.enter_context(server.client()).connection_pool
            made = pool.get_connection()
            stack.callback(made.disconnect)
            return made

        yield connection


@contextmanager
def one_turn(sleeper: Any) -> Iterator[None]:
    """What is sent inside is taken up by the server in one turn of its event loop, in that order."""
    sleeper.send_command("DEBUG", "SLEEP", "0.3")
    yield
    assert sleeper.read_response() == b"OK"


Connect = Callable[[], Any]


def test_others_are_served_meanwhile(server: RedisServer, big: Store, connect: Connect) -> None:
    asking, other = connect(), connect()
    with one_turn(connect()):
        asking.send_command("SLURMJC.MATCH", "big", "s", *ASK)
        other.send_command("INFO", "clients")
    assert b"blocked_clients:1\r\n" in other.read_response()
    assert big.find("job", "5", "limit", 1)[0]["job_id"] == 5
    assert asking.read_response() is None


def test_many_at_once_take_turns(big: Store, connect: Connect) -> None:
    asking, other = [connect() for _ in range(8)], connect()
    with one_turn(connect()):
        for connection in asking:
            connection.send_command("SLURMJC.AGG", "big", "BY", "user", *ASK)
        other.send_command("INFO", "clients")
    assert b"blocked_clients:8\r\n" in other.read_response()
    assert [connection.read_response() for connection in asking] == [[]] * 8
    assert not big.client.info("clients")["blocked_clients"]


def test_late_hit_is_found_and_fetched(big: Store) -> None:
    assert big.ids("node", f"x{JOBS - 1}") == [JOBS - 1]


def test_client_that_leaves_frees_its_query(big: Store, connect: Connect) -> None:
    leaving, second = connect(), connect()
    big.call("MATCH", "gone", "node", "x1,zz1")
    assert len(big.call("FETCH", "gone", 1, "RECORDS")) == 1
    with one_turn(connect()):
        leaving.send_command("SLURMJC.FETCH", "big", "gone", 5, "RECORDS")
        second.send_command("SLURMJC.FETCH", "big", "gone", 5)
    with pytest.raises(redis.ResponseError, match="busy"):
        second.read_response()
    leaving.disconnect()
    deadline = time.monotonic() + 30
    while (reply := fetched(big)) is None:
        assert time.monotonic() < deadline
    assert reply == []


def test_a_query_is_closed_under_a_slice(big: Store, connect: Connect) -> None:
    """The command that is at it ends as if nothing was; nobody finds it afterwards."""
    asking, closing = connect(), connect()
    big.call("MATCH", "shut", "node", f"x1,x{JOBS - 1},zz1")
    assert len(big.call("FETCH", "shut", 1, "RECORDS")) == 1
    with one_turn(connect()):
        asking.send_command("SLURMJC.FETCH", "big", "shut", 5, "RECORDS", "KEYS")
        closing.send_command("SLURMJC.FETCH", "big", "shut", "CLOSE")
    assert closing.read_response() == []
    assert big.info()["queries"] == 0
    keys, rows = asking.read_response()
    assert (len(keys), [unpack(row)["job_id"] for row in rows]) == (16, [JOBS - 1])
    with pytest.raises(redis.ResponseError, match=r"^NOQUERY"):
        big.call("FETCH", "shut", 5)


def fetched(big: Store) -> list[bytes] | None:
    """None while another command works on the query."""
    try:
        return list(big.call("FETCH", "gone", 5))
    except redis.ResponseError as error:
        if "busy" not in str(error):
            raise
        return None


def test_rows_change_between_pages(big: Store) -> None:
    """What a page has unpacked of a block is of no use to the next: the block may be packed by then."""
    store = Store(big.client, "pages")
    jobs = [job(i, NOON + i, work_dir=f"/home/alice/{i * 7919}", gid=7 + (i > 500)) for i in range(1, 8001)]
    store.put(*jobs[:500])
    assert store.call("MATCH", "p") is not None
    first = store.call("FETCH", "p", 20, "RECORDS")
    for at in range(500, 8000, 500):
        store.put(*jobs[at : at + 500])
    rest = store.fetch("p", 1000)
    assert [*map(unpack, first), *rest] == jobs


def test_segments_vanish_under_a_slice(big: Store, connect: Connect) -> None:
    asking, deleting = connect(), connect()
    big.client.copy("big:seg:19000", "copy:seg:19000")
    with one_turn(connect()):
        asking.send_command("SLURMJC.AGG", "copy", "BY", "name", "node", f"x{JOBS - 1},zz1")
        deleting.send_command("DEL", "copy:seg:19000")
    assert deleting.read_response() == 1
    assert asking.read_response() == []


def test_a_segment_expires_under_a_slice(big: Store, connect: Connect) -> None:
    """Whoever finds an expired key deletes it, and that has to reach the AOF before Redis' own work goes on."""
    asking, expiring = connect(), connect()
    big.client.copy("big:seg:19000", "copy:seg:19000")
    big.client.config_set("appendonly", "yes")
    big.client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        with one_turn(connect()):
            asking.send_command("SLURMJC.AGG", "copy", "BY", "name", "node", f"x{JOBS - 1},zz1")
            expiring.send_command("PEXPIRE", "copy:seg:19000", 1)
        assert expiring.read_response() == 1
        assert asking.read_response() == []
    finally:
        big.client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        big.client.config_set("appendonly", "no")
    assert big.client.exists("copy:seg:19000") == 0


def test_a_load_lets_others_in(server: RedisServer, big: Store, connect: Connect) -> None:
    """They are told that the server is loading, however large a segment is."""
    loading, other = connect(), connect()
    defaults = big.client.config_get("loading-process-events-interval-bytes", "hz")
    big.client.config_set("loading-process-events-interval-bytes", 2**31 - 1)
    big.client.config_set("hz", 500)
    try:
        with one_turn(connect()):
            loading.send_command("DEBUG", "RELOAD")
            other.send_command("PING")
        with pytest.raises(redis.exceptions.BusyLoadingError):
            other.read_response()
        assert loading.read_response() == b"OK"
    finally:
        for name, value in defaults.items():
            big.client.config_set(name, value)
    assert big.ids("job", "5") == [5]


def test_multi_runs_it_in_one_piece(big: Store) -> None:
    pipe = big.client.pipeline(transaction=True)
    for i in range(40):
        pipe.execute_command("SLURMJC.MATCH", "big", f"m{i}", "node", f"x{JOBS - 1}")
    assert set(pipe.execute()) == {b"big:mat:m%d" % i for i in range(40)}


DAYS = 20_000  # more than one command may drop in MULTI if it were a query
SLOW = pytest.mark.timeout(scaled(120))


def days(store: Store) -> None:
    for at in range(0, DAYS, 500):
        store.put(*(job(i + 1, NOON + i * 86400) for i in range(at, at + 500)))


@SLOW
def test_trim_takes_turns_and_reaches_replica_and_file(make_redis: Callable[..., RedisServer]) -> None:
    master = make_redis("master", options={"appendonly": "yes", "appendfsync": "always"})
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with master.client() as m, replica.client() as r:
        wait_until(lambda: r.info("replication")["master_link_status"] == "up")
        days(Store(m))
        assert Store(m).call("TRIM", "BEFORE", NOON + (DAYS - 101) * 86400) == DAYS - 101
        assert Store(m).info()["segments"] == m.dbsize() == 101
        assert m.wait(1, 10_000) == 1
        digest = Store(m).digest()
        assert Store(r).digest() == digest
    master.kill()
    master.start()
    with master.client() as m:
        assert Store(m).digest() == digest


@SLOW
def test_trim_gives_others_a_turn(store: Store, connect: Connect) -> None:
    days(store)
    trimming, other = connect(), connect()
    with one_turn(connect()):
        trimming.send_command("SLURMJC.TRIM", "job", "BEFORE", NOON + DAYS * 86400)
        other.send_command("DBSIZE")
    assert 0 < other.read_response() < DAYS
    assert trimming.read_response() == DAYS
    assert store.client.dbsize() == 0


@SLOW
def test_trim_in_multi_is_done_when_exec_returns(store: Store) -> None:
    days(store)
    pipe = store.client.pipeline(transaction=True)
    pipe.execute_command("SLURMJC.TRIM", "job", "BEFORE", NOON + DAYS * 86400)
    pipe.dbsize()
    assert pipe.execute() == [DAYS, 0]


def test_many_groups_are_sorted_and_told_in_turns(store: Store, connect: Connect) -> None:
    names = [f"n{i * 7919 % 30_011}" for i in range(60_000)]
    for at in range(0, len(names), 1000):
        store.put(*(job(i + 1, NOON + i // 8, name=names[i]) for i in range(at, at + 1000)))
    counts = Counter(names)
    expected = sorted(counts, key=lambda name: (-counts[name], name.encode()))
    asking, other = connect(), connect()
    with one_turn(connect()):
        asking.send_command("SLURMJC.AGG", "job", "BY", "name")
        other.send_command("INFO", "clients")
    assert b"blocked_clients:1\r\n" in other.read_response()
    assert [row[:2] for row in asking.read_response()] == [[name.encode(), counts[name]] for name in expected]
    top = store.call("AGG", "BY", "name", "limit", 3)
    assert [row[0] for row in top] == [name.encode() for name in expected[:3]]
    pipe = store.client.pipeline(transaction=True)
    pipe.execute_command("SLURMJC.AGG", "job", "BY", "name", "job", "1-50")
    assert pipe.execute() == [store.call("AGG", "BY", "name", "job", "1-50")]
