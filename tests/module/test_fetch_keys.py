# SPDX-License-Identifier: MIT
"""FETCH with KEYS, for whoever merges the rows of several prefixes; and CLOSE."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import redis

from tests.module.conftest import Store
from tests.module.records import DAY, NOON, Job, job, pack, unpack


def keys_of(data: bytes) -> list[tuple[int, int, int]]:
    return list(struct.iter_unpack("<QII", data))


def pages(store: Store, count: int, *words: str) -> list[tuple[list[tuple[int, int, int]], list[Any]]]:
    """All pages of query q, keys and rows; the last one has none."""
    out = []
    while True:
        keys, rows = store.call("FETCH", "q", count, *words, "KEYS")
        out.append((keys_of(keys), rows))
        if not rows:
            return out


def some_jobs() -> list[Job]:
    """Of every shape: dense and sparse days, equal ends, equal ids, strings of 9 to 10,000 bytes."""
    few = [job(40 - i, NOON + i // 3, name="n" * (i * i * 6 + 1)) for i in range(40)]
    again = [job(7, NOON + i, cluster=f"c{i}") for i in range(3)]
    many = [job(1000 + i * 7919 % 3000, NOON + 86400 * 2 + i // 2) for i in range(3000)]
    return [*few, *again, *many, job(2**32 - 1, (DAY + 9) * 86400)]


@pytest.mark.parametrize("count", [1, 64, 700])
def test_each_row_comes_with_its_end_job_id_and_size(store: Store, count: int) -> None:
    for record in some_jobs():
        store.put(record)
    assert store.call("MATCH", "q") is not None
    told = pages(store, count, "RECORDS")
    assert told.pop() == ([], [])
    records = [unpack(row) for _, rows in told for row in rows]
    assert records == store.find()
    keys = [key for keys, _ in told for key in keys]
    assert [(end, job_id) for end, job_id, _ in keys] == [(record["end"], record["job_id"]) for record in records]
    assert keys == sorted(keys, key=lambda key: key[:2])
    sizes = [len(b"$%d\r\n%b\r\n" % (len(row), row)) for _, rows in told for row in rows]
    assert [size for _, _, size in keys] == sizes


def test_upstreams_rows_have_keys_but_no_size(store: Store) -> None:
    store.put(job(1), job(2, NOON + 5))
    store.call("MATCH", "q")
    (keys, rows), last = pages(store, 10)
    assert [row[2] for row in rows] == [b"1", b"2"]
    assert keys == [(NOON, 1, 0), (NOON + 5, 2, 0)]
    assert last == ([], [])


def test_the_query_is_closed_when_done(store: Store) -> None:
    store.put(job(1))
    store.call("MATCH", "q")
    opened = store.info()["queries"]
    assert pages(store, 5, "RECORDS") == [([(NOON, 1, len(pack(job(1))) + 7)], [pack(job(1))]), ([], [])]
    assert store.info()["queries"] == opened - 1


def test_inside_multi(store: Store) -> None:
    store.put(*(job(i, NOON + i, name=f"n{i}") for i in range(1, 500)))
    pipe = store.client.pipeline(transaction=True)
    pipe.execute_command("SLURMJC.MATCH", "job", "q", "name", "n499")
    pipe.execute_command("SLURMJC.FETCH", "job", "q", 5, "RECORDS", "KEYS")
    found, (keys, rows) = pipe.execute()
    assert found == b"job:mat:q"
    assert keys_of(keys)[0][:2] == (NOON + 499, 499)
    assert rows == [pack(job(499, NOON + 499, name="n499"))]


def test_close_forgets_the_query_and_no_other(store: Store) -> None:
    store.put(job(1), job(2))
    store.call("MATCH", "q")
    store.call("MATCH", "other")
    opened = store.info()["queries"]
    assert store.call("FETCH", "q", "close") == []
    assert store.info()["queries"] == opened - 1
    for words in ((5, "RECORDS"), ("CLOSE",)):
        with pytest.raises(redis.ResponseError, match=r"^NOQUERY no query 'q' is open"):
            store.call("FETCH", "q", *words)
    assert len(store.fetch("other")) == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((1, "KEYS", "RECORDS"), "syntax"),
        ((1, "KEYS", "KEYS"), "syntax"),
        ((1, "RECORDS", "RECORDS"), "syntax"),
        ((1, "RECORDS", "ROWS"), "syntax"),
        (("CLOSE", "KEYS"), "max must be an integer from 1"),
        (("CLOSED",), "max must be an integer from 1"),
        ((1, "RECORDS", "KEYS", "KEYS"), "wrong number of arguments"),
    ],
)
def test_wrong_words_leave_the_query_as_it_was(store: Store, words: tuple[Any, ...], why: str) -> None:
    store.put(job(1))
    store.call("MATCH", "q")
    with pytest.raises(redis.ResponseError, match=why):
        store.call("FETCH", "q", *words)
    assert len(store.fetch("q")) == 1
