# SPDX-License-Identifier: MIT
"""SLURMJC.STATUS of a daemon with jobs behind it: what operators are told, and what everybody is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from slurmjcd.health.stages import Stage
from slurmjcd.health.status import _rates, _stage
from tests.harness import Daemon, RedisServer, wait_until
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire


async def test_status_follows_records_and_troubles(
    make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address, settings={"redis": {"ttl_s": 86400}})
    ingest, asking = await Wire.connect(daemon.ingest_socket), await Wire.connect(daemon.query_socket)

    async def status() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await asking.call("SLURMJC.STATUS"))
        return told

    assert await ingest.put(1, job(1), job(2, state=5), job(3)) == 3
    wait_until(lambda: json.loads(daemon.get("/readyz")[1])["components"]["spool"]["backlog_records"] == 0, what="ship")
    told = await status()
    assert (told["level"], told["retention_s"], told["troubles"]) == ("ok", 86400, [])
    assert told["counters"]["records_stored"] == told["counters"]["records_received"] == 3
    assert (told["spool"]["backlog_records"], told["spool"]["lost_records"]) == (0, 0)
    assert told["spool"]["free_bytes"] > 0
    stages = {stage["key"]: stage for stage in told["stages"]}
    assert redis.address in stages["redis"]["text"]
    assert told["rates"]["received_s"]["minute"] is None  # until the first ten seconds are over
    redis.stop()
    wait_until(lambda: not json.loads(daemon.get("/readyz")[1])["components"]["redis"]["ok"], what="Redis to be missed")
    told = await status()
    assert told["level"] == "error"
    assert [(trouble["key"], trouble["end"]) for trouble in told["troubles"]] == [("redis", None)]
    await ingest.close()
    await asking.close()


def test_rates_are_averages_of_the_rows() -> None:
    assert _rates([])["stored_s"] == {"minute": None, "hour": None, "course": []}
    rows: list[list[float | None]] = [[0.0, 10.0, 8.0, None, 5.0, 0.0, None, None]] * 94
    rows += [[0.0, 20.0, 8.0, None, 5.0, 0.0, None, None]] * 6
    rates = _rates(rows)
    assert rates["received_s"]["minute"] == 20.0
    assert rates["received_s"]["hour"] == 10.6
    assert rates["received_s"]["course"] == [10.0] * 54 + [20.0] * 6
    assert rates["answered_s"]["hour"] == 0.0


def test_who_is_no_operator_is_told_no_texts() -> None:
    stage = Stage("redis", "Redis", "error", "at unix:/secret", "away", "do this")
    assert _stage(stage, operator=False) == {"key": "redis", "name": "Redis", "level": "error"}
    assert _stage(stage, operator=True)["text"] == "at unix:/secret"
