# SPDX-License-Identifier: MIT
"""PUT: exactly once, all or nothing, in order."""

from __future__ import annotations

import msgpack
import pytest
import redis

from tests.module.conftest import Store
from tests.module.records import DAY, FIELDS, NOON, SCHEMA, job, pack


def test_the_same_record_is_stored_once(store: Store) -> None:
    assert store.put(job(1), job(2), job(1)) == 2
    assert store.put(job(1)) == 0
    assert store.ids() == [1, 2]


def test_rows_come_in_order_of_completion(store: Store) -> None:
    store.put(job(5, NOON + 1), job(3, NOON + 2), job(9, NOON), job(4, NOON + 1), job(1, NOON + 90000))
    assert store.ids() == [9, 4, 5, 3, 1]


def test_a_later_report_of_a_run_replaces_the_earlier_one(store: Store) -> None:
    first = job(7, NOON)
    later = {**first, "end": NOON + 10, "state": 5}
    assert store.put(first) == 1
    assert store.put(later) == 1
    assert store.put(first) == 0
    assert store.find() == [later]


@pytest.mark.parametrize("days", [1, 3, 400])
def test_a_later_report_replaces_across_days(store: Store, days: int) -> None:
    first = job(7, NOON)
    later = {**first, "end": NOON + days * 86400}
    store.put(first)
    assert store.put(later) == 1
    assert store.put(first) == 0
    assert store.find() == [later]
    assert store.client.keys("job:seg:*") == [f"job:seg:{DAY + days}".encode()]


def test_a_report_whose_clock_went_back_is_replaced_too(store: Store) -> None:
    backward = job(7, NOON, submit=NOON + 5 * 86400, start=NOON + 5 * 86400)
    later = {**backward, "end": NOON + 6 * 86400}
    store.put(backward)
    store.put(later)
    assert store.find() == [later]


def test_runs_of_one_id_are_kept_apart(store: Store) -> None:
    runs = [
        job(1, NOON),
        job(1, NOON, cluster="d"),
        job(1, NOON, restart_count=1),
        job(1, NOON, submit=NOON - 1),
        job(1, NOON, cluster=None),
    ]
    assert store.put(*runs) == 5
    assert store.put(*runs) == 0
    assert len(store.find("job", "1")) == 5


def test_bad_record_stores_nothing(store: Store) -> None:
    with pytest.raises(redis.ResponseError, match=r"^BADRECORD 1 "):
        store.call("PUT", "SPOOL", "s", 1, "RECORDS", pack(job(1)), b"\x93", pack(job(2)))
    assert store.client.keys("*") == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"job_id": 0}, "job_id is 0"),
        ({"end": 0}, "end is 0"),
        ({"version": 2}, "version"),
        ({"user": 5}, "string"),
        ({"uid": None}, "nil"),
    ],
)
def test_bad_field(store: Store, fields: dict[str, object], why: str) -> None:
    with pytest.raises(redis.ResponseError, match=f"BADRECORD 0 .*{why}"):
        store.put(job(1) | fields)
    assert store.client.dbsize() == 0


def test_every_field_comes_back(store: Store) -> None:
    for vector in _vectors():
        store.client.flushall()
        store.call("PUT", "RECORDS", vector)
        store.call("MATCH", "q")
        assert store.call("FETCH", "q", 1, "RECORDS") == [vector]


