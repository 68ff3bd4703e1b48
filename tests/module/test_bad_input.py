# SPDX-License-Identifier: MIT
"""Wrong input of every kind: a precise error, nothing changed, the server alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job, pack
from tests.module.test_life import tcp_port, wait_until

COMMANDS = ("PUT", "INDEX", "MATCH", "FETCH", "GET", "AGG", "INFO", "TAKE", "TRIM")
ONE = pack(job(2))


@pytest.fixture
def unchanged(store: Store) -> Iterator[Store]:
    """A store with one job and an open query, which the test must leave as they are."""
    store.put(job(1))
    store.call("MATCH", "open", "user", "alice")
    digest, keys = store.digest(), store.client.keys("*")
    yield store
    assert store.digest() == digest
    assert store.client.keys("*") == keys
    assert [row["job_id"] for row in store.fetch("open")] == [1]


def fails(store: Store, name: str, *args: Any, why: str) -> None:
    with pytest.raises(redis.ResponseError, match=why):
        store.call(name, *args)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_arguments(unchanged: Store, name: str) -> None:
    with pytest.raises(redis.ResponseError, match=f"(?i)wrong number of arguments for 'slurmjc.{name}' command"):
        unchanged.client.execute_command(f"SLURMJC.{name}")


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("PUT", ()),
        ("INDEX", ()),
        ("INDEX", (1, 2)),
        ("MATCH", ()),
        ("FETCH", ("open",)),
        ("GET", ()),
        ("GET", (1, 2)),
        ("AGG", ("BY",)),
        ("INFO", ("SEGMENTS", "REPLICATION")),
        ("TAKE", ()),
        ("TAKE", (0,)),
        ("TRIM", ("BEFORE",)),
        ("TRIM", ("BEFORE", 1, 2)),
    ],
)
def test_wrong_arity(unchanged: Store, name: str, args: tuple[Any, ...]) -> None:
    fails(unchanged, name, *args, why="wrong number of arguments")


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("PUT", ("RECORD", ONE), "^syntax: SLURMJC.PUT"),
        ("INFO", ("SEGMENT",), "^syntax: SLURMJC.INFO"),
        ("INFO", ("REPLICATIONS",), "^syntax: SLURMJC.INFO"),
        ("PUT", ("RECORDS", ONE, b"text"), "^BADRECORD 1 the record is not a MessagePack array"),
        ("PUT", ("RECORDS", ONE, ONE[:-1]), "^BADRECORD 1 extra is not a map"),
        ("PUT", ("RECORDS", ONE + b"x"), "^BADRECORD 0 bytes are left over"),
        ("FETCH", ("open", "many"), "integer"),
        ("FETCH", ("open", -1), "integer"),
        ("FETCH", ("open", 1, "ROWS"), "syntax"),
        ("GET", ("x",), "jobid must be an integer from 1 to 4294967295"),
        ("AGG", ("BY", "shoe"), "^syntax: SLURMJC.AGG"),
        ("AGG", ("OF", "user"), "^syntax: SLURMJC.AGG"),
        ("TAKE", (0, 0), "^the count must be 1 to 10000"),
        ("TAKE", (0, 10001), "^the count must be 1 to 10000"),
        ("TAKE", ("x", 10), "^the cursor must be 0 or what TAKE replied"),
        ("TAKE", (0, 10, "TTL", 0), "^TTL must be seconds"),
        ("TAKE", (0, 10, "SINCE", "now"), "^SINCE must be epoch seconds"),
        ("TAKE", (0, 10, "CLUSTER", ""), "^CLUSTER must be the name of a cluster"),
        ("TAKE", (0, 10, "CLUSTER"), "^syntax: SLURMJC.TAKE prefix cursor count"),
        ("TAKE", (0, 10, "TTL", 1, "TTL", 1), "^syntax: SLURMJC.TAKE prefix cursor count"),
        ("TRIM", ("AFTER", 1), "^syntax: SLURMJC.TRIM"),
        ("TRIM", ("BEFORE", "now"), "^syntax: SLURMJC.TRIM"),
        ("TRIM", ("BEFORE", -1), "^syntax: SLURMJC.TRIM"),
    ],
)
def test_wrong_arguments(unchanged: Store, name: str, args: tuple[Any, ...], why: str) -> None:
    fails(unchanged, name, *args, why=why)


@pytest.mark.parametrize("name", ["MATCH", "AGG"])
@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (("shoe", "42"), "unknown criterion 'shoe', expected one of "),
        (("sh\r\noe", "42"), r"unknown criterion 'sh\?\?oe'"),
        (("x" * 1000, "42"), "unknown criterion"),
        (("uid",), "pairs"),
        (("start", "200", "end", "100"), "ends before it starts|before its start|window"),
        (("start", "yesterday"), "start"),
        (("start", "-1"), "start"),
        (("end", "1" * 30), "end"),
        (("uid", "alice"), "uid"),
        (("uid", "4294967296"), "uid"),
        (("uid", "1,,2"), "uid"),
        (("job", ""), "job"),
        (("job", "1_"), "job"),
        (("job", "1_[2"), "job"),
        (("job", "7-3"), "job"),
        (("job", "1+x"), "job"),
        (("state", "COMPLETED"), "state"),
        (("exit", "1:2:3"), "exit"),
        (("nodes_count", "8-2"), "nodes_count"),
        (("node", "n[1-3"), "node"),
        (("node", "n[3-1]"), "node"),
        (("reason", "x"), "reason"),
        (("limit", "-1"), "limit"),
        (("constraint", "x") * 65, "criterion 'constraint' was given more than 64 times"),
        (("user", "x") * 16_385, "criterion 'user' was given more than 16384 times"),
        (("job", ",".join(f"{i}_1,{i}+1" for i in range(8_193))), "tasks and parts of more than 16384 jobs"),
        (("node", ",".join(f"n{i}" for i in range(0, 40_000, 2))), "more than 16384 parts"),
        (("user", "x", "name", "y") * 8_193, "was given more than 16384 times"),
        (("node", "a1,n[1-999999]a111111111111111111[1]") * 1000, "node lists name too many nodes one by one"),
        (("node", "a1,n[1-99999]a111111111111111111[" + "1," * 50_000 + "1]"), "too many nodes one by one"),
    ],
)
def test_wrong_criteria(unchanged: Store, name: str, pairs: tuple[str, ...], why: str) -> None:
    head = ("q",) if name == "MATCH" else ("BY", "user")
    fails(unchanged, name, *head, *pairs, why=why)
    if name == "MATCH":
        fails(unchanged, "FETCH", "q", 1, why="^NOQUERY no query 'q' is open, send SLURMJC.MATCH first")


@pytest.mark.parametrize("cursor", ["", "x", "job:mat:open", "open\r\n", "\x00", "o" * 100_000])
def test_forged_cursor(unchanged: Store, cursor: str) -> None:
    fails(unchanged, "FETCH", cursor, 1, why="^NOQUERY no query '")


def test_cursor_of_another_prefix_or_database(unchanged: Store) -> None:
    fails(Store(unchanged.client, "other"), "FETCH", "open", 1, why="^NOQUERY")
    unchanged.client.select(1)
    try:
        fails(unchanged, "FETCH", "open", 1, why="^NOQUERY")
    finally:
        unchanged.client.select(0)


def test_used_up_cursor(store: Store) -> None:
    store.put(job(1))
    store.call("MATCH", "q")
    assert len(store.fetch("q")) == 1
    fails(store, "FETCH", "q", 1, why="^NOQUERY no query 'q' is open")


def test_a_million_ids_in_one_criterion(store: Store) -> None:
    store.put(*(job(i, NOON + i) for i in range(1, 2000)))
    wanted = [*range(5, 2_000_000, 2)]
    assert store.ids("job", ",".join(map(str, wanted))) == [i for i in wanted if i < 2000]
    assert store.ids("uid", ",".join(map(str, range(2000, 1_002_000)))) == []
    fails(store, "MATCH", "q", "job", ",".join(["1"] * 1_000_000) + ",x", why="job")


@pytest.mark.parametrize("key", [f"job:seg:{DAY}", "job:spools", "job:1", "job:cluster"])
def test_keys_of_another_type(store: Store, key: str) -> None:
    store.client.lpush(key, "x")
    answers: dict[str, list[tuple[str, tuple[Any, ...]]]] = {
        f"job:seg:{DAY}": [("PUT", ("RECORDS", ONE))],
        "job:spools": [("PUT", ("SPOOL", "s", 1, "RECORDS", ONE))],
        "job:1": [("INDEX", (1,))],
        "job:cluster": [("TAKE", (0, 10))],
    }
    digest = store.digest()
    for name, args in answers[key]:
        fails(store, name, *args, why="^WRONGTYPE")
    assert store.digest() == digest
    assert store.ids() == []
    assert store.call("GET", 1) == []
    assert store.call("AGG", "BY", "user") == []
    assert store.call("TRIM", "BEFORE", NOON * 2) == 0
    assert store.digest() == digest


def test_in_a_transaction(unchanged: Store) -> None:
    pipe = unchanged.client.pipeline(transaction=True)
    pipe.execute_command("SLURMJC.PUT", "job", "RECORDS", ONE, b"\x93")
    pipe.execute_command("SLURMJC.MATCH", "job", "m", "user", "alice")
    pipe.execute_command("SLURMJC.FETCH", "job", "m", 10, "RECORDS")
    pipe.execute_command("SLURMJC.AGG", "job", "BY", "user")
    pipe.execute_command("SLURMJC.MATCH", "job", "m2", "shoe", "42")
    bad, match, rows, groups, unknown = pipe.execute(raise_on_error=False)
    assert str(bad).startswith("BADRECORD 1 ")
    assert match == b"job:mat:m"
    assert rows == [pack(job(1))]
    assert groups[0][:2] == [b"alice", 1]
    assert "unknown criterion" in str(unknown)
    assert unchanged.fetch("m") == []


def test_in_a_script(unchanged: Store) -> None:
    script = """
        local bad = redis.pcall('SLURMJC.PUT', KEYS[1], 'RECORDS', 'x')
        local found = redis.call('SLURMJC.MATCH', KEYS[1], 'l', 'user', 'alice')
        local rows = redis.call('SLURMJC.FETCH', KEYS[1], 'l', 10, 'RECORDS')
        local info = redis.call('SLURMJC.INFO', KEYS[1])
        return {bad.err, found, #rows, #info > 10}
    """
    bad, found, rows, info = unchanged.client.eval(script, 1, "job")
    assert bad.startswith(b"BADRECORD 0 ")
    assert (found, rows, info) == (b"job:mat:l", 1, 1)
    assert unchanged.fetch("l") == []


def test_on_a_replica(make_redis: Callable[..., RedisServer]) -> None:
    master = make_redis("master")
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with master.client() as m, replica.client() as r:
        wait_until(lambda: r.info("replication")["master_link_status"] == "up")
        Store(m).put(job(1))
        assert m.wait(1, 10_000) == 1
        store = Store(r)
        for name, args in (
            ("PUT", ("RECORDS", ONE)),
            ("INDEX", (1,)),
            ("TAKE", (0, 10)),
            ("TRIM", ("BEFORE", NOON * 2)),
        ):
            with pytest.raises(redis.ReadOnlyError):
                store.call(name, *args)
        assert store.ids("user", "alice") == [1]
        assert store.call("AGG", "BY", "user")[0][1] == 1
        fails(store, "MATCH", "q", "shoe", "42", why="unknown criterion")
        assert store.digest() == Store(m).digest()


def test_under_maxmemory(unchanged: Store) -> None:
    client = unchanged.client
    client.hset("job:7", mapping={"JobID": 7})
    client.config_set("maxmemory", 1)
    try:
        fails(unchanged, "PUT", "RECORDS", ONE, why="maxmemory")
        fails(unchanged, "INDEX", 7, why="maxmemory")
        assert unchanged.ids("user", "alice") == [1]
        assert unchanged.call("TRIM", "BEFORE", 86400) == 0
    finally:
        client.config_set("maxmemory", 0)
    client.delete("job:7")
