# SPDX-License-Identifier: MIT
"""All programs together: munge, Redis with the module, slurmjcd, slurmctld and its nodes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.harness.daemon import Daemon
from tests.harness.munge import Munge
from tests.harness.paths import program
from tests.harness.redis_server import RedisServer
from tests.harness.slurm import SlurmCluster
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.waiting import scaled, wait_until


@dataclass(frozen=True)
class Stack:
    """What runs. Each part can be killed and started on its own."""

    redis: RedisServer
    daemon: Daemon
    cluster: SlurmCluster

    def stored(self) -> int:
        """How many records the store holds."""
        fields = self.redis.client().execute_command("SLURMJC.INFO", "job")
        return int(dict(zip(fields[::2], fields[1::2], strict=True))[b"jobs"])

    def wait_stored(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until that many records are in the store."""
        wait_until(
            lambda: self.stored() >= count,
            what=lambda: f"{count} records in Redis, there are {self.stored()}; /readyz: {self.daemon.get('/readyz')}",
            timeout_s=timeout_s,
        )

    def runs(self, job_id: int) -> list[dict[str, Any]]:
        """Every record of a job id, oldest first, text as text."""
        reply = self.redis.client().execute_command("SLURMJC.GET", "job", str(job_id))
        return [_row(row) for row in reply]

    def slurmjc(self, *words: str) -> str:
        """What our own client prints; it has to succeed."""
        done = subprocess.run(
            [program("slurmjc"), "--socket", str(self.daemon.query_socket), *words],
            env={**os.environ, **self.cluster.env},
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
        )
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        return done.stdout


def _row(flat: list[Any]) -> dict[str, Any]:
    values = [value.decode(errors="surrogateescape") if isinstance(value, bytes) else value for value in flat]
    return dict(zip(values[::2], values[1::2], strict=True))


@contextmanager
def running_stack(
    directory: Path,
    *,
    munge: Munge | None = None,
    redis_options: Mapping[str, str | int] | None = None,
    daemon_settings: Mapping[str, Mapping[str, Any]] | None = None,
    slurm_options: SlurmOptions | None = None,
) -> Iterator[Stack]:
    """Start everything below one directory; stop it, the last one first, whatever happens."""
    with ExitStack() as stack:
        if munge is None:
            munge = Munge(directory / "munge")
            stack.callback(munge.stop)
            munge.start()
        redis = RedisServer(directory / "redis", options=redis_options)
        stack.callback(redis.stop)
        redis.start()
        daemon = Daemon(directory / "jc", redis_address=redis.address, settings=daemon_settings)
        stack.callback(daemon.stop)
        daemon.start()
        options = slurm_options or SlurmOptions()
        if options.job_comp_loc is None:
            options = replace(options, job_comp_loc=str(daemon.run_dir))
        cluster = SlurmCluster(directory / "slurm", munge.socket, options)
        stack.callback(cluster.stop)
        cluster.start()
        yield Stack(redis, daemon, cluster)
