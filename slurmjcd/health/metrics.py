# SPDX-License-Identifier: MIT
"""The daemon's metrics. Each instance has its own registry, so several daemons can live in one test process.

Events are counted where they happen; gauges are set when somebody scrapes. No label has a user's or a job's name, and
each has few values: what a metric means to whoever watches it stands in docs/metrics.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import Metric

from slurmjcd import __version__
from slurmjcd.health.jobstats import JobStats
from slurmjcd.health.ringstats import RingStats

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_OUTAGE: Final = (*_FAST, 30, 60, 300, 1800, 3600, 4 * 3600)  # a record waits for as long as Redis is away

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nothing reads


class Metrics:
    """Names are stable, add-only; `slurmjcd_` comes before each."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        Info("slurmjcd_build", "Version of the daemon", registry=registry).info({"version": __version__})
        self._gauge("start_time_seconds", "When the daemon started, in epoch seconds").set(time.time())
        registry.register(_Process(registry=None))
        self.jobs = JobStats()
        registry.register(self.jobs)
        self.rings = RingStats()
        registry.register(self.rings)
        self.ring_waiting = self._gauge(
            "ring_waiting_records", "Records in rings and spill files, as last told by plugins"
        )
        self._make_way_in()
        self._make_way_out()
        self._make_questions()
        self._make_cold()

    def _make_way_in(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.records_received = counter("records_received_total", "Records that came in, on ingest.sock and by intake")
        self.records_repeated = counter("records_repeated_total", "Records that came in again and were known")
        self.records_refused = counter(
            "records_refused_total", "Records that the spool had no room or no disk for; senders bring them again",
            reason=("full", "disk"),
        )  # fmt: skip
        self.records_spooled = counter("records_spooled_total", "Records committed to the spool")
        self.commit_failures = counter("spool_commit_failures_total", "Commits that the spool's disk refused")
        self.commit_seconds = histogram("ingest_seconds", "Time of one commit to the spool, fsync included, in seconds")
        self.ingest_pending_bytes = gauge("ingest_pending_bytes", "Bytes of records received and not yet committed")
        self.ingest_refused = counter(
            "ingest_connections_refused_total", "Connections to ingest.sock of others than SlurmUser, or one too many"
        )
        self.intake_documents = counter(
            "intake_documents_total", "Documents posted to the intake: a job's, another's, refused, to be sent later",
            outcome=("taken", "ignored", "refused", "later"),
        )  # fmt: skip
        self.spool_records = gauge("spool_records", "Records in the spool that Redis doesn't have yet")
        self.spool_bytes = gauge("spool_bytes", "Bytes of records in the spool, shipped ones included")
        self.spool_waiting_bytes = gauge(
            "spool_waiting_bytes", "Bytes of records in the spool that Redis doesn't have yet, by their share"
        )
        self.spool_max_bytes = gauge("spool_max_bytes", "What the spool may hold, in bytes: spool.max_bytes")
        self.spool_up = gauge("spool_up", "1 when the spool takes records: its disk works and it is not full")
        self.spool_oldest_seconds = gauge(
            "spool_oldest_seconds", "Age of the oldest record that Redis doesn't have, in seconds"
        )
        self.quarantined = gauge("quarantined_records", "Records in quarantine")
        self.lost = gauge("lost_records", "Records gone for good since this spool was made")

    def _make_way_out(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.records_shipped = counter("records_shipped_total", "Records that Redis took, replays included")
        self.records_stored = counter("records_stored_total", "Records that were new to Redis")
        self.records_duplicate = counter("records_duplicate_total", "Records that Redis already had")
        self.records_rejected = counter("records_rejected_total", "Records put into quarantine")
        self.record_gaps = counter("record_gaps_total", "Records gone for good between spool and Redis")
        self.replays = counter("replays_total", "Times that Redis had lost records and got them again")
        self.end_to_end_seconds = histogram(
            "end_to_end_seconds", "From a batch's commit to Redis' reply, in seconds", buckets=_OUTAGE
        )
        self.redis_up = gauge("redis_up", "1 when the daemon has a working connection to Redis")
        self.shard_up = gauge("shard_up", "1 when the daemon has a working connection to this shard", "shard")
        self.shard_waiting = gauge(
            "shard_waiting_records",
            "Records behind what this shard has, those of others among them",
            "shard",
        )
        self.redis_failures = counter(
            "redis_failures_total", "Times that Redis could not be reached, or refused what the shipper sent"
        )
        self.redis_memory = gauge("redis_memory_bytes", "Memory that Redis uses, in bytes")
        self.redis_memory_max = gauge("redis_memory_max_bytes", "maxmemory of Redis, in bytes; 0: no limit")
        self.redis_evicts = gauge("redis_evicts", "1 when maxmemory-policy lets Redis throw jobs away")
        self.store_jobs = gauge("store_jobs", "Records that the store holds")
        self.store_bytes = gauge("store_bytes", "Memory of the records that the store holds, in bytes")
        self.embedded_restarts = counter("embedded_restarts_total", "Times that the daemon's own Redis ended by itself")

    def _make_questions(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.query_seconds = histogram("query_seconds", "Time of one answer on query.sock, in seconds", "kind")
        self.queries = counter("queries_total", "Requests on query.sock", kind=())
        self.queries_failed = counter("queries_failed_total", "Requests on query.sock for which Redis gave no answer")
        self.queries_refused = counter("queries_refused_total", "Requests and connections on query.sock refused")
        self.connections = gauge("connections", "Open connections", "socket")
        self.waiting = gauge("waiting_connections", "Connections on query.sock that wait for jobs to end")

    def _make_cold(self) -> None:
        self.cold_days = self._gauge("cold_days", "Days of which there is a file in cold.dir")
        self.cold_bytes = self._gauge("cold_bytes", "Size of the files in cold.dir, in bytes")
        self.cold_due_days = self._gauge("cold_due_days", "Days in Redis that are to be moved into files")
        self.cold_moved = self._counter("cold_moved_records_total", "Records moved from Redis into files")
        self.cold_failures = self._counter("cold_failures_total", "Times that days could not be moved into files")

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        """A counter; values of labels that are known beforehand are there from the start, at 0."""
        metric = Counter(f"slurmjcd_{name}", text, tuple(labels), registry=self.registry)
        for label, values in labels.items():
            for value in values:
                metric.labels(**{label: value})
        return metric

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"slurmjcd_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _FAST) -> Histogram:
        return Histogram(f"slurmjcd_{name}", text, labels, buckets=buckets, registry=self.registry)

    def expect_queries(self, kinds: Iterable[str]) -> None:
        """Have the series of these kinds of questions there at 0."""
        for kind in kinds:
            self.queries.labels(kind)
            self.query_seconds.labels(kind)


class _Process(ProcessCollector):
    """What the kernel says of this process, but its start: /proc/stat, which the sandbox hides, is needed for that."""

    def collect(self) -> Iterable[Metric]:
        return [metric for metric in super().collect() if metric.name != "process_start_time_seconds"]
