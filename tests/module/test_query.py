# SPDX-License-Identifier: MIT
"""MATCH, FETCH, GET, AGG, TRIM and INFO."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job
from tests.module.test_upstream import ask, index, job_hash


def test_match_replies_the_sets_name_or_nil(store: Store) -> None:
    store.put(job(1))
    assert store.call("MATCH", "x:1", "user", "alice") == b"job:mat:x:1"
    assert store.call("MATCH", "x:1", "user", "nobody") is None
    with pytest.raises(redis.ResponseError, match=r"^NOQUERY no query 'x:1' is open, send SLURMJC.MATCH first$"):
        store.call("FETCH", "x:1", 1)


def test_query_is_closed_when_done(store: Store) -> None:
    store.put(job(1))
    store.call("MATCH", "q")
    assert store.info()["queries"] == 1
    assert len(store.call("FETCH", "q", 5, "RECORDS")) == 1
    assert store.call("FETCH", "q", 5, "RECORDS") == []
    assert store.info()["queries"] == 0
    with pytest.raises(redis.ResponseError, match=r"^NOQUERY"):
        store.call("FETCH", "q", 5)


def test_error_text_can_not_break_the_protocol(store: Store) -> None:
    with pytest.raises(redis.ResponseError, match=r"^NOQUERY no query 'a\?\?\+OK\?\?'"):
        store.call("FETCH", "a\r\n+OK\r\n", 5)
    with pytest.raises(redis.ResponseError, match=r"unknown criterion 'b\?\?'"):
        store.call("MATCH", "q", "b\r\n", "1")


def test_limit(store: Store) -> None:
    store.put(*(job(i) for i in range(1, 100)))
    assert store.ids("limit", 7) == list(range(1, 8))
    assert store.ids("limit", 0) == []
    assert store.find("limit", 50, count=20)[-1]["job_id"] == 50


def test_fetch_by_ones_gives_all(store: Store) -> None:
    store.put(*(job(i, NOON + i * 3600) for i in range(1, 60)))
    assert [r["job_id"] for r in store.find(count=1)] == list(range(1, 60))


def test_scan_goes_on_while_segments_come_and_go(store: Store) -> None:
    store.put(*(job(i, NOON + (i // 100) * 86400 + i) for i in range(1000)[1:]))
    store.call("MATCH", "q")
    first = store.call("FETCH", "q", 150, "RECORDS")
    store.client.delete(f"job:seg:{DAY + 1}", f"job:seg:{DAY + 5}")
    store.put(*(job(5000 + i, NOON + 200) for i in range(50)))
    store.put(*(job(7000 + i, NOON + 20 * 86400) for i in range(50)))
    rest = [record["job_id"] for record in store.fetch("q", 77)]
    assert len(first) == 150
    expected = [*range(200, 500), *range(600, 1000), *range(7000, 7050)]
    assert rest == expected


def test_reply_stops_at_a_mebibyte_and_goes_on(store: Store) -> None:
    jobs = [job(i, extra={"script": "x" * 100000}) for i in range(1, 40)]
    for record in jobs:
        store.put(record)
    store.call("MATCH", "q")
    first = store.call("FETCH", "q", 1000, "RECORDS")
    assert 1 <= len(first) < 20
    assert len(first) + len(store.fetch("q")) == 39


@pytest.mark.parametrize(
    ("criteria", "why"),
    [
        (("user",), "pairs"),
        (("viewer", "x"), "criterion 'viewer' wants one uid"),
        (("viewer", "1", "viewer", "2"), "criterion 'viewer' wants one uid"),
        (("viewer", "1", "viewer_account", ""), "criterion 'viewer_account' wants a name"),
        (("viewer_account", "a"), "viewer_account wants a viewer beside it"),
        (("colour", "red"), "unknown criterion 'colour', expected one of start end job"),
        (("start", "yesterday"), "epoch seconds"),
        (("start", "-1"), "epoch seconds"),
        (("start", "1", "start", "2"), "twice"),
        (("start", "10", "end", "9"), r"ends \(9\) before it starts \(10\)"),
        (("job", ""), "ids such as"),
        (("job", "1,"), "ids such as"),
        (("job", "5-1"), "ids such as"),
        (("job", "1_[1-"), "ids such as"),
        (("job", "4294967296"), "ids such as"),
        (("uid", "root"), "numbers"),
        (("state", "FAILED"), "state numbers"),
        (("exit", "256"), "code"),
        (("exit", "1:128"), "code"),
        (("nodes_count", "-"), "min-max"),
        (("nodes_count", "5-1"), "min-max"),
        (("node", "n["), "bracket"),
        (("node", ""), "no node"),
        (("limit", "all"), "number"),
    ],
)
def test_wrong_criteria(store: Store, criteria: tuple[str, ...], why: str) -> None:
    with pytest.raises(redis.ResponseError, match=why):
        store.call("MATCH", "q", *criteria)
    assert store.info()["queries"] == 0


@pytest.mark.parametrize("count", ["0", "-1", "x", "9223372036854775808"])
def test_wrong_count(store: Store, count: str) -> None:
    store.put(job(1))
    store.call("MATCH", "q")
    with pytest.raises(redis.ResponseError, match="max must be"):
        store.call("FETCH", "q", count)


@pytest.mark.parametrize("job_id", [2**31 - 1, 2**31, 2**31 + 1, 2**32 - 4])
def test_ids_with_a_clusters_number_in_their_top_bits(store: Store, job_id: int) -> None:
    """Those of a federation; an upstream client's too."""
    store.put(job(1), job(job_id - 1), job(job_id, array_job_id=job_id, array_task_id=3))
    assert store.ids("job", str(job_id)) == [job_id]
    assert store.ids("job", f"{job_id - 1}-{job_id}") == [job_id - 1, job_id]
    assert store.ids("job", f"{job_id}_3") == [job_id]
    assert len(store.call("GET", job_id)) == 1
    index(store, job_id + 1, job_hash(job_id + 1, 1))
    assert [row["JobID"] for row in ask(store, "u", sets={"job": [job_id + 1]})] == [b"%d" % (job_id + 1)]


