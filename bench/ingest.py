# SPDX-License-Identifier: MIT
"""Hook call to visible by MATCH: the plugin, the daemon with its spool and fsync, and Redis, beside plain SET.

The driver calls the hook as fast as the pipeline takes jobs: what was called and isn't visible yet stays below what the
plugin's ring holds, so no call is refused. The ceiling is SET of the same records, one key each, in the same round
against the same kind of server. Latency is measured apart from that, with jobs called one at a time while others come
in at a steady rate.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import store
from bench.pipeline import (
    AHEAD_JOBS,
    CHUNK_JOBS,
    Feeder,
    cpu_s,
    file_bytes,
    matched,
    net_bytes,
    quantile,
    rss_mib,
    stored,
    summary,
    thread_cpu_s,
    wait_for,
)
from bench.store import PREFIX, Client
from tests.harness.daemon import Daemon
from tests.harness.paths import MODULE
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import ring_dir, run_dir
from tests.security.hostile import Probe

PROBE_ID_OFFSET = 100_000_000
STEADY_PER_S = 1000
JOBS_PER_S_MAX = 500_000  # no machine takes more, so this much is prepared
STEADY_JOBS = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0, help="how long jobs come in, per round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, SET beside each")
    parser.add_argument("--set-jobs", type=int, default=1_000_000, metavar="N", help="jobs of the ceiling")
    parser.add_argument("--probes", type=int, default=1000, metavar="N", help="jobs whose way is timed")
    parser.add_argument(
        "--ack-seconds", type=float, default=10.0, metavar="S", help="how long acknowledgements are timed, twice"
    )
    parser.add_argument("--no-events", action="store_true", help="the daemon with redis.events = 0")
    parser.add_argument("--aof", action="store_true", help="Redis with appendonly yes, for our PUT and for SET")


class Pipeline:
    """Redis, the daemon and the hook's driver."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self.rings = ring_dir(directory.parent)
        self.redis = RedisServer(directory / "redis", options=redis_options(options))
        self.redis.start()
        settings = {"redis": {"events": 0}} if options.no_events else None
        self.daemon = Daemon(directory / "jc", redis_address=self.redis.address, settings=settings)
        self.daemon.start()
        self.directory = directory
        self.client = Client(self.redis.socket)
        self.feeders: list[Feeder] = []

    def feed(self, name: str, *options: str, jobs: int) -> Feeder:
        feeder = Feeder(self.directory / name, self.rings, self.daemon.run_dir, *options, jobs=jobs)
        self.feeders.append(feeder)
        return feeder

    def stop(self) -> None:
        for feeder in self.feeders:
            feeder.stop()
        self.daemon.stop()
        self.redis.stop()


def redis_options(options: argparse.Namespace) -> dict[str, str | int]:
    return {"appendonly": "yes"} if options.aof else {}


def push(
    feeder: Feeder, count: Callable[[], int], more: Callable[[float], bool], *, every_s: float = 0.002
) -> tuple[int, float]:
    """Jobs as fast as they are taken; how many, and the seconds until the last was visible.

    Args:
        count: how many are visible; asked every so many seconds.
        more: whether more are wanted, by the seconds it took so far.
    """
    wait_for(lambda: count() == feeder.called, "the first job to be visible")
    visible = first = feeder.called
    begin = time.perf_counter()
    while more(time.perf_counter() - begin):
        while feeder.called - visible + CHUNK_JOBS > AHEAD_JOBS:
            time.sleep(every_s)
            visible = count()
        feeder.call(CHUNK_JOBS)
    wait_for(lambda: count() >= feeder.called, "the last job to be visible")
    return feeder.called - first, time.perf_counter() - begin