def _vectors() -> list[bytes]:
    nasty = job(
        4294967295,
        253402300799,
        array_job_id=4294967295,
        array_task_id=0,
        het_job_id=0,
        het_job_offset=4294967295,
        sluid=2**64 - 1,
        user="",
        name="\udcff\n|\x1b",
        time_limit="UNLIMITED",
        nodes="n" * 100000,
        extra={"state_flags": 8192, "unknown": [1, -5, {"a": None}], "script": "x" * 200000},
    )
    full = {field["name"]: _largest(field) for field in SCHEMA["fields"]}
    full |= {"version": 1, "extra": {}, "time_limit": 4294967293}
    empty = {
        **dict.fromkeys(FIELDS),
        "version": 1,
        "job_id": 1,
        "uid": 0,
        "gid": 0,
        "state": 0,
        "submit": 0,
        "eligible": 0,
        "start": 0,
        "end": 1,
    }
    empty |= {"restart_count": 0, "extra": {}}
    return [
        pack(nasty),
        pack(full),
        pack(empty),
        pack({**empty, "sluid": 0, "time_limit": "Partition_Limit"}),
        pack({**empty, "time_limit": 0, "priority": 0}),
    ]


def _largest(field: dict[str, object]) -> object:
    return "x" if field["type"] == "str" else field.get("max", 253402300799)


def test_longer_arrays_are_taken(store: Store) -> None:
    row = msgpack.unpackb(pack(job(1)))
    store.call("PUT", "RECORDS", msgpack.packb([*row, "later", {"a": 1}]))
    assert store.find() == [job(1)]


