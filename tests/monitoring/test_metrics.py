# SPDX-License-Identifier: MIT
"""Each metric: documented, named by convention, with bounded labels, and counted when the thing happens."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from slurmjcd.config.settings import HealthSection
from slurmjcd.health.metrics import Metrics
from slurmjcd.protocol import join_frames, split_frames
from tests.harness import MODULE, ROOT, Daemon, RedisServer, wait_until
from tests.harness.ports import free_ports
from tests.monitoring.scrape import scrape, value
from tests.slurmjcd.intake.test_document import posted
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire

MakeDaemon = Callable[..., Daemon]
MakeRedis = Callable[..., RedisServer]

PAGE: Final = (ROOT / "docs" / "metrics.md").read_text()
_ROW: Final = re.compile(r"^\| `(\w+)(?:\{([\w,]+)\})?` \| (\w+) \| (.+?) \|(.*)\|$", re.MULTILINE)
_LABELS: Final = {"kind", "outcome", "partition", "reason", "shard", "socket", "state", "version"}
_UNITS: Final = ("_seconds", "_bytes", "_records", "_jobs", "_up", "_evicts", "_fds", "_connections", "_info", "_days")


def _name(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"slurmjcd_{name}", frozenset(labels.items())


def families() -> Iterator[Metric]:
    """All there can be, with a series for each label."""
    metrics = Metrics()
    metrics.expect_queries(["match"])
    metrics.connections.labels("query")
    metrics.shard_up.labels("0")
    metrics.shard_waiting.labels("0")
    metrics.jobs._read(split_frames(join_frames([job(1)])), 1.0)
    yield from metrics.registry.collect()


def exposed(family: Metric) -> str:
    """The name that a query asks for, but for a histogram's endings."""
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def labels(family: Metric) -> str:
    return ",".join(sorted({label for sample in family.samples for label in sample.labels} - {"le"}))


def test_the_page_has_each_metric_and_no_other() -> None:
    written = [(name, found or "", kind) for name, found, kind, *_ in _ROW.findall(PAGE)]
    there = {
        (exposed(family), labels(family), "gauge" if family.type == "info" else family.type) for family in families()
    }
    assert len(written) == len(set(written))
    assert set(written) == there


def test_names_follow_the_convention() -> None:
    for family in families():
        name = exposed(family)
        assert name.startswith(("slurmjcd_", "process_"))
        assert family.documentation
        assert name.endswith("_total") if family.type == "counter" else name.endswith(_UNITS), name


def test_no_label_can_name_a_user_or_a_job() -> None:
    for family in families():
        assert set(filter(None, labels(family).split(","))) <= _LABELS, family.name
    metrics = [value for value in vars(Metrics()).values() if isinstance(value, MetricWrapperBase)]
    assert len(metrics) > 30
    for metric in metrics:  # with a label that has no value yet, too
        assert set(metric._labelnames) <= _LABELS, metric


def test_links_lead_to_headings_of_the_page() -> None:
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= anchors


