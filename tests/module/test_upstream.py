# SPDX-License-Identifier: MIT
"""What an unmodified slurm-redis 0.1.3 plugin sends, and what it gets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job

FIELDS = [
    "_abi", "_tmf", "JobID", "Partition", "Start", "End", "Elapsed", "UID", "User", "GID", "Group", "NNodes",
    "NCPUs", "NodeList", "JobName", "State", "TimeLimit", "WorkDir", "ResvName", "ReqGRES", "Account", "QOS",
    "WCKey", "Cluster", "Submit", "Eligible", "DerivedEC", "EC",
]  # fmt: skip


def when(epoch: int, tmf: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if tmf else str(epoch)


def job_hash(job_id: int, tmf: int, **fields: Any) -> dict[str, str]:
    return {
        "_abi": "0",
        "_tmf": str(tmf),
        "JobID": str(job_id),
        "Partition": "batch",
        "Start": when(NOON - 50, tmf),
        "End": when(NOON, tmf),
        "Elapsed": "50",
        "UID": "1000",
        "User": "alice",
        "GID": "100",
        "Group": "users",
        "NNodes": "2",
        "NCPUs": "8",
        "NodeList": "n[1-2]",
        "JobName": "sleep",
        "State": "5",
        "TimeLimit": "60",
        "WorkDir": "/home/alice",
        "ReqGRES": "gpu:1",
        "Account": "phys",
        "Cluster": "c",
        "Submit": when(NOON - 60, tmf),
        "Eligible": when(NOON - 60, tmf),
        "EC": "3:0",
        **fields,
    }


def index(store: Store, job_id: int, fields: dict[str, str], ttl: int = -1) -> Any:
    """As the plugin does it: one transaction."""
    pipe = store.client.pipeline(transaction=True)
    for name, value in fields.items():
        pipe.hset(f"job:{job_id}", name, value)
    if ttl > 0:
        pipe.expire(f"job:{job_id}", ttl)
    pipe.execute_command("SLURMJC.INDEX", "job", job_id)
    return pipe.execute()[-1]


def ask(
    store: Store, query: str, tmf: int = 0, sets: dict[str, list[Any]] | None = None, **fields: Any
) -> list[dict[str, bytes]]:
    pipe = store.client.pipeline(transaction=True)
    pipe.hset(f"job:qry:{query}", mapping={"_abi": 0, "_tmf": tmf, "NNodesMin": 0, "NNodesMax": 0, **fields})
    pipe.expire(f"job:qry:{query}", 60)
    for name, values in (sets or {}).items():
        pipe.sadd(f"job:qry:{query}:{name}", *values)
        pipe.expire(f"job:qry:{query}:{name}", 60)
    pipe.execute()
    if store.call("MATCH", query) is None:
        return []
    out = []
    while rows := store.call("FETCH", query, 500):
        assert all(len(row) == len(FIELDS) for row in rows)
        out += [{name: value for name, value in zip(FIELDS, row, strict=True) if value is not None} for row in rows]
    return out


@pytest.mark.parametrize("stored", [0, 1])
@pytest.mark.parametrize("asked", [0, 1])
def test_job_comes_back(store: Store, stored: int, asked: int) -> None:
    assert index(store, 42, job_hash(42, stored)) == f"job:seg:{DAY}".encode()
    window: dict[str, Any] = {"Start": when(NOON - 100, asked), "End": when(NOON + 100, asked)}
    expected = job_hash(42, asked)
    got = ask(store, "u-1", asked, **window)
    assert [{name: value.decode() for name, value in row.items()} for row in got] == [expected]


def test_absent_fields(store: Store) -> None:
    fields = job_hash(1, 0, TimeLimit="I", EC="0:9", DerivedEC="1:0", JobName="")
    for name in ("NodeList", "Account", "ReqGRES"):
        del fields[name]
    index(store, 1, fields)
    (row,) = ask(store, "u")
    assert row.keys() & {"NodeList", "Account", "ReqGRES"} == set()
    assert (row["TimeLimit"], row["EC"], row["DerivedEC"], row["JobName"]) == (b"I", b"0:9", b"1:0", b"allocation")


def test_no_hash_is_nil(store: Store) -> None:
    assert store.call("INDEX", 5) is None
    store.client.set("job:5", "x")
    with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE"):
        store.call("INDEX", 5)


@pytest.mark.parametrize(
    "fields",
    [
        {"JobID": "x"},
        {"End": "never"},
        {"EC": "3"},
        {"TimeLimit": "soon"},
        {"UID": "-1"},
        {"End": "0"},
        {"State": "999"},
        {"JobID": "0"},
        {"_abi": "1"},
        {"_tmf": "2"},
        {"End": "253402300800"},
        {"Start": "-1"},
        {"ReqGRES": "gpu\0"},
        {"WorkDir": "/\0"},
        {"WorkDir": "x" * (1 << 20)},
        {"WorkDir": "x" * (4 << 20)},
    ],
)
def test_bad_hash(store: Store, fields: dict[str, str]) -> None:
    """Refused, and left as it was."""
    store.client.hset("job:1", mapping=job_hash(1, 0, **fields))
    before = store.digest()
    with pytest.raises(redis.ResponseError, match=r"^BADRECORD 0 "):
        store.call("INDEX", 1)
    assert store.digest() == before


@pytest.mark.parametrize(
    "end",
    [
        "2022-02-31T00:00:00Z", "2022-01-08T24:00:00Z", "2022-01-08T12:00:60Z", " 2022-01-08T12:00:00Z",
        "2022-1-8T12:00:00Z", "2022-01-08T12:00:00", "2022-01-08T12:00:00Z\0", "1969-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z", str(NOON), "",
    ],
)  # fmt: skip
def test_a_time_is_taken_to_the_letter(store: Store, end: str) -> None:
    store.client.hset("job:1", mapping=job_hash(1, 1, End=end))
    with pytest.raises(redis.ResponseError, match=r"^BADRECORD 0 a field of the hash is no number, time or string"):
        store.call("INDEX", 1)
    store.client.hset("job:qry:q", mapping={"_tmf": 1, "End": end})
    with pytest.raises(redis.ResponseError, match=r"Start or End is no time"):
        store.call("MATCH", "q")


def test_the_last_time_there_is(store: Store) -> None:
    index(store, 1, job_hash(1, 1, End="9999-12-31T23:59:59Z"))
    assert [row["End"] for row in ask(store, "u", 1)] == [b"9999-12-31T23:59:59Z"]


def test_a_hash_that_says_only_what_it_must(store: Store) -> None:
    index(store, 1, {"JobID": "1", "UID": "5", "GID": "6", "End": str(NOON), "State": "3"})
    (row,) = ask(store, "u", sets={"job": [1]})
    assert row == {
        "_abi": b"0", "_tmf": b"0", "JobID": b"1", "Start": b"0", "End": str(NOON).encode(), "Elapsed": b"0",
        "UID": b"5", "GID": b"6", "NNodes": b"0", "NCPUs": b"0", "JobName": b"allocation", "State": b"3",
        "TimeLimit": b"", "Submit": b"0", "Eligible": b"0",
    }  # fmt: skip


def test_recycled_id_keeps_both_runs(store: Store) -> None:
    index(store, 1, job_hash(1, 0))
    index(store, 1, job_hash(1, 0, Submit=str(NOON - 55), State="3"))
    assert len(ask(store, "u")) == 2


def test_hashs_time_to_live_becomes_the_rows(store: Store) -> None:
    index(store, 1, job_hash(1, 0), ttl=5000)
    assert store.client.ttl(f"job:seg:{DAY}") > 0
    assert len(store.find()) == 1


def test_sets(store: Store) -> None:
    store.put(
        job(1, uid=5, gid=6, name="x", partition="p", state=3), job(2, uid=7, gid=8, name="y", partition="q", state=5)
    )
    wide: dict[str, Any] = {"Start": 0, "End": 0}
    questions: list[tuple[dict[str, list[Any]], list[int]]] = [
        ({"uid": [5]}, [1]),
        ({"uid": [5, 7]}, [1, 2]),
        ({"gid": [8]}, [2]),
        ({"jnm": ["y", "z"]}, [2]),
        ({"prt": ["p"]}, [1]),
        ({"job": [2, 9]}, [2]),
        ({"stt": [5]}, [2]),
        ({"uid": [5], "stt": [5]}, []),
    ]
    for sets, expected in questions:
        assert [
            int(row["JobID"]) for row in ask(store, "s" + next(iter(sets)) + str(expected), 0, sets, **wide)
        ] == expected
    assert [int(row["JobID"]) for row in ask(store, "n", NNodesMin=2)] == []
    assert len(ask(store, "m", NNodesMin=1, NNodesMax=1)) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"Start": "x"}, {"NNodesMin": "-1"}, {"NNodesMin": 5, "NNodesMax": 2}, {"Start": 10, "End": 5},
        {"_abi": "1"}, {"_tmf": "2"},
    ],
)  # fmt: skip
def test_bad_query(store: Store, fields: dict[str, Any]) -> None:
    with pytest.raises(redis.ResponseError, match=r"the query's|the window"):
        ask(store, "bad", **fields)


def test_a_query_whose_keys_have_expired_is_not_one_for_everything(store: Store) -> None:
    """Upstream's client names its queries by UUIDs; its own module says nil."""
    store.put(job(1))
    query = "a14c07a1-325b-4ed2-a706-ecf13cad07db"
    with pytest.raises(redis.ResponseError, match=rf"^NOQUERY the keys of the query '{query}' are gone"):
        store.call("MATCH", query)
    with pytest.raises(redis.ResponseError, match=r"^NOQUERY"):
        store.call("FETCH", query, 500)
    assert len(ask(store, query)) == 1
    assert store.call("MATCH", query.replace("-", "")) is not None