class TestSpool:
    def test_watermark(self, store: Store) -> None:
        assert store.call("PUT", "SPOOL", "s", 1, "RECORDS", pack(job(1)), pack(job(2))) == 2
        assert store.info()["watermarks"] == [b"s", 2]
        assert store.call("PUT", "SPOOL", "s", 2, "RECORDS", pack(job(2)), pack(job(3))) == 1
        assert store.call("PUT", "SPOOL", "s", 1, "RECORDS", pack(job(1))) == 0
        assert store.info()["watermarks"] == [b"s", 3]

    def test_hole_is_refused(self, store: Store) -> None:
        with pytest.raises(redis.ResponseError, match=r"^OUTOFSEQ 1$"):
            store.call("PUT", "SPOOL", "s", 2, "RECORDS", pack(job(1)))
        assert store.client.dbsize() == 0

    def test_gap(self, store: Store) -> None:
        assert store.call("PUT", "SPOOL", "s", 5, "GAP", "RECORDS", pack(job(1))) == 1
        assert store.info()["watermarks"] == [b"s", 5]
        assert store.call("PUT", "SPOOL", "s", 101, "GAP", "RECORDS") == 0
        assert store.info()["watermarks"] == [b"s", 100]

    def test_some_records_of_a_range(self, store: Store) -> None:
        assert store.call("PUT", "SPOOL", "s", 1, "LAST", 10, "RECORDS", pack(job(1)), pack(job(2))) == 2
        assert store.info()["watermarks"] == [b"s", 10]
        assert store.call("PUT", "SPOOL", "s", 11, "LAST", 500, "RECORDS") == 0
        assert store.info()["watermarks"] == [b"s", 500]
        assert store.call("PUT", "SPOOL", "s", 1, "LAST", 499, "RECORDS", pack(job(1))) == 0
        assert store.info()["watermarks"] == [b"s", 500]
        assert store.call("PUT", "SPOOL", "s", 501, "LAST", 500, "RECORDS") == 0
        assert store.call("PUT", "SPOOL", "s", 501, "LAST", 501, "RECORDS", pack(job(3))) == 1
        assert store.info()["watermarks"] == [b"s", 501]

    def test_some_records_behind_a_hole(self, store: Store) -> None:
        with pytest.raises(redis.ResponseError, match=r"^OUTOFSEQ 1$"):
            store.call("PUT", "SPOOL", "s", 2, "LAST", 9, "RECORDS", pack(job(1)))
        assert store.client.dbsize() == 0
        assert store.call("PUT", "SPOOL", "s", 2, "LAST", 9, "GAP", "RECORDS", pack(job(1))) == 1
        assert store.info()["watermarks"] == [b"s", 9]

    def test_empty_record_stands_for_a_number(self, store: Store) -> None:
        assert store.call("PUT", "SPOOL", "s", 1, "RECORDS", pack(job(1)), b"", pack(job(2))) == 2
        assert store.info()["watermarks"] == [b"s", 3]

    def test_foreign_watermark(self, store: Store) -> None:
        store.client.hset("job:spools", "s", "many")
        with pytest.raises(redis.ResponseError, match="not a number"):
            store.call("PUT", "SPOOL", "s", 1, "RECORDS", pack(job(1)))
        store.client.set("job:spools", "x")
        with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE"):
            store.call("PUT", "SPOOL", "s", 1, "RECORDS", pack(job(1)))
        assert store.client.keys("job:seg:*") == []


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("TTL", "5"),
        ("TTL", "0", "RECORDS"),
        ("TTL", "-1", "RECORDS"),
        ("TTL", "1e9", "RECORDS"),
        ("TTL", "31536000001", "RECORDS"),
        ("TTL", "1", "TTL", "2", "RECORDS"),
        ("SPOOL", "", "1", "RECORDS"),
        ("SPOOL", "a b", "1", "RECORDS"),
        ("SPOOL", "a" * 65, "1", "RECORDS"),
        ("SPOOL", "s", "0", "RECORDS"),
        ("SPOOL", "s", "9223372036854775808", "RECORDS"),
        ("SPOOL", "s", "9223372036854775807", "GAP", "RECORDS", b""),
        ("GAP", "RECORDS"),
        ("LAST", "5", "RECORDS"),
        ("SPOOL", "s", "1", "LAST", "RECORDS"),
        ("SPOOL", "s", "1", "LAST", "x", "RECORDS"),
        ("SPOOL", "s", "1", "LAST", "-1", "RECORDS"),
        ("SPOOL", "s", "1", "LAST", "9223372036854775808", "RECORDS"),
        ("SPOOL", "s", "5", "LAST", "3", "RECORDS"),
        ("SPOOL", "s", "1", "LAST", "1", "RECORDS", b"", b""),
        ("SPOOL", "s", "1", "GAP", "LAST", "5", "RECORDS"),
        ("SPOOL", "s", "1", "LAST", "5", "LAST", "5", "RECORDS"),
        ("SPOOL", "s", "1", "AT", "0", "RECORDS", b""),
        *(
            ("SPOOL", "s", "1", "LAST", "5", "AT", offsets, "RECORDS", b"", b"")
            for offsets in ("0", "0,", ",0", "0,1,2", "0,0", "1,0", "0,5", "0,1,", "0;1", "a,b", "-1,0", f"0,{2**64}")
        ),
        ("nonsense", "RECORDS"),
    ],
)
def test_wrong_arguments(store: Store, args: tuple[object, ...]) -> None:
    with pytest.raises(redis.ResponseError):
        store.call("PUT", *args)
    assert store.client.dbsize() == 0


def test_segment_key_of_another_type(store: Store) -> None:
    store.client.set(f"job:seg:{DAY + 1}", "x")
    with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE"):
        store.put(job(1), job(2, NOON + 86400))
    assert store.client.keys("*") == [f"job:seg:{DAY + 1}".encode()]
    assert store.put(job(1)) == 1
    assert store.ids() == [1]


def test_out_of_memory_changes_nothing(store: Store) -> None:
    store.put(job(1))
    store.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            store.put(job(2))
        assert store.ids() == [1]
    finally:
        store.client.config_set("maxmemory", 0)
    assert store.put(job(2)) == 1


def test_days_without_jobs_are_packed_soon(store: Store) -> None:
    """However many other days there are that have nothing to pack."""
    full = DAY + 5
    for at in range(30):
        store.put(job(1000 + at, (DAY + at % 11) * 86400 + 7))
    store.put(*(job(i, full * 86400 + i, work_dir=f"/home/alice/{i}") for i in range(2000, 5000)))
    before = store.client.memory_usage(f"job:seg:{full}")
    for at in range(12):
        store.put(job(6000 + at, (DAY + 11) * 86400 + at))
    assert store.client.memory_usage(f"job:seg:{full}") < before / 3
    assert len(store.find()) == 3042
