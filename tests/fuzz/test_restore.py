# SPDX-License-Identifier: MIT
"""Segments with changed bytes, given to a real server by RESTORE, and then used.

SLURMJCD_FUZZ_SECONDS makes it go on for that long; SLURMJCD_FUZZ_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from tests.fuzz.rdb_payload import Payload, pack, seal, unpack
from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job

ROUNDS = 1000
SECONDS = float(os.environ.get("SLURMJCD_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("SLURMJCD_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
KEY = f"job:seg:{DAY}"
NUMBERS = [
    0,
    1,
    2,
    127,
    255,
    1024,
    1025,
    1 << 16,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 64) - 1,
]


@pytest.fixture
def server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis(options={"rdbcompression": "no"})


def segments(store: Store, rng: random.Random) -> list[bytes]:
    """DUMPs of a few segments of different size."""
    dumps = []
    for count in (1, 3, 40):
        store.client.flushall()
        store.put(
            *(
                job(i, NOON + rng.randrange(1000), nodes=f"n[{i}-{i + 3}]", extra={"std_out": "o" * rng.randrange(9)})
                for i in range(1, count + 1)
            ),
            options=rng.choice([(), ("TTL", 10**9)]),
        )
        dumps.append(bytes(store.client.dump(KEY) or b""))
    store.client.flushall()
    return dumps


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, repeats and overwrites."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(6):
            case 0 | 1:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                out[at] = rng.choice([0, 0x7F, 0x80, 0xC0, 0xC1, 0xCF, 0xDB, 0xDD, 0xDF, 0xFF])
            case 3:
                del out[at : at + rng.randrange(1, 16)]
            case 4:
                out[at:at] = out[at : at + rng.randrange(1, 32)]
            case _:
                out[at : at + 4] = rng.randbytes(4)
    return bytes(out)


def change_value(payload: Payload, rng: random.Random) -> None:
    """One value made another; a packed one is changed inside, half the time."""
    at = rng.randrange(len(payload.values))
    value = payload.values[at]
    if isinstance(value, int):
        payload.values[at] = rng.choice([*NUMBERS, max(value - 1, 0), (value + 1) % (1 << 64), rng.randrange(1 << 64)])
        return
    raw = unpack(value)
    if raw is None or rng.random() < 0.3:
        payload.values[at] = changed_bytes(value, rng)
        return
    if raw and rng.random() < 0.6:  # gently, so that some are taken
        here = rng.randrange(len(raw))
        raw = raw[:here] + bytes([raw[here] ^ 1 << rng.randrange(4)]) + raw[here + 1 :]
    else:
        raw = changed_bytes(raw, rng)
    payload.values[at] = pack(raw)
    before = payload.values[at - 1]
    if isinstance(before, int) and rng.random() < 0.8:
        payload.values[at - 1] = len(raw)  # the size it unpacks to


def changed(dump: bytes, rng: random.Random) -> bytes:
    """A payload RESTORE looks at: its check sum is right."""
    if rng.random() < 0.2:
        return seal(changed_bytes(dump[:-10], rng) + dump[-10:-8])
    payload = Payload.parse(dump)
    for _ in range(rng.randrange(1, 3)):
        if payload.values and rng.random() < 0.15:
            at = rng.randrange(len(payload.values))
            if rng.random() < 0.5:
                del payload.values[at]
            else:
                payload.values.insert(at, rng.choice([0, rng.choice(NUMBERS), b"", rng.choice(payload.values)]))
        elif payload.values:
            change_value(payload, rng)
    return seal(payload.body())


def commands(rng: random.Random) -> Iterator[tuple[Any, ...]]:
    """Everything that looks into a segment, in any order."""
    asked = [
        ("DEBUG", "DIGEST-VALUE", KEY),
        ("MEMORY", "USAGE", KEY),
        ("SLURMJC.GET", "job", rng.randrange(42)),
        ("SLURMJC.MATCH", "job", "q", "job", f"1-{rng.randrange(1, 50)}"),
        ("SLURMJC.FETCH", "job", "q", 1000),
        ("SLURMJC.MATCH", "job", "r", "node", "n[1-9]", "user", "alice"),
        ("SLURMJC.FETCH", "job", "r", 1000, "RECORDS"),
        ("SLURMJC.FETCH", "job", "r", 1000, "RECORDS", "KEYS"),
        ("SLURMJC.FETCH", "job", "r", "CLOSE"),
        ("SLURMJC.AGG", "job", "BY", "user", "state"),
        ("SLURMJC.INFO", "job"),
        ("COPY", KEY, "copy:seg:1", "REPLACE"),
        ("DEBUG", "DIGEST-VALUE", "copy:seg:1"),
        ("DEBUG", "RELOAD"),
        ("SLURMJC.TRIM", "job", "BEFORE", rng.choice([0, NOON, (DAY + 1) * 86400])),
    ]
    rng.shuffle(asked)
    return iter(asked)


def use(store: Store, rng: random.Random) -> None:
    """A segment that was taken is a segment like any other."""
    client: Any = store.client
    digest = client.execute_command("DEBUG", "DIGEST-VALUE", KEY)
    client.restore("again:seg:1", 0, client.dump(KEY), replace=True)
    assert client.execute_command("DEBUG", "DIGEST-VALUE", "again:seg:1") == digest
    for command in commands(rng):
        with suppress(redis.ResponseError):  # the key may be gone, the query unknown: an error is an answer
            client.execute_command(*command)
    with suppress(redis.ResponseError):
        store.put(*(job(i, NOON + i) for i in range(1, 5)))
    assert client.ping()


def restored(client: Any, payload: bytes) -> bool:
    """Was it taken? Refusing it is the other thing the server may do."""
    try:
        client.restore(KEY, 0, payload, replace=True)
    except redis.ResponseError as refused:
        if "Bad data format" not in str(refused):
            raise
        return False
    return True


@pytest.mark.timeout(SECONDS + 120)
def test_a_segment_of_any_bytes_is_refused_or_works(server: RedisServer) -> None:
    rng = random.Random(SEED)
    print(f"SLURMJCD_FUZZ_SEED={SEED}")  # shown when it fails
    until = time.monotonic() + SECONDS
    taken = rounds = 0
    with server.client() as client:
        store = Store(client)
        dumps = segments(store, rng)
        while rounds < ROUNDS or time.monotonic() < until:
            rounds += 1
            client.flushall()
            if restored(client, changed(rng.choice(dumps), rng)):
                taken += 1
                use(store, rng)
            assert client.ping()
    print(f"{rounds} payloads, {taken} of them taken")
    assert 0 < taken < rounds


def test_a_payload_is_put_together_as_it_was(server: RedisServer) -> None:
    with server.client() as client:
        for dump in segments(Store(client), random.Random(1)):
            assert seal(Payload.parse(dump).body()) == dump
