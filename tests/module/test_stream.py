# SPDX-License-Identifier: MIT
"""PUT and INDEX with EVENTS: one entry of <prefix>:events for each record that was stored, in the same effect."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import NOON, Job, job, pack
from tests.module.test_life import tcp_port, wait_until

Entry = tuple[str, dict[str, Any]]
MS = NOON * 1000
HASH = {"JobID": 9, "UID": 1, "GID": 1, "State": 3, "Start": NOON - 1, "End": NOON, "Submit": NOON - 2}


def put(store: Store, *jobs: Job, seq: int, keep: int = 100, ms: int = MS) -> int:
    return store.put(*jobs, options=("SPOOL", "s", seq, "EVENTS", keep, ms))


def entries(client: Any) -> list[Entry]:
    """All of the stream, oldest first."""
    found = []
    for name, fields in client.xrange("job:events"):
        assert list(fields) == [b"event"]
        found.append((name.decode(), json.loads(fields[b"event"])))
    return found


def origins(client: Any) -> list[str | None]:
    return [fields["id"] for _, fields in entries(client)]


def test_an_event_says_whose_job_ended_how(store: Store) -> None:
    ended = job(7, name="sim", state=5, exit_code=3 << 8)
    store.put(ended, options=("SPOOL", "s", 41, "GAP", "EVENTS", 100, MS))
    assert entries(store.client) == [
        (
            f"{MS}-0",
            {
                "id": "s/41", "job": "7", "job_id": 7, "cluster": "c", "uid": 1000, "user": "alice",
                "account": "phys", "partition": "batch", "name": "sim", "state": "FAILED", "exit": "3:0",
                "submit": NOON - 600, "start": NOON - 500, "end": NOON, "restarts": 0,
            },
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"array_job_id": 100, "array_task_id": 5}, {"job": "100_5"}),
        ({"array_job_id": 100, "array_task_id": 0}, {"job": "100_0"}),
        ({"array_job_id": 100}, {"job": "7"}),
        ({"het_job_id": 100, "het_job_offset": 1}, {"job": "100+1"}),
        ({"exit_code": 9}, {"exit": "0:9"}),
        ({"exit_code": 0xFF00 | 0x80}, {"exit": "255:0"}),
        ({"exit_code": None}, {"exit": None}),
        ({"user": None, "account": None}, {"user": None, "account": None}),
        ({"user": "", "partition": ""}, {"user": "", "partition": ""}),
        ({"start": 0}, {"start": 0}),
        ({"uid": 2**32 - 1, "restart_count": 10}, {"uid": 2**32 - 1, "restarts": 10}),
        ({"state": 4, "extra": {"state_flags": 1 << 10}}, {"state": "REQUEUED"}),
        ({"state": 99}, {"state": "99"}),
    ],
)
def test_ids_states_and_what_is_absent(store: Store, fields: Job, shown: dict[str, Any]) -> None:
    put(store, job(7, **fields), seq=1)
    [(_, event)] = entries(store.client)
    assert {name: event[name] for name in shown} == shown


def test_numbers_of_every_length(store: Store) -> None:
    """Two digits are written at a time."""
    ends = [NOON + 10**power + more for power in range(10) for more in (0, 1)]
    ids = [10**power + more for power in range(10) for more in (-1, 0, 1) if 10**power + more > 0]
    put(store, *(job(number) for number in ids), seq=1)
    put(store, *(job(number, end) for number, end in enumerate(ends, 2**31)), seq=len(ids) + 1)
    found = [event for _, event in entries(store.client)]
    assert [event["job_id"] for event in found[: len(ids)]] == ids
    assert [event["job"] for event in found[: len(ids)]] == [str(number) for number in ids]
    assert [event["end"] for event in found[len(ids) :]] == ends


GOOD = b'"\\/\x01\x1f\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80'
# a surrogate, an overlong slash, a sequence beyond Unicode, two that are cut, two strays
BAD = b"\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80\xe2\x82a\xf0\x9f\x98 \xff\x80"


@pytest.mark.parametrize("field", ["cluster", "user", "account", "partition", "name"])
def test_any_bytes_of_a_name_make_json(store: Store, field: str) -> None:
    """What is no UTF-8 is replaced as by Python."""
    chance = random.Random(field)
    names = [GOOD, BAD, b"a\n\t'\r", b"\xe2", b'"', b"x" * 70_000, b"\x01" * 20_000]
    names += [bytes(chance.choices(GOOD + BAD, k=chance.randrange(20))) for _ in range(300)]
    for number, name in enumerate(names, 1):
        record = job(number) | {field: name.decode("utf-8", "surrogateescape")}
        put(store, record, seq=number, keep=0)
    found = [event[field] for _, event in entries(store.client)]
    assert found == [name.decode("utf-8", "replace") for name in names]


def test_one_event_for_each_record_stored_and_none_for_one_that_is_known(store: Store) -> None:
    assert put(store, job(1), job(2), job(1), seq=1) == 2
    assert put(store, job(2), job(3), seq=2) == 1
    assert origins(store.client) == ["s/1", "s/2", "s/3"]


@pytest.mark.parametrize("days", [0, 3])
def test_a_later_report_of_a_run_says_so(store: Store, days: int) -> None:
    put(store, job(1), seq=1)
    later = job(1) | {"end": NOON + 1 + days * 86400}
    put(store, later, seq=2)
    put(store, job(1), seq=3)
    assert [event.get("again") for _, event in entries(store.client)] == [None, True]


def test_without_the_word_there_are_no_events(store: Store) -> None:
    store.put(job(1))
    assert not store.client.exists("job:events")


def test_a_batch_that_is_refused_leaves_no_event(store: Store) -> None:
    with pytest.raises(redis.ResponseError, match="BADRECORD 1"):
        store.call("PUT", "EVENTS", 10, MS, "RECORDS", pack(job(1)), b"\x93")
    with pytest.raises(redis.ResponseError, match="OUTOFSEQ 1"):
        put(store, job(1), seq=5)
    assert not store.client.exists("job:events")


def test_ids_rise_though_the_senders_clock_goes_back(store: Store) -> None:
    put(store, job(1), job(2), seq=1, ms=MS)
    put(store, job(3), seq=3, ms=MS - 10_000)
    put(store, job(4), seq=4, ms=MS + 5)
    assert [name for name, _ in entries(store.client)] == [f"{MS}-0", f"{MS}-1", f"{MS}-2", f"{MS + 5}-0"]


def test_ids_rise_over_entries_that_were_deleted(store: Store) -> None:
    put(store, job(1), seq=1)
    store.client.xdel("job:events", f"{MS}-0")
    put(store, job(2), seq=2)
    assert [name for name, _ in entries(store.client)] == [f"{MS}-1"]


def test_some_records_of_a_range_keep_their_numbers(store: Store) -> None:
    """Whoever follows the stream tells by them what came again, also when it comes in another PUT."""
    words = ("SPOOL", "s", 5, "LAST", 100, "AT", "0,7,95", "GAP", "EVENTS", 100, MS)
    assert store.put(job(1), job(2), job(3), options=words) == 3
    assert origins(store.client) == ["s/5", "s/12", "s/100"]
    store.put(job(4), options=("SPOOL", "s", 101, "LAST", 200, "EVENTS", 100, MS))
    assert origins(store.client)[-1] == "s/101"


def test_the_last_sequence_number_of_a_millisecond_carries_over(store: Store) -> None:
    store.client.xadd("job:events", {"event": "{}"}, id=f"{MS}-{2**64 - 1}")
    put(store, job(1), job(2), seq=1)
    assert [name for name, _ in entries(store.client)][1:] == [f"{MS + 1}-0", f"{MS + 1}-1"]


def test_no_id_left_is_an_error_and_stores_nothing(store: Store) -> None:
    store.client.xadd("job:events", {"a": "b"}, id=f"{2**64 - 1}-{2**64 - 1}")
    with pytest.raises(redis.ResponseError, match="no ids left"):
        put(store, job(1), seq=1)
    assert store.ids() == []


def test_the_stream_is_capped(store: Store) -> None:
    for number in range(1, 30):
        put(store, job(2 * number), job(2 * number + 1), seq=2 * number - 1, keep=5)
    assert [event["job"] for _, event in entries(store.client)] == ["55", "56", "57", "58", "59"]
    info = store.info()
    assert (info["events"], info["events_added"]) == (5, 58)
    assert info["events_last"].decode() == entries(store.client)[-1][0]
    assert info["events_first"].decode() == entries(store.client)[0][0]


def test_keep_0_keeps_all(store: Store) -> None:
    for number in range(1, 300):
        put(store, job(number), seq=number, keep=0)
    assert store.client.xlen("job:events") == 299


@pytest.mark.parametrize(
    "words", [("EVENTS", "x", 1), ("EVENTS", 10**9 + 1, 1), ("EVENTS", 1, -1), ("EVENTS", 1), ("EVENTS", 1, 1) * 2]
)
def test_bad_words(store: Store, words: tuple[Any, ...]) -> None:
    with pytest.raises(redis.ResponseError, match="EVENTS"):
        store.call("PUT", *words, "RECORDS", pack(job(1)))


def test_another_kind_of_key_is_an_error_and_stores_nothing(store: Store) -> None:
    store.client.set("job:events", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE the key of the events"):
        put(store, job(1), seq=1)
    assert store.ids() == []


def test_who_waits_in_xread_is_woken(store: Store, server: RedisServer) -> None:
    put(store, job(1), seq=1)
    with server.client() as other:
        connection = other.connection_pool.get_connection()
        connection.send_command("XREAD", "BLOCK", 0, "STREAMS", "job:events", "$")
        while not store.client.info("clients")["blocked_clients"]:
            pass
        put(store, job(2), seq=2)
        [[_, [[name, _]]]] = connection.read_response()
        assert name == f"{MS}-1".encode()


def test_index_tells_of_its_job_where_events_are_kept(store: Store) -> None:
    store.client.hset("job:9", mapping=HASH)
    store.call("INDEX", 9)
    assert not store.client.exists("job:events")
    put(store, job(1), seq=1)
    store.client.hset("job:10", mapping=HASH | {"JobID": 10})
    store.call("INDEX", 10)
    store.call("INDEX", 10)
    assert [event["job"] for _, event in entries(store.client)] == ["1", "10"]
    assert origins(store.client)[1] is None


def test_a_replica_and_the_append_only_file_come_to_the_same(make_redis: Callable[..., RedisServer]) -> None:
    master = make_redis("master", options={"appendonly": "yes", "appendfsync": "always"})
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with master.client() as client, replica.client() as other:
        store = Store(client)
        wait_until(lambda: other.info("replication")["master_link_status"] == "up")
        for number in range(1, 60):
            put(store, job(number), job(number), seq=2 * number - 1, keep=20, ms=MS + number // 7)
        client.hset("job:99", mapping=HASH | {"JobID": 99})
        store.call("INDEX", 99)
        assert client.wait(1, 10000) == 1
        before = entries(client)
        assert len(before) == 21  # INDEX leaves it to the next PUT to cut
        assert entries(other) == before
        assert Store(other).digest() == store.digest()
    master.kill()
    master.start()
    with master.client() as client:
        assert entries(client) == before
