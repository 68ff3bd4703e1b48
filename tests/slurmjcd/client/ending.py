# SPDX-License-Identifier: MIT
"""A site whose jobs end while somebody waits for them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.harness import Daemon, RedisServer, wait_until
from tests.harness.paths import program
from tests.slurmjcd.client.site import Site, made
from tests.slurmjcd.jobs import job

NOW = int(time.time())


class EndingSite(Site):
    """Jobs are stored as the shipper does, with events."""

    def __init__(self, redis: RedisServer, daemon: Daemon, stack: ExitStack) -> None:
        super().__init__(daemon, redis)
        self._stack = stack

    def end(self, *jobs: dict[str, Any], keep: int = 1000) -> None:
        """These jobs end now."""
        records = [job(**made(**{"end": NOW, **fields})) for fields in jobs]
        with self.redis.client() as client:
            words = ("EVENTS", keep, time.time_ns() // 1_000_000, "RECORDS", *records)
            client.execute_command("SLURMJC.PUT", "job", *words)

    def waiting(self) -> int:
        """How many connections wait."""
        _, text = self.daemon.get("/metrics")
        return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("slurmjcd_waiting"))

    def begin(self, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
        """slurmjc in the background, once it waits."""
        before = self.waiting()
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **kwargs}
        own = {"TZ": "UTC", "SLURMJC_SOCKET": str(self.daemon.query_socket), "SLURM_CONF": "/nonexistent"}
        env = {**os.environ, **own, **options.pop("env", {})}
        process = subprocess.Popen([program("slurmjc"), *args], env=env, **options)
        self._stack.callback(_finish, process)
        wait_until(lambda: self.waiting() > before or process.poll() is not None, what="slurmjc to wait")
        return process

    def finish(self) -> None:
        """End what still runs, so that the next test begins with nobody who waits."""
        self._stack.close()
        wait_until(lambda: self.waiting() == 0, what="the daemon to see that they are gone")

    def wait(self, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
        return self.begin("wait", "--no-squeue", *args, **kwargs)


def _finish(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@contextmanager
def ending(
    rundir: Any, *, settings: dict[str, dict[str, Any]] | None = None, options: dict[str, str | int] | None = None
) -> Iterator[EndingSite]:
    with ExitStack() as stack:
        redis = RedisServer(rundir / "redis", options=options)
        redis.start()
        stack.callback(redis.stop)
        daemon = Daemon(rundir / "jc", redis_address=redis.address, settings=settings)
        stack.callback(daemon.stop)
        daemon.start()
        with ExitStack() as processes:
            yield EndingSite(redis, daemon, processes)
