# SPDX-License-Identifier: MIT
"""Hashes and query keys with any bytes in any field: a record that the client can read, or a clear error and no change.

Under ASan and UBSan as well: tests/fuzz/run-sanitized.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import redis

from tests.module.conftest import Store
from tests.module.records import NOON
from tests.module.test_take import take
from tests.module.test_transcript import NEVER_NIL
from tests.module.test_upstream import FIELDS, job_hash, when

HOSTILE: list[bytes] = [
    b"", b" ", b"0", b"1", b"-1", b"00", b"+1", b"1 ", b"0x1", b"1e3", b"255", b"256", b"8192", b"8193", b"4294967293",
    b"4294967294", b"4294967295", b"4294967296", b"253402300799", b"253402300800", b"9223372036854775807",
    b"18446744073709551615", b"18446744073709551616", b"9" * 400, b"I", b"P", b"II", b"0:0", b":", b"1:", b":1",
    b"255:127", b"256:0", b"0:128", b"1:2:3", b"\0", b"a\0b", b"n[1-", b"n[1-3,", b"n[3-1]", b"n[1-99999999999]",
    b"[" * 300, b"," * 300, b"\xff\xfe", b"\xc3", b"%s%n%p", b"2022-01-08T12:00:00Z", b"2022-01-08T12:00:00Z\0",
    b"2022-13-40T99:99:99Z", b"*", b"x" * 300, b"x" * 70_000, b"x" * (1 << 20),
]  # fmt: skip
NUMBERS = {*NEVER_NIL, "_abi"} - {"Start", "End", "Submit", "Eligible", "TimeLimit"}


def mutated(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    """With some fields another's, of any bytes, or away."""
    found: dict[str, Any] = dict(fields)
    for name in rng.sample(sorted(fields), rng.choice((0, 1, 1, 1, 2, 5))):
        match rng.randrange(5):
            case 0:
                del found[name]
            case 1:
                found[name] = fields[rng.choice(sorted(fields))]
            case 2:
                found[name] = rng.randbytes(rng.choice((1, 3, 20, 21, 300)))
            case _:
                found[name] = rng.choice(HOSTILE)
    return found


def tried(store: Store, *words: Any) -> Any:
    """The reply; an error is one too."""
    try:
        return store.call(*words)
    except redis.ResponseError as exc:
        return exc


def check_rows(store: Store, tmf: int, jobs: int) -> None:
    """As upstream's client reads them."""
    store.client.hset("job:qry:all", mapping={"_abi": 0, "_tmf": tmf})
    store.client.sadd("job:qry:all:job", *range(1, jobs + 1))
    if store.call("MATCH", "all") is None:
        return
    while rows := store.call("FETCH", "all", 500):
        for row in rows:
            found = dict(zip(FIELDS, row, strict=True))
            assert all(found[name] is not None for name in NEVER_NIL)
            assert all(found[name].isdigit() for name in NUMBERS)
            assert all(
                len(found[name]) == 20 if tmf else found[name].isdigit()
                for name in ("Start", "End", "Submit", "Eligible")
            )
            assert not any(b"\0" in value for value in row if value is not None)


@pytest.mark.parametrize("seed", range(4))
def test_any_hash(store: Store, seed: int) -> None:
    rng, jobs = random.Random(seed), 400
    made: dict[bytes, dict[str, Any]] = {}
    for number in range(1, jobs + 1):
        made[b"job:%d" % number] = mutated(rng, job_hash(number, number % 2, DerivedEC="1:0"))
    with store.client.pipeline(transaction=False) as pipe:
        for key, fields in made.items():
            pipe.hset(key, mapping=fields)
        pipe.execute()
    dumps = {key: store.client.hgetall(key) for key in made}
    refused: dict[str, str] = {}
    for number in range(1, jobs // 2):
        reply = tried(store, "INDEX", number)
        if isinstance(reply, bytes):
            assert reply.startswith(b"job:seg:")
        else:
            assert str(reply).startswith("BADRECORD 0 ")
            refused[f"job:{number}"] = str(reply).removeprefix("BADRECORD 0 ")
    assert all(store.client.exists(key) == (key.decode() in refused) for key in list(made)[: jobs // 2 - 1])
    *_, named = take(store)
    assert refused.items() <= named.items()
    assert {key.encode() for key in named} == set(store.client.keys("job:[0-9]*"))
    assert all(store.client.hgetall(key) == dumps[key.encode()] for key in named)
    assert len(store.ids("job", f"1-{jobs}")) == jobs - len(named)
    assert 0 < len(named) < jobs
    for tmf in (0, 1):
        check_rows(store, tmf, jobs)


@pytest.mark.parametrize("seed", range(4))
def test_any_query(store: Store, seed: int) -> None:
    rng, good = random.Random(seed), 0
    with store.client.pipeline(transaction=False) as pipe:
        for number in range(1, 51):
            pipe.hset(f"job:{number}", mapping=job_hash(number, number % 2))
        pipe.execute()
    take(store)
    for number in range(300):
        tmf, key = number % 2, f"job:qry:{number}"
        window = {"Start": when(NOON - 100, tmf), "End": when(NOON + 100, tmf), "NNodesMin": "1", "NNodesMax": "9"}
        store.client.hset(key, mapping=mutated(rng, {"_abi": "0", "_tmf": str(tmf), **window}))
        for name in rng.sample(("gid", "job", "jnm", "prt", "stt", "uid"), rng.randrange(3)):
            store.client.sadd(
                f"{key}:{name}", *rng.choices([b"1", b"1000", b"100", b"5", *HOSTILE], k=rng.randrange(1, 4))
            )
        reply = tried(store, "MATCH", number)
        if isinstance(reply, redis.ResponseError):
            assert "the query's" in str(reply) or "the window" in str(reply)
            continue
        good += 1
        assert reply is None or len(store.call("FETCH", number, 500)) in range(1, 51)
    assert 0 < good < 300