def measure_round(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    pipeline = Pipeline(directory, options)
    try:
        feeder = pipeline.feed("driver", "--by-completion", jobs=int(options.seconds * JOBS_PER_S_MAX))
        feeder.call(1)  # the driver has everything ready when it answers
        daemon, redis, driver = pipeline.daemon.process.pid, pipeline.redis.process.pid, feeder.process.pid
        result: dict[str, Any] = {"daemon_rest_rss_mib": rss_mib(daemon)}
        before = {pid: cpu_s(pid) for pid in (daemon, redis, driver)}
        threads = thread_cpu_s(daemon)
        received, _ = net_bytes(pipeline.client)
        jobs, seconds = push(feeder, lambda: stored(pipeline.client), lambda took_s: took_s < options.seconds)
        result["jobs"], result["jobs_per_s"] = jobs, jobs / seconds
        for name, pid in (("daemon", daemon), ("redis", redis), ("driver", driver)):
            result[f"{name}_us_per_job"] = (cpu_s(pid) - before[pid]) / jobs * 1e6
        for name, used in thread_cpu_s(daemon).items():
            result[f"daemon_{name}_us_per_job"] = (used - threads[name]) / jobs * 1e6
        result["daemon_rss_mib"] = rss_mib(daemon, highest=True)
        result["redis_received_bytes_per_job"] = (net_bytes(pipeline.client)[0] - received) / jobs
        if options.aof:
            files = file_bytes(pipeline.redis.directory, "appendonly.aof.*.aof")
            result["aof_bytes_per_job"] = sum(files) / feeder.called
        found = matched(pipeline.client)
        if found != feeder.called:
            raise RuntimeError(f"the hook took {feeder.called} jobs, MATCH finds {found}")
    finally:
        pipeline.stop()
    return result


def measure_set(directory: Path, options: argparse.Namespace) -> float:
    server = RedisServer(directory, module=None, options=redis_options(options))
    server.start()
    try:
        seconds, _ = store.load(server, options.set_jobs, "set")
        return float(options.set_jobs / seconds)
    finally:
        server.stop()


def measure_latency(directory: Path, options: argparse.Namespace) -> dict[str, float]:
    """With STEADY_PER_S other jobs a second: from the hook's call to a MATCH that finds the job, and from a request on
    ingest.sock to its acknowledgement, the latter also while Redis is stopped.
    """
    pipeline = Pipeline(directory, options)
    try:
        steady = ("--by-completion", f"--rate={STEADY_PER_S}", f"--id-offset={2 * PROBE_ID_OFFSET}")
        background = pipeline.feed("background", *steady, jobs=STEADY_JOBS)
        probe = pipeline.feed("probe", f"--id-offset={PROBE_ID_OFFSET}", jobs=STEADY_JOBS)
        assert background.process.stdin is not None
        background.process.stdin.write(b"call %d\n" % STEADY_JOBS)
        background.process.stdin.flush()
        found = visible(pipeline, probe, options.probes) | acknowledged(pipeline, "ack", options.ack_seconds)
        pipeline.redis.process.send(signal.SIGSTOP)
        try:
            found |= acknowledged(pipeline, "redis_stopped_ack", options.ack_seconds)
        finally:
            pipeline.redis.process.send(signal.SIGCONT)
        background.process.kill()
    finally:
        pipeline.stop()
    return found


def visible(pipeline: Pipeline, probe: Feeder, probes: int) -> dict[str, float]:
    """So many jobs, one at a time."""
    times: list[float] = []
    first_id = PROBE_ID_OFFSET + store.FIRST_JOB_ID  # they go up, because the probe's jobs come as submitted
    for number in range(probes):
        begin = time.perf_counter()
        probe.call(1)
        words = ("SLURMJC.MATCH", PREFIX, "probe", "job", str(first_id + number))
        while pipeline.client.ask(*words) is None:
            if time.perf_counter() - begin > 30:
                raise RuntimeError(f"job {first_id + number} isn't visible after 30 s")
        times.append(time.perf_counter() - begin)
        time.sleep(0.003)
    return in_ms("visible", times)


def acknowledged(pipeline: Pipeline, name: str, seconds: float) -> dict[str, float]:
    """A record at a time on a connection of its own: the plugin's are on another."""
    with Probe(pipeline.daemon.ingest_socket, source=name) as probe:
        time.sleep(seconds)
    return in_ms(name, probe.ack_s)


def in_ms(name: str, seconds: list[float]) -> dict[str, float]:
    return {
        f"{name}_p50_ms": quantile(seconds, 0.5) * 1000,
        f"{name}_p99_ms": quantile(seconds, 0.99) * 1000,
        f"{name}_max_ms": max(seconds) * 1000,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, the smallest and largest of each figure, and the latency."""
    if not MODULE.exists():
        raise FileNotFoundError(f"{MODULE} is missing: run `make plugin`")
    rounds: list[dict[str, Any]] = []
    with run_dir("sj-bench-") as directory:
        for number in options.machine.rounds(options.rounds):
            ours = measure_round(directory / f"ours{number}", options)
            ours["set_per_s"] = measure_set(directory / f"set{number}", options)
            ours["ratio"] = ours["jobs_per_s"] / ours["set_per_s"]
            rounds.append(ours)
        result = summary(rounds)
        if options.probes:
            result.update(measure_latency(directory / "latency", options))
    return result