@pytest.mark.parametrize("name", ["PUT", "INDEX", "MATCH", "FETCH", "GET", "AGG", "INFO", "TAKE", "TRIM"])
def test_arity(store: Store, name: str) -> None:
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        store.client.execute_command(f"SLURMJC.{name}")


def test_a_million_ids(store: Store) -> None:
    store.put(*(job(i, NOON + i) for i in range(1, 3000)))
    ids = ",".join(str(i * 3) for i in range(1, 1_000_000))
    assert store.ids("job", ids) == list(range(3, 3000, 3))


def test_in_multi_and_lua(store: Store) -> None:
    store.put(*(job(i) for i in range(1, 2000)))
    pipe = store.client.pipeline(transaction=True)
    pipe.execute_command("SLURMJC.MATCH", "job", "m", "job", "1999")
    pipe.execute_command("SLURMJC.FETCH", "job", "m", 10, "RECORDS")
    pipe.execute_command("SLURMJC.AGG", "job", "BY", "user")
    name, rows, sums = pipe.execute()
    assert (name, len(rows), sums[0][:2]) == (b"job:mat:m", 1, [b"alice", 1999])
    script = "redis.call('SLURMJC.MATCH', KEYS[1], 'l'); return #redis.call('SLURMJC.FETCH', KEYS[1], 'l', 7)"
    assert store.client.eval(script, 1, "job") == 7


def test_get_of_very_many_runs(store: Store) -> None:
    for i in range(18):
        store.put(job(7, start=NOON - i - 1, extra={"comment": "x" * 1_000_000}))
    with pytest.raises(redis.ResponseError, match=r"^LIMIT more than 16 MiB of runs of one job"):
        store.call("GET", 7)
    assert len(store.find("job", "7")) == 18


def test_get(store: Store) -> None:
    task = job(8, array_job_id=7, array_task_id=3)
    store.put(job(7, NOON + 5, restart_count=1), job(7, extra={"comment": "hi", "ntasks": 2}), task)
    runs = [_map(run) for run in store.call("GET", 7)]
    assert [run[b"end"] for run in runs] == [NOON, NOON + 5]
    assert runs[0][b"comment"] == b"hi"
    assert runs[0][b"ntasks"] == 2
    assert b"qos" not in runs[0]
    assert b"extra" not in runs[0]
    assert store.call("GET", 9) == []
    with pytest.raises(redis.ResponseError, match="jobid must be"):
        store.call("GET", "x")


