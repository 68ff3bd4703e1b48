# SPDX-License-Identifier: MIT
"""RESTORE of small payloads that want much: memory, or time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.fuzz.rdb_payload import Payload, Value, pack, seal
from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, Job, job
from tests.module.records import pack as encode

KEY = f"job:seg:{DAY}"
MIB = 1 << 20


@pytest.fixture
def plain(make_redis: Callable[..., RedisServer]) -> Iterator[Store]:
    """A server whose payloads lie there as the module wrote them."""
    with make_redis(options={"rdbcompression": "no"}).client(socket_timeout=120) as client:
        yield Store(client)


def payload(store: Store, chunks: Iterator[list[Job]] | list[list[Job]]) -> bytes:
    """A DUMP of chunks of records, in order of completion."""
    store.put(job(1))
    dump = Payload.parse(bytes(store.client.dump(KEY) or b""))
    store.client.delete(KEY)
    values: list[Value] = [DAY, 0]
    for chunk in chunks:
        raw = b"".join(b"\x00" + encode(record) for record in chunk)  # a time to live of 0 and the record
        values += [len(chunk), len(raw), pack(raw)]
        values[1] = int(values[1]) + len(chunk)
    dump.values = values
    return seal(dump.body())


def refused(store: Store, data: bytes, why: str) -> None:
    with pytest.raises(redis.ResponseError, match="Bad data format"):
        store.client.restore(KEY, 0, data)
    assert why in log(store)
    assert not store.client.exists(KEY)
    assert store.client.ping()


def log(store: Store) -> str:
    with open(f"{store.client.config_get('dir')['dir']}/redis.log") as file:
        return file.read()


def large_names(count: int) -> Iterator[list[Job]]:
    """Each a megabyte in memory and a hundred bytes in the payload."""
    for i in range(1, count + 1):
        yield [job(i, NOON + i, name=f"{i}" + "x" * (MIB - 4096))]


def test_memory_far_beyond_its_size(plain: Store) -> None:
    data = payload(plain, large_names(300))
    assert len(data) < MIB
    refused(plain, data, "segment refused: it grows to more than 256 times its size")
    assert int(plain.client.info("memory")["used_memory_peak"]) < 200 * MIB
    plain.client.restore(KEY, 0, payload(plain, large_names(20)))
    assert len(plain.find()) == 20


def test_memory_past_maxmemory(plain: Store) -> None:
    data = payload(plain, large_names(50))
    plain.client.config_set("maxmemory", 40 * MIB)
    refused(plain, data, "segment refused: it grows past maxmemory")
    plain.client.config_set("maxmemory", 0)
    plain.client.restore(KEY, 0, data)
    assert len(plain.find()) == 50


def many_runs(count: int, spread: int) -> Iterator[list[Job]]:
    """Runs of one job, submitted one after the other (spread 1) or not."""
    for at in range(0, count, 1024):
        yield [
            job(7, NOON + i // 8, submit=NOON - 100_000 + i * spread % 99_991, start=NOON - 1)
            for i in range(at, min(at + 1024, count))
        ]


def test_time_for_runs_of_one_job(plain: Store) -> None:
    refused(plain, payload(plain, many_runs(60_000, 7919)), "segment refused: a job has too many runs")
    plain.client.restore(KEY, 0, payload(plain, many_runs(45_000, 1)))
    assert plain.info()["jobs"] == 45_000


def test_a_file_is_loaded_whatever_it_grows_to(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis("file", options={"rdbcompression": "no"})
    with server.client(socket_timeout=120) as client:
        store = Store(client)
        for chunk in large_names(100):
            store.put(*chunk)
        data = client.dump(KEY)
        client.save()
        client.delete(KEY)
        refused(store, data, "segment refused: it grows to more than 256 times its size")
    server.kill()
    server.start()
    with server.client(socket_timeout=120) as client:
        assert Store(client).info()["jobs"] == 100


def test_a_chunk_padded_with_nothing(plain: Store) -> None:
    """A frame that is skipped makes the payload long, so that it might grow the more."""
    dump = Payload.parse(payload(plain, large_names(1)))
    chunk = dump.values[-1]
    assert isinstance(chunk, bytes)
    dump.values[-1] = b"\x50\x2a\x4d\x18" + (2 * MIB).to_bytes(4, "little") + bytes(2 * MIB) + chunk
    refused(plain, seal(dump.body()), "segment refused: a chunk is larger packed than unpacked")
