# SPDX-License-Identifier: MIT
"""The daemon's counters. Each instance has its own registry, so several daemons can live in one test process."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from slurmjcd import __version__
from slurmjcd.jobstats import JobStats

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Names are stable, add-only; `slurmjcd_` comes before each."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"slurmjcd_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"slurmjcd_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"slurmjcd_{name}", text, labels, buckets=_FAST, registry=registry)

        Info("slurmjcd_build", "Version of the daemon", registry=registry).info({"version": __version__})
        self.jobs = JobStats()
        registry.register(self.jobs)
        self.records_received = counter("records_received_total", "Records that came in on ingest.sock")
        self.records_repeated = counter("records_repeated_total", "Records that came in again and were known")
        self.records_spooled = counter("records_spooled_total", "Records committed to the spool")
        self.records_shipped = counter("records_shipped_total", "Records that Redis took, replays included")
        self.records_stored = counter("records_stored_total", "Records that were new to Redis")
        self.records_duplicate = counter("records_duplicate_total", "Records that Redis already had")
        self.records_rejected = counter("records_rejected_total", "Records put into quarantine")
        self.record_gaps = counter("record_gaps_total", "Records gone for good between spool and Redis")
        self.replays = counter("replays_total", "Times that Redis had lost records and got them again")
        self.commit_failures = counter("spool_commit_failures_total", "Commits that the spool's disk refused")
        self.commit_seconds = histogram("ingest_seconds", "Time of one commit to the spool, fsync included")
        self.end_to_end_seconds = histogram("end_to_end_seconds", "From the spool's commit to Redis' reply")
        self.query_seconds = histogram("query_seconds", "Time of one answer on query.sock", "kind")
        self.queries = counter("queries_total", "Requests on query.sock", "kind")
        self.queries_refused = counter("queries_refused_total", "Requests and connections on query.sock refused")
        self.spool_records = gauge("spool_records", "Records in the spool that Redis doesn't have yet")
        self.spool_bytes = gauge("spool_bytes", "Bytes of records in the spool, shipped ones included")
        self.spool_oldest_seconds = gauge("spool_oldest_seconds", "Age of the oldest record that Redis doesn't have")
        self.quarantined = gauge("quarantined_records", "Records in quarantine")
        self.ring_dropped = gauge("ring_dropped_records", "Records the plugin had to drop, as it tells")
        self.redis_up = gauge("redis_up", "1 when the shipper has a working connection to Redis")
        self.connections = gauge("connections", "Open connections", "socket")
        self.waiting = gauge("waiting_connections", "Connections on query.sock that wait for jobs to end")