def _map(reply: Any) -> dict[bytes, Any]:
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def test_agg(store: Store) -> None:
    store.put(
        job(1, node_count=2, cpu_count=8),
        job(2, user="bob", start=0, node_count=None),
        job(3, NOON + 86400, account=None),
        job(4, user=None),
    )
    by_user = store.call("AGG", "BY", "user")
    assert by_user == [
        [b"alice", 2, 3 * 500, 12 * 500, 200, 1000],
        [b"bob", 1, 0, 0, 600, 0],
        [None, 1, 500, 2000, 100, 500],
    ]
    by_both = store.call("AGG", "BY", "account", "day")
    assert [row[:3] for row in by_both] == [
        [b"phys", b"%d" % (DAY * 86400), 3],
        [None, b"%d" % (DAY * 86400 + 86400), 1],
    ]
    assert [row[:2] for row in store.call("AGG", "BY", "state", "user", "bob")] == [[b"3", 1]]
    assert store.call("AGG", "BY", "hour", "user", "nobody") == []
    assert len(store.call("AGG", "BY", "user", "limit", "1")) == 1


@pytest.mark.parametrize(
    "args", [("user", "user"), ("BY", "colour"), ("BY", "user", "colour"), ("BY", "user", "colour", "x")]
)
def test_wrong_agg(store: Store, args: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError):
        store.call("AGG", *args)


def test_trim(store: Store) -> None:
    store.put(*(job(i, NOON + i * 86400) for i in range(1, 6)))
    assert store.call("TRIM", "BEFORE", (DAY + 3) * 86400) == 2
    assert store.call("TRIM", "BEFORE", (DAY + 4) * 86400 - 1) == 0
    assert store.ids() == [3, 4, 5]
    with pytest.raises(redis.ResponseError, match="syntax"):
        store.call("TRIM", "BEFORE", "x")


def test_info(store: Store) -> None:
    empty = store.info()
    assert (empty["jobs"], empty["oldest"], empty["newest"]) == (0, None, None)
    store.put(job(1, NOON), job(2, NOON + 86400))
    full = store.info()
    assert (full["jobs"], full["segments"], full["oldest"], full["newest"]) == (2, 2, NOON, NOON + 86400)
    assert full["bytes"] > 0
    assert (full["protocol"], full["record"], full["role"], full["aof_enabled"]) == (1, 1, b"master", 0)
    assert full["maxmemory_policy"] == b"noeviction"
    assert full["appendfsync"] == b"everysec"
    assert full["used_memory"] > full["bytes"]
    assert abs(full["time_ms"] / 1000 - time.time()) < 60
    assert "segment_sizes" not in full


def test_info_of_segments(store: Store) -> None:
    soon = int(time.time()) // 86400 * 86400
    store.put(job(1, NOON), job(2, NOON), job(3, NOON + 86400))
    store.put(job(4, soon), options=("TTL", 86400))
    rows = store.info("SEGMENTS")["segment_sizes"]
    assert [(row[0], row[1]) for row in rows] == [(DAY, 2), (DAY + 1, 1), (soon // 86400, 1)]
    assert sum(row[2] for row in rows) == store.info()["bytes"]
    assert [row[3] for row in rows] == [None, None, (soon + 2 * 86400) * 1000]


def test_prefixes_and_databases_are_apart(store: Store) -> None:
    other = Store(store.client, "a:seg:b")
    store.put(job(1))
    other.put(job(2))
    assert store.ids() == [1]
    assert other.ids() == [2]
    store.client.swapdb(0, 1)
    assert store.ids() == []
    store.client.swapdb(0, 1)
    assert store.ids() == [1]


def test_case_of_letters_is_ignored_where_sacct_lowers_words(store: Store) -> None:
    names = ["Train", "train", "TRAIN", "train1", "tra\tn", "long Name With More Than Sixteen Bytes", None]
    store.put(*(job(i, name=name, user=name) for i, name in enumerate(names, 1)))
    assert store.ids("name", "tRaIn") == [1, 2, 3]
    assert store.ids("name", "LONG name with more than sixteen bytes") == [6]
    assert store.ids("name", "TRA\x0aN") == []
    assert store.ids("name", "") == [7]
    assert store.ids("user", "train") == [2]