@pytest.mark.parametrize("words", [("SET",), ("LPUSH",), ("HSET", "5"), ("ZADD", "5")])
def test_a_set_of_another_type(store: Store, words: tuple[str, ...]) -> None:
    store.client.hset("job:qry:q", mapping={"_abi": 0, "_tmf": 0})
    store.client.execute_command(words[0], "job:qry:q:uid", *words[1:], "5")
    with pytest.raises(redis.ResponseError, match=r"the query's set 'uid' can't be read: its key holds something else"):
        store.call("MATCH", "q")


def test_the_sets_of_a_query_are_its_own(store: Store) -> None:
    """Whatever bytes its name has."""
    store.put(job(1, uid=5), job(2, uid=7))
    store.client.sadd("job:qry:a:uid", 7)
    assert [row["JobID"] for row in ask(store, "a\0b", sets={"uid": [5]})] == [b"1"]


def test_large_sets(store: Store) -> None:
    store.put(job(1, uid=5), job(2, uid=300_000))
    for limit, first in ((262_144, 100_000), (262_145, 1_000_000)):
        store.client.delete("job:qry:q:uid")
        for start in range(first, first + limit, 2**16):
            store.client.sadd("job:qry:q:uid", *range(start, min(start + 2**16, first + limit)))
        if limit == 262_144:
            assert [row["JobID"] for row in ask(store, "q")] == [b"2"]
    with pytest.raises(redis.ResponseError, match=r"set 'uid' can't be read: it has more than 262144 members"):
        ask(store, "q")
    with pytest.raises(redis.ResponseError, match=r"set 'jnm' can't be read: criterion 'name' was given more than"):
        ask(store, "n", sets={"jnm": list(range(20_000))})


def test_five_hundred_at_a_time_come_whole(store: Store) -> None:
    store.put(*(job(i, work_dir="/" + "x" * 3000) for i in range(1, 1201)))
    store.call("MATCH", "w")
    assert [len(store.call("FETCH", "w", 500)) for _ in range(4)] == [500, 500, 200, 0]
