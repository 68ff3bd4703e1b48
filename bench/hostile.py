# SPDX-License-Identifier: MIT
"""A siege of query.sock: how long acknowledgements on ingest.sock take meanwhile, and how far the event loop lags.

The attack of tests/security runs by users without privilege: connections by the thousand, readers that sip, bytes that
drip, wrong requests without end, connections that come and go. `loop_lag` is the round trip of a PING on ingest.sock,
which the daemon answers from its event loop at once: the lag, and the time that both ends wait for a processor.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from bench import store
from bench.pipeline import cpu_s, quantile
from tests.harness.daemon import Daemon
from tests.harness.rundir import run_dir
from tests.security.hostile import Probe, descriptors_of, rss_mib, siege

QUIET_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=100_000, metavar="N", help="jobs that slow readers ask for")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the siege")
    parser.add_argument("--uids", type=int, default=30, metavar="N", help="users that hold connections")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The same probe before the siege and in it."""
    if os.geteuid() != 0:
        raise SystemExit("error: only root can run the attackers as other users")
    with run_dir("sj-bench-") as directory, store.running(directory / "redis") as redis:
        store.load(redis, options.jobs, "put")
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        daemon.start()
        try:
            with Probe(daemon.ingest_socket) as quiet:
                time.sleep(QUIET_S)
            found = {f"quiet_{name}": value for name, value in figures(quiet).items()}
            found |= besieged(directory, daemon, options)
        finally:
            daemon.stop()
    return found


def besieged(directory: Path, daemon: Daemon, options: argparse.Namespace) -> dict[str, Any]:
    pid, most = daemon.process.pid, 0
    attacks = siege(directory, daemon.query_socket, seconds=options.seconds, uids=options.uids, requests=10**9)
    time.sleep(1.0)  # while the attackers start they need the processors themselves
    before_s, began = cpu_s(pid), time.perf_counter()
    with Probe(daemon.ingest_socket, source="siege") as probe:
        while any(attack.running for attack in attacks[: options.uids]):
            most = max(most, descriptors_of(pid))
            time.sleep(0.1)
    took_s = time.perf_counter() - began
    results = [attack.result() for attack in attacks]
    floods = results[: options.uids]
    return {
        **figures(probe),
        "connections": sum(found["tried"] for found in floods) + results[-1]["tried"],
        "connections_refused": sum(found["refused"] for found in floods),
        "descriptors": most,
        "bad_requests_per_s": results[options.uids]["answered"] / options.seconds,
        "daemon_cpu": (cpu_s(pid) - before_s) / took_s,
        "daemon_rss_mib": rss_mib(pid),
    }


def figures(probe: Probe) -> dict[str, Any]:
    return {
        "ingest_ack_p50_ms": quantile(probe.ack_s, 0.5) * 1000,
        "ingest_ack_p99_ms": quantile(probe.ack_s, 0.99) * 1000,
        "ingest_ack_max_ms": max(probe.ack_s) * 1000,
        "loop_lag_p50_ms": quantile(probe.lag_s, 0.5) * 1000,
        "loop_lag_p99_ms": quantile(probe.lag_s, 0.99) * 1000,
        "loop_lag_max_ms": max(probe.lag_s) * 1000,
        "records": len(probe.ack_s),
    }
