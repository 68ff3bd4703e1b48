# SPDX-License-Identifier: MIT
"""slurmjcd from its exec to the moment it listens, and to the moment /readyz says that all is well; and its stop.

In turns: with a Redis that is up; with its own Redis, which it starts; and after a SIGKILL with a spool full of records
and no Redis. Beside it redis-server until it answers a PING, and an interpreter that does nothing. Where systemd owns
the sockets nobody waits for any of this: requests queue in the socket until they are answered.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.cli_start import wall_ms
from bench.drain import fill, start_alone
from bench.pipeline import Feeder, rss_mib, summary, wait_for
from tests.harness.daemon import Daemon, accepts
from tests.harness.paths import MODULE
from tests.harness.process import Process
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import ring_dir, run_dir

_EVERY_S: Final = 0.001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--spooled", type=int, default=200_000, metavar="N", help="records in the full spool")


def listening(daemon: Daemon) -> bool:
    return accepts(daemon.ingest_socket) and accepts(daemon.query_socket)


def until_ms(process: Process, *conditions: Callable[[], bool]) -> list[float]:
    """Start it; milliseconds from just before the exec until each condition in turn."""
    begin = time.perf_counter()
    process.start()
    found = []
    for condition in conditions:
        wait_for(condition, f"{process.name} to come up", timeout_s=60, every_s=_EVERY_S)
        found.append((time.perf_counter() - begin) * 1000)
    return found


def stop_ms(daemon: Daemon) -> float:
    begin = time.perf_counter()
    if (status := daemon.stop()) != 0:
        raise RuntimeError(f"slurmjcd ended with status {status}")
    return (time.perf_counter() - begin) * 1000


def start(prefix: str, daemon: Daemon) -> dict[str, float]:
    listens, ready = until_ms(daemon.process, lambda: listening(daemon), daemon.ready)
    found = {f"{prefix}listening_ms": listens, f"{prefix}ready_ms": ready}
    if not prefix:
        found["rss_mib"] = rss_mib(daemon.process.pid)
    return {**found, f"{prefix}stop_ms": stop_ms(daemon)}


def killed_with(directory: Path, records: int) -> Daemon:
    """A daemon that took so many records, had no Redis for them, and was killed."""
    daemon = Daemon(directory / "jc", redis_address=f"unix:{directory / 'nobody'}")
    start_alone(daemon)
    feeder = Feeder(directory / "driver", ring_dir(directory.parent), daemon.run_dir, jobs=records)
    try:
        fill(feeder, daemon, records)
    finally:
        daemon.kill()
        feeder.stop()
    return daemon


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, and the smallest and largest of each figure."""
    rounds: list[dict[str, float]] = []
    with run_dir("sj-bench-") as directory:
        redis = RedisServer(directory / "redis")
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        embedded = Daemon(directory / "own", settings={"embedded": {"module": str(MODULE)}})
        spooled = killed_with(directory / "spooled", options.spooled)
        try:
            redis.start()
            for number in options.machine.rounds(options.rounds):
                found = start("", daemon) | start("embedded_", embedded)
                (found["spooled_listening_ms"],) = until_ms(spooled.process, lambda: listening(spooled))
                spooled.kill()
                peer = RedisServer(directory / f"redis{number}")
                (found["redis_ms"],) = until_ms(peer.process, peer.answers)
                peer.stop()
                rounds.append({**found, "python_ms": wall_ms(sys.executable, "-c", "pass")})
        finally:
            for each in (daemon, embedded, spooled, redis):
                each.stop()
    return {"spooled": options.spooled, **summary(rounds)}
