# SPDX-License-Identifier: MIT
"""Memory: what MEMORY USAGE says is what the server spends, and what is freed is gone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, Job, job
from tests.module.test_life import wait_until

MakeRedis = Callable[..., RedisServer]


def alike(count: int) -> Iterator[Job]:
    """As a site's jobs are: few names, paths that differ in a number."""
    rng = random.Random(1)
    for i in range(1, count + 1):
        yield job(
            i,
            NOON + i // 8,
            user=f"user{rng.randrange(400)}",
            name=f"step{rng.randrange(3000)}",
            nodes=f"n[{rng.randrange(900)}-{rng.randrange(900, 1800)}]",
            work_dir=f"/scratch/project{rng.randrange(90)}/run{i}",
            extra={"std_out": f"/scratch/slurm-{i}.out"},
        )


def different(count: int) -> Iterator[Job]:
    """No two strings are the same."""
    rng = random.Random(2)
    for i in range(1, count + 1):
        yield job(
            i,
            NOON + i // 8,
            **{field: f"{rng.getrandbits(200):x}" for field in ("user", "name", "nodes", "account", "features")},
            work_dir=f"/{rng.getrandbits(800):x}",
        )


def arrays(count: int) -> Iterator[Job]:
    """Tasks that share everything but a number."""
    for i in range(1, count + 1):
        yield job(i, NOON + i // 50, array_job_id=1 + i // 1000, array_task_id=i % 1000)


def late(count: int) -> Iterator[Job]:
    """In no order, and each reported a second time."""
    rng = random.Random(3)
    jobs = [job(i, NOON + rng.randrange(40_000), name=f"job{i % 100}") for i in range(1, count // 2 + 1)]
    yield from jobs
    rng.shuffle(jobs)
    yield from ({**record, "end": record["end"] + 1, "state": 5} for record in jobs)


def used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


@pytest.mark.parametrize("jobs", [alike, different, arrays, late])
@pytest.mark.parametrize("reloaded", [False, True], ids=["put", "loaded"])
def test_usage_is_what_the_server_spends(
    make_redis: MakeRedis, jobs: Callable[[int], Iterator[Job]], reloaded: bool
) -> None:
    """Within 5 %, for segments as they grew and as they were loaded."""
    server = make_redis(options={"slowlog-max-len": 0})  # it keeps arguments
    with server.client() as client:
        store = Store(client, "some:longer:prefix")
        put_all(server, store.prefix, jobs(5000))
        client.execute_command("DEBUG", "RELOAD")
        client.execute_command("FLUSHALL", "SYNC")  # what stays is the module's own: buffers it keeps
        before = used(client)
        put_all(server, store.prefix, jobs(60_000))
        if reloaded:
            client.execute_command("DEBUG", "RELOAD")
        spent, told = used(client) - before, int(client.memory_usage(f"some:longer:prefix:seg:{DAY}") or 0)
        assert spent > 500_000
        assert abs(told - spent) <= spent / 20, f"MEMORY USAGE {told}, used_memory grew by {spent}"
        assert abs(store.info()["bytes"] - spent) <= spent / 20


def put_all(server: RedisServer, prefix: str, jobs: Iterator[Job]) -> None:
    """Over a connection of its own, whose buffers are gone afterwards."""
    with server.client() as client:
        while batch := list(itertools.islice(jobs, 500)):
            Store(client, prefix).put(*batch)
    with server.client() as client:
        wait_until(lambda: client.info("clients")["connected_clients"] <= 2)


@pytest.mark.parametrize("command", ["UNLINK", "DEL", "FLUSHALL", "FLUSHALL ASYNC", "TRIM", "EXPIRE"])
def test_what_is_freed_is_gone(make_redis: MakeRedis, command: str) -> None:
    with make_redis(options={"lazyfree-lazy-expire": "yes", "slowlog-max-len": 0}).client() as client:
        store = Store(client)
        records = list(alike(80_000))
        store.put(records[0])
        client.flushall()
        before = used(client)
        for at in range(0, len(records), 1000):
            store.put(*records[at : at + 1000])
        spent = used(client) - before
        key = f"job:seg:{DAY}"
        answers: dict[str, Callable[[], Any]] = {
            "UNLINK": lambda: client.unlink(key),
            "DEL": lambda: client.delete(key),
            "FLUSHALL": lambda: client.flushall(),
            "FLUSHALL ASYNC": lambda: client.flushall(asynchronous=True),
            "TRIM": lambda: store.call("TRIM", "BEFORE", (DAY + 1) * 86400),
            "EXPIRE": lambda: client.pexpire(key, 1),
        }
        answers[command]()
        wait_until(lambda: not client.exists(key))
        wait_until(lambda: used(client) - before < spent / 20)
        in_background = int(
            client.info("memory").get("lazyfreed_objects", client.info("stats").get("lazyfreed_objects", 0))
        )
        assert in_background > 0 or command in ("DEL", "FLUSHALL")
        assert store.find() == []
        store.put(*records[:100])
        assert len(store.find()) == 100


def test_active_defragmentation(make_redis: MakeRedis) -> None:
    """Segments among values that come and go: moved while they are read and written."""
    with make_redis().client() as client:
        try:
            client.config_set("activedefrag", "yes")
        except redis.ResponseError as error:
            pytest.skip(f"this server's allocator can't defragment: {error}")
        client.config_set("activedefrag", "no")
        store = Store(client)
        records = list(alike(60_000))
        rng = random.Random(4)
        pipe = client.pipeline(transaction=False)
        for at in range(0, len(records), 200):
            store.put(*records[at : at + 200])
            for i in range(at, at + 200):
                pipe.set(f"filler:{i}", rng.randbytes(rng.choice([60, 200, 900, 3000])).hex())
            pipe.execute()
        digest = store.digest_of(DAY)
        for i in range(0, len(records), 1):
            if i % 5:
                pipe.delete(f"filler:{i}")
        pipe.execute()
        for name, value in (
            ("active-defrag-ignore-bytes", "1"),
            ("active-defrag-threshold-lower", "1"),
            ("active-defrag-cycle-min", "50"),
            ("active-defrag-cycle-max", "75"),
            ("activedefrag", "yes"),
        ):
            client.config_set(name, value)
        wait_until(lambda: int(client.info("stats")["active_defrag_key_hits"]) > 0)
        hits = int(client.info("stats")["active_defrag_hits"])
        for i in range(20):
            assert store.digest_of(DAY) == digest
            assert store.ids("job", str(1 + i * 1000)) == [1 + i * 1000]
        wait_until(lambda: int(client.info("stats")["active_defrag_hits"]) > hits)
        assert store.digest_of(DAY) == digest
        store.put(*({**record, "state": 5, "end": record["end"] + 1} for record in records[:500]))
        assert store.info()["jobs"] == len(records)
