# SPDX-License-Identifier: MIT
"""A segment's life as a Redis value: files, replicas, copies, expiry, hostile payloads."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job, pack

MakeRedis = Callable[..., RedisServer]


def fill(store: Store, count: int = 3000) -> None:
    """Jobs over three days, some late, some reported twice, some with a time to live."""
    rng = random.Random(7)
    jobs = [
        job(
            i,
            NOON + rng.randrange(200_000),
            name=f"job {i % 17}",
            work_dir=f"/scratch/{i}/{rng.random()}",
            extra={"std_out": f"{i}.out"},
        )
        for i in range(1, count)
    ]
    for at in range(0, len(jobs), 100):
        store.put(*jobs[at : at + 100])
    store.put(*({**record, "end": record["end"] + 10, "state": 5} for record in jobs[:200]))
    store.put(*jobs[500:600], options=("TTL", 10**9))
    store.call("PUT", "SPOOL", "s", 1, "RECORDS", pack(jobs[0]))


def test_debug_reload(store: Store) -> None:
    fill(store)
    before, digest = store.find(), store.digest()
    store.client.execute_command("DEBUG", "RELOAD")
    assert store.digest() == digest
    assert store.find() == before


def test_save_and_restart(make_redis: MakeRedis) -> None:
    server = make_redis("rdb", options={"save": "3600 1000000"})
    with server.client() as client:
        fill(Store(client))
        digest, before = Store(client).digest(), Store(client).find()
        client.save()
    server.kill()
    server.start()
    with server.client() as client:
        assert Store(client).digest() == digest
        assert Store(client).find() == before
        assert Store(client).put(before[5]) == 0


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_aof_restart_and_rewrite(make_redis: MakeRedis, preamble: str) -> None:
    server = make_redis("aof", options={"appendonly": "yes", "appendfsync": "always", "aof-use-rdb-preamble": preamble})
    with server.client() as client:
        fill(Store(client))
        digest = Store(client).digest()
    server.kill()
    server.start()
    with server.client() as client:
        assert Store(client).digest() == digest
        client.bgrewriteaof()
        wait_until(
            lambda: (
                not client.info("persistence")["aof_rewrite_in_progress"]
                and not client.info("persistence")["aof_rewrite_scheduled"]
            )
        )
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
        Store(client).put(job(99999))
        digest = Store(client).digest()
    server.kill()
    server.start()
    with server.client() as client:
        assert Store(client).digest() == digest


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_replica(make_redis: MakeRedis) -> None:
    master = make_redis("master")
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {tcp_port(master)}"})
    with master.client() as m, replica.client() as r:
        first = Store(m)
        fill(first, 500)
        wait_until(lambda: r.info("replication")["master_link_status"] == "up")
        fill(first, 1500)
        m.hset(
            "job:4242",
            mapping={"JobID": 4242, "UID": 1, "GID": 1, "State": 3, "Start": NOON - 1, "End": NOON, "Submit": NOON - 2},
        )
        m.expire("job:4242", 1000)
        first.call("INDEX", 4242)
        first.call("TRIM", "BEFORE", (DAY + 1) * 86400)
        assert m.wait(1, 10000) == 1
        assert first.digest() == Store(r).digest()
        assert first.find("user", "alice") == Store(r).find("user", "alice")
        with pytest.raises(redis.ReadOnlyError):
            Store(r).put(job(1))
        before = m.info("replication")["master_repl_offset"]
        first.put(first.find("limit", 1)[0])  # known, yet WAIT must have something to wait for
        assert m.info("replication")["master_repl_offset"] > before


def tcp_port(server: RedisServer) -> int:
    """Lets the server listen on a loopback port of its own."""
    with server.client() as client:
        for port in range(21000 + random.randrange(8000), 30000):
            try:
                client.config_set("port", port)
            except redis.ResponseError:
                continue
            return port
    raise AssertionError("no free port")


def test_dump_restore_copy_rename(store: Store) -> None:
    store.put(*(job(i) for i in range(1, 1500)))
    key = f"job:seg:{DAY}"
    digest = store.client.execute_command("DEBUG", "DIGEST-VALUE", key)
    payload = store.client.dump(key)
    store.client.copy(key, f"other:seg:{DAY}")
    store.client.rename(key, f"third:seg:{DAY}")
    store.client.restore(f"fourth:seg:{DAY}", 0, payload)
    store.client.move(f"third:seg:{DAY}", 1)
    assert store.find() == []
    for prefix in ("other", "fourth"):
        assert len(Store(store.client, prefix).find()) == 1499
        assert store.client.execute_command("DEBUG", "DIGEST-VALUE", f"{prefix}:seg:{DAY}") == digest
    store.client.select(1)
    assert len(Store(store.client, "third").find()) == 1499
    store.client.select(0)


def test_a_key_renamed_to_another_day_is_passed_over(store: Store) -> None:
    store.put(job(1), job(2, NOON + 86400))
    store.client.rename(f"job:seg:{DAY}", f"job:seg:{DAY + 5}")
    assert store.ids() == [2]
    with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE"):
        store.put(job(3, NOON + 5 * 86400))


def test_set_by_hand_over_a_segment(store: Store) -> None:
    store.put(job(1), job(2, NOON + 86400))
    store.client.set(f"job:seg:{DAY}", "x")
    assert store.ids() == [2]
    assert store.info()["segments"] == 1


class TestExpiry:
    def test_segment_expires_at_the_end_of_its_day_plus_ttl(self, store: Store) -> None:
        store.put(job(1), options=("TTL", 10**9))
        assert store.client.expiretime(f"job:seg:{DAY}") == (DAY + 1) * 86400 + 10**9

    def test_never_earlier(self, store: Store) -> None:
        key = f"job:seg:{DAY}"
        store.put(job(1), options=("TTL", 2 * 10**9))
        store.put(job(2), options=("TTL", 10**9))
        assert store.client.expiretime(key) == (DAY + 1) * 86400 + 2 * 10**9
        store.put(job(3))
        assert store.client.expiretime(key) == -1
        store.put(job(4), options=("TTL", 2 * 10**9))
        assert store.client.expiretime(key) == -1

    def test_rows_past_their_time_are_not_returned(self, store: Store) -> None:
        store.put(job(1), options=("TTL", 60))
        store.put(job(2), options=("TTL", 10**9))
        store.put(job(3))
        assert store.ids() == [2, 3]
        assert store.call("GET", 1) == []
        assert sum(row[1] for row in store.call("AGG", "BY", "user")) == 2

    def test_segment_past_its_time_goes(self, store: Store) -> None:
        store.put(job(1), options=("TTL", 60))
        assert store.ids() == []
        wait_until(lambda: store.client.dbsize() == 0)

    def test_a_longer_time_to_live_wins(self, store: Store) -> None:
        store.put(job(1), options=("TTL", 10**9))
        assert store.put(job(1), options=("TTL", 60)) == 0
        assert store.ids() == [1]
        assert store.put(job(1)) == 0
        assert store.client.expiretime(f"job:seg:{DAY}") == -1


class TestHostilePayload:
    """RESTORE takes bytes from anybody who may send it."""

    def test_every_truncation_and_flip(self, store: Store) -> None:
        store.put(*(job(i, extra={"std_out": "%j.out"}) for i in range(1, 40)))
        key = f"job:seg:{DAY}"
        payload = store.client.dump(key)
        body, footer = payload[:-8], payload[-10:-8]
        assert body.endswith(footer)
        rng = random.Random(3)
        survivors = 0
        for round_ in range(600):
            bad = bytearray(body)
            if round_ % 3 == 0:
                del bad[rng.randrange(len(bad) - 2) : len(bad) - 2]
            else:
                for _ in range(rng.randrange(1, 4)):
                    bad[rng.randrange(len(bad) - 2)] ^= 1 << rng.randrange(8)
            store.client.delete("x:seg:1")
            try:
                store.client.restore("x:seg:1", 0, bytes(bad) + crc64(bytes(bad)), replace=True)
                survivors += 1
            except redis.ResponseError:
                continue
            store.client.execute_command("DEBUG", "DIGEST-VALUE", "x:seg:1")
        assert store.client.ping()
        assert survivors < 600


def crc64(data: bytes) -> bytes:
    """Redis' own check sum (Jones), so that a changed payload reaches the module."""
    crc = 0
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc.to_bytes(8, "little")


def _crc_table() -> list[int]:
    poly = 0x95AC9329AC4BC9B5
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (poly if crc & 1 else 0)
        table.append(crc)
    return table


CRC_TABLE = _crc_table()


def test_other_clients_stay_in_their_database(store: Store) -> None:
    """A module that listens to events makes Valkey 8.1 forget it."""
    store.client.set("x", "1")
    store.client.copy("x", "y", destination_db=1)
    store.client.set("z", "1")
    store.client.move("z", 1)
    assert store.client.get("x") == b"1"


def test_renamed_segment_is_found_after_an_aof_restart(make_redis: MakeRedis) -> None:
    server = make_redis("aof", options={"appendonly": "yes", "appendfsync": "always"})
    with server.client() as client:
        Store(client).put(job(1))
        client.rename(f"job:seg:{DAY}", f"new:seg:{DAY}")
    server.kill()
    server.start()
    with server.client() as client:
        assert Store(client, "new").ids() == [1]
