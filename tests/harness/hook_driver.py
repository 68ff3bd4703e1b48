# SPDX-License-Identifier: MIT
"""bench/hook's driver: the plugin's record hook, called as slurmctld calls it, thousands of times a second."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.harness.paths import CMAKE_BUILD, PLUGIN
from tests.harness.process import Process
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import ring_dir

DRIVER = CMAKE_BUILD / "bench" / "driver"


class HookDriver:
    """Reference jobs through jobcomp_redis.so, with a log of what the hook has promised to keep.

    Args:
        directory: below a run's directory; holds the plugin's state. The log of promises is written with a sync after
            each line, so it lies on tmpfs: it has to survive SIGKILL, not the host.
        location: JobCompLoc, the daemon's run_dir.
    """

    def __init__(self, directory: Path, location: Path, *options: str) -> None:
        directory.mkdir(parents=True)
        state = directory / "state"
        state.mkdir(mode=0o700)
        self.promises = ring_dir(directory / "promised")
        self.process = Process(
            [
                DRIVER,
                f"--plugin=redis={PLUGIN}",
                f"--loc=redis={location}",
                f"--params=redis=ring_dir={ring_dir(directory)}",
                f"--state={state}",
                f"--conf-dir={directory}",
                f"--log={self.promises}",
                *options,
            ],
            log=directory / "driver.log",
        )

    def promised(self) -> Counter[str]:
        """SHA-256 of each record for which the hook returned success."""
        lines = self.promises.read_text().splitlines() if self.promises.exists() else []
        return Counter(line.split()[2] for line in lines)

    def calls(self) -> int:
        """How many calls returned success so far."""
        return self.promises.read_bytes().count(b"\n") if self.promises.exists() else 0

    def finish(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for its end; returns its report for the plugin."""
        status = self.process.wait(timeout_s)
        if status != 0:
            raise RuntimeError(f"driver ended with status {status}:\n{self.process.log_tail()}")
        report = next(line for line in self.process.log_text().splitlines() if line.startswith('{"slurm"'))
        found: dict[str, Any] = json.loads(report)["plugins"]["redis"]
        return found


def stored_count(redis: RedisServer) -> int:
    """How many records the store says it has."""
    with redis.client() as client:
        reply = client.execute_command("SLURMJC.INFO", "job")
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return int(pairs[b"jobs"])


def stored_sums(redis: RedisServer) -> Counter[str]:
    """SHA-256 of each record in the store."""
    client = redis.client()
    sums: Counter[str] = Counter()
    if client.execute_command("SLURMJC.MATCH", "job", "oracle") is None:
        return sums
    while page := client.execute_command("SLURMJC.FETCH", "job", "oracle", 10000, "RECORDS"):
        sums.update(hashlib.sha256(record).hexdigest() for record in page)
    return sums