async def test_what_rings_tell_outlives_the_daemon(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    daemon = make_daemon(redis_address=make_redis().address)
    wire = await Wire.connect(daemon.ingest_socket)
    assert await wire.put(1, job(1), job(2)) == 2
    assert await wire.call("SLURMJC.RING", "ring", "ATTEMPTED", 9, "DROPPED", 3, "SPILLED", 2) == b"OK"

    def told() -> list[float]:
        names = ("ring_attempted_total", "ring_dropped_total", "ring_spilled_total", "ring_waiting_records")
        return [value(daemon, name) for name in names]

    assert told() == [9, 3, 2, 4]
    await wire.close()
    daemon.stop()
    daemon.start()
    assert told() == [9, 3, 2, 4]


async def test_each_way_that_a_record_can_go_is_counted(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    redis = make_redis()
    daemon = make_daemon(
        redis_address=redis.address, settings={"spool": {"max_bytes": 4096, "replay_s": 0, "replay_bytes": 0}}
    )
    wire = await Wire.connect(daemon.ingest_socket)
    assert await wire.put(1, job(1), job(2), b"\xdc\x00\x20" + b"\x01" * 32) == 3
    assert await wire.put(3, b"\xdc\x00\x20" + b"\x01" * 32) == 0
    wait_until(lambda: value(daemon, "spool_records") == 0, what="an empty spool")
    redis.client().execute_command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis.client().client_kill_filter(_type="normal")
    wait_until(lambda: value(daemon, "redis_evicts") == 1, what="the policy to be known")
    assert value(daemon, "redis_failures_total") >= 1
    redis.kill()
    wait_until(lambda: value(daemon, "redis_up") == 0, what="Redis to be missed")
    asking = await Wire.connect(daemon.query_socket)
    assert "UNAVAILABLE" in str(await asking.call("SLURMJC.GET", 1))
    seq, refused = 4, 0
    # full, and of what waits only: what was shipped before gives way when the first record is refused
    while (found := scrape(daemon))[_name("spool_up")] or found[_name("spool_waiting_bytes")] < found[
        _name("spool_bytes")
    ]:
        if isinstance(await wire.put(seq, job(seq)), int):
            seq += 1
        else:
            refused += 1

    def total(name: str, **labels: str) -> float:
        return found[_name(f"{name}_total", **labels)]

    taken = seq - 1
    assert total("records_received") == taken + 1 + refused
    assert total("records_repeated") == 1
    assert total("records_spooled") == taken
    assert total("records_refused", reason="full") == refused > 0
    assert total("records_refused", reason="disk") == 0
    assert (total("records_stored"), total("records_rejected")) == (2, 1)
    assert total("jobs_completed", state="completed", partition="batch") >= 2
    assert total("queries_failed") == 1
    assert total("queries", kind="get") == 1
    assert 0 < found[_name("spool_waiting_bytes")] <= found[_name("spool_max_bytes")]
    assert found[_name("quarantined_records")] == 1
    await wire.close()
    await asking.close()


def _post(port: int, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/intake/demo", body)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_whoever_is_turned_away_is_counted(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    port = free_ports(1)[0]
    daemon = make_daemon(
        redis_address=make_redis().address,
        settings={"ingest": {"connections": 1}, "intake": {"listen": f"127.0.0.1:{port}"}},
    )
    first = await Wire.connect(daemon.ingest_socket)
    second = await Wire.connect(daemon.ingest_socket, hello=False)
    assert "LIMIT" in str(await second.reply())
    assert value(daemon, "ingest_connections_refused_total") == 1
    assert [_post(port, posted()), _post(port, b"{}")] == [201, 400]
    outcomes = {"taken": 1, "ignored": 0, "refused": 1, "later": 0}
    assert {key: value(daemon, "intake_documents_total", outcome=key) for key in outcomes} == outcomes
    await first.close()
    await second.close()


def test_the_end_of_the_daemons_own_redis_is_counted(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings={"embedded": {"module": str(MODULE)}})
    assert value(daemon, "embedded_restarts_total") == 0
    os.kill(json.loads(daemon.get("/readyz")[1])["components"]["embedded"]["pid"], signal.SIGKILL)
    wait_until(lambda: value(daemon, "embedded_restarts_total") == 1, what="the server's end to be seen")


async def test_redis_is_seen_where_no_shipper_is(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    redis = make_redis()
    address, settings = redis.address, {"daemon": {"roles": ["query"]}}
    daemon = Daemon(redis.directory.parent / "login", redis_address=address, settings=settings)
    daemon.process.start()
    try:
        daemon.process.wait_ready(daemon.ready)
        wait_until(lambda: value(daemon, "redis_up") == 1, what="Redis to be seen")
        assert value(daemon, "spool_max_bytes") == 0
        assert value(daemon, "redis_memory_bytes") > 0
    finally:
        daemon.stop()


def test_the_example_names_the_default_address() -> None:
    assert HealthSection().listen in PAGE
