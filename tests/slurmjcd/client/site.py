# SPDX-License-Identifier: MIT
"""A daemon with jobs behind it, and slurmjc as a process that asks it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.harness import Daemon, RedisServer, run_dir
from tests.harness.paths import program
from tests.slurmjcd.jobs import job


@dataclass
class Site:
    """A daemon with jobs behind it."""

    daemon: Daemon
    redis: RedisServer

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return run(*args, SLURMJC_SOCKET=str(self.daemon.query_socket), **env)

    def ids(self, *args: str) -> list[str]:
        done = self.run("jobs", *args, "-nP", "-o", "jobid")
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("slurmjc"), *args], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "TZ": "UTC", "SLURM_CONF": "/nonexistent", **env}, errors="surrogateescape",
    )  # fmt: skip


def made(**fields: Any) -> dict[str, Any]:
    end = fields["end"]
    return {"submit": end - 100, "eligible": end - 100, "start": end - 60} | fields


@contextmanager
def serving(jobs: list[dict[str, Any]]) -> Iterator[Site]:
    """A site with these jobs in Redis."""
    with run_dir() as path:
        redis = RedisServer(path / "redis")
        redis.start()
        daemon = Daemon(path / "jc", redis_address=redis.address)
        try:
            daemon.start()
            with redis.client() as client:
                if jobs:
                    records = [job(**made(**fields)) for fields in jobs]
                    client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records)
            yield Site(daemon, redis)
        finally:
            daemon.stop()
            redis.stop()
