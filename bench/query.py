# SPDX-License-Identifier: MIT
"""Rows through the daemon to a client that throws them away, beside the same client at Redis itself.

The client asks for the next page before it reads the one that comes, as sacct's plugin does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from bench import store
from bench.pipeline import cpu_s, net_bytes, quantile, rss_mib, summary
from bench.store import PREFIX, Client, Word
from tests.harness.daemon import Daemon
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import run_dir

FIRST_ROWS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=int, default=10_000, metavar="N", help="rows asked for at a time, at most")


class Asker:
    """MATCH and FETCH on one connection; `key` is the prefix where Redis wants one."""

    def __init__(self, path: Path, *key: str) -> None:
        self.client, self.key = Client(path), key

    def send(self, name: str, *words: Word) -> None:
        self.client.send(name, *self.key, *words)

    def first_page(self, *criteria: str) -> float:
        """Seconds from the question to its first rows."""
        begin = time.perf_counter()
        self.send("SLURMJC.MATCH", "first", *criteria)
        self.send("SLURMJC.FETCH", "first", "100", "RECORDS")
        self.client.read()
        rows = self.client.read()
        seconds = time.perf_counter() - begin
        if not rows:
            raise RuntimeError("no row came")
        return seconds

    def everything(self, page: int) -> tuple[int, int, float]:
        """Rows, their bytes, seconds."""
        begin = time.perf_counter()
        rows = size = 0
        self.send("SLURMJC.MATCH", "all", "limit", "1000000000")
        self.send("SLURMJC.FETCH", "all", str(page), "RECORDS")
        self.client.read()
        while records := self.client.read():
            self.send("SLURMJC.FETCH", "all", str(page), "RECORDS")
            rows += len(records)
            size += len(records[0])
        return rows, size, time.perf_counter() - begin


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over rounds in which the daemon and Redis take turns."""
    rounds: list[dict[str, float]] = []
    with run_dir("sj-bench-") as directory, store.running(directory / "redis") as redis:
        store.load(redis, options.jobs, "put")
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        daemon.start()
        try:
            through, straight = Asker(daemon.query_socket), Asker(redis.socket, PREFIX)
            through.client.ask("SLURMJC.HELLO", "1", "bench/1")
            firsts = [through.first_page("user", "user007") * 1000 for _ in range(FIRST_ROWS)]
            for _ in options.machine.rounds(options.rounds):
                rounds.append(measure_round(through, straight, daemon, redis, options))
            memory = rss_mib(daemon.process.pid, highest=True)
        finally:
            daemon.stop()
    result: dict[str, Any] = {"jobs": options.jobs, **summary(rounds)}
    result["first_row_ms"], result["first_row_p99_ms"] = quantile(firsts, 0.5), quantile(firsts, 0.99)
    result["daemon_rss_mib"] = memory
    return result


def measure_round(
    through: Asker, straight: Asker, daemon: Daemon, redis: RedisServer, options: argparse.Namespace
) -> dict[str, float]:
    pids = {"daemon": daemon.process.pid, "redis": redis.process.pid}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    sent = net_bytes(straight.client)[1]
    rows, _, seconds = through.everything(options.page)
    result = {f"{name}_us_per_row": (cpu_s(pid) - before[name]) / rows * 1e6 for name, pid in pids.items()}
    if rows != options.jobs:
        raise RuntimeError(f"{rows} of {options.jobs} rows came through the daemon")
    result["redis_sent_bytes_per_row"] = (net_bytes(straight.client)[1] - sent) / rows
    direct_rows, _, direct_s = straight.everything(options.page)
    result["rows_per_s"], result["redis_rows_per_s"] = rows / seconds, direct_rows / direct_s
    result["ratio"] = result["rows_per_s"] / result["redis_rows_per_s"]
    return result
