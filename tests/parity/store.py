# SPDX-License-Identifier: MIT
"""Redis with the module, slurmjcd in front of it: the other side of every question."""

from __future__ import annotations

from pathlib import Path

from tests.harness import MODULE, PLUGIN, Daemon, RedisServer

from .sandbox import Clock, RigError


class Store:
    """What jobcomp/redis writes to and `sacct -c` reads from, in the sandbox's time."""

    def __init__(self, top: Path, clock: Clock) -> None:
        for built in (PLUGIN, MODULE):
            if not built.exists():
                raise RigError(f"{built} is not built: make plugin")
        self.redis = RedisServer(top / "redis")
        self.daemon = Daemon(top / "slurmjcd", redis_address=self.redis.address, env=clock.running())
        self.daemon.run_dir.chmod(0o755)

    def start(self) -> None:
        self.redis.start()
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.stop()
        self.redis.stop()

    def jobs(self) -> int:
        """How many runs of jobs are stored."""
        with self.redis.client() as client:
            flat = client.execute_command("SLURMJC.INFO", "job")
        return int(flat[flat.index(b"jobs") + 1])
