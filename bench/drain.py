# SPDX-License-Identifier: MIT
"""A spool full of records, and Redis comes back: how fast it is drained, and what the daemon takes in meanwhile.

The hook is called while there is no Redis; the daemon acknowledges from its spool. Then Redis starts, and the clock
runs from its first PONG until every job is in the store.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from bench.pipeline import Feeder, cpu_s, file_bytes, matched, rss_mib, stored, summary, wait_for
from bench.store import Client
from tests.harness.daemon import Daemon, accepts
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import ring_dir, run_dir

CHUNK_JOBS = 4_000
AHEAD_JOBS = 40_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="records in the spool")
    parser.add_argument("--rounds", type=int, default=3, help="each with a spool of its own")
    parser.add_argument("--aof", action="store_true", help="Redis with appendonly yes")


def start_alone(daemon: Daemon) -> None:
    """Start it without a Redis, and wait until it answers for its health, which it does last."""
    daemon.process.start()
    daemon.process.wait_ready(lambda: accepts(daemon.health_socket))


def backlog(daemon: Daemon) -> int:
    """Records in the spool that Redis doesn't have."""
    report = json.loads(daemon.get("/readyz")[1])
    return int(report["components"]["spool"]["backlog_records"])


def fill(feeder: Feeder, daemon: Daemon, jobs: int) -> float:
    """Records a second that the spool took while Redis was away."""
    begin = time.perf_counter()
    spooled = 0
    while feeder.called < jobs:
        while feeder.called - spooled + CHUNK_JOBS > AHEAD_JOBS:
            time.sleep(0.005)
            spooled = backlog(daemon)
        feeder.call(min(CHUNK_JOBS, jobs - feeder.called))
    wait_for(lambda: backlog(daemon) == jobs, "the spool to hold all")
    return jobs / (time.perf_counter() - begin)


def measure_round(directory: Path, options: argparse.Namespace) -> dict[str, float]:
    redis = RedisServer(directory / "redis", options={"appendonly": "yes"} if options.aof else {})
    daemon = Daemon(directory / "jc", redis_address=redis.address)
    start_alone(daemon)
    location = ring_dir(directory.parent)
    feeder = Feeder(directory / "driver", location, daemon.run_dir, "--by-completion", jobs=options.jobs)
    try:
        result = {"spooled_per_s": fill(feeder, daemon, options.jobs)}
        result["spool_bytes_per_job"] = sum(file_bytes(daemon.state_dir, "spool.db*")) / options.jobs
        used = cpu_s(daemon.process.pid)
        redis.start()
        begin = time.perf_counter()
        client = Client(redis.socket)
        wait_for(lambda: stored(client) > 0, "the first record")
        result["reconnect_s"] = time.perf_counter() - begin
        wait_for(lambda: stored(client) >= options.jobs, "the last record")
        seconds = time.perf_counter() - begin
        result["jobs_per_s"] = options.jobs / seconds
        result["connected_jobs_per_s"] = options.jobs / (seconds - result["reconnect_s"])
        result["daemon_us_per_job"] = (cpu_s(daemon.process.pid) - used) / options.jobs * 1e6
        result["daemon_rss_mib"] = rss_mib(daemon.process.pid, highest=True)
        if (found := matched(client)) != options.jobs:
            raise RuntimeError(f"{options.jobs} jobs were spooled, MATCH finds {found}")
    finally:
        feeder.stop()
        daemon.stop()
        redis.stop()
    return result


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, and the smallest and largest of each figure."""
    with run_dir("sj-bench-") as directory:
        rounds = [
            measure_round(directory / f"round{number}", options) for number in options.machine.rounds(options.rounds)
        ]
    return {"jobs": options.jobs, **summary(rounds)}
