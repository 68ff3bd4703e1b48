# SPDX-License-Identifier: MIT
"""A master, its replicas and the sentinels that watch them, on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from tests.harness.paths import MODULE
from tests.harness.ports import free_ports
from tests.harness.process import Process
from tests.harness.redis_server import SERVER, RedisServer
from tests.harness.waiting import scaled, wait_until

SERVICE = "jobs"


class SentinelSite:
    """Servers that replicate, and sentinels that agree on which is the master.

    Args:
        options: of every server, as in redis.conf.
        down_after_ms: how long a server may be silent before it counts as down.
        bare: how many of the replicas have not our module.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 2,
        sentinels: int = 3,
        options: Mapping[str, str | int] | None = None,
        down_after_ms: int = 1000,
        bare: int = 0,
    ) -> None:
        ports = free_ports(1 + replicas + sentinels)
        self.ports, self._sentinel_ports = ports[: 1 + replicas], ports[1 + replicas :]
        self.servers: dict[int, RedisServer] = {}
        for number, port in enumerate(self.ports):
            of_master = {"replicaof": f"127.0.0.1 {self.ports[0]}"} if number else {}
            settings = {
                "port": port,
                "bind": "127.0.0.1",
                "repl-diskless-sync-delay": 0,
                **of_master,
                **(options or {}),
            }
            module = MODULE if number <= replicas - bare else None
            self.servers[port] = RedisServer(directory / f"redis{number}", options=settings, module=module)
        self.sentinels = [
            self._sentinel(directory / f"sentinel{number}", port, down_after_ms, quorum=sentinels // 2 + 1)
            for number, port in enumerate(self._sentinel_ports)
        ]

    def _sentinel(self, directory: Path, port: int, down_after_ms: int, *, quorum: int) -> Process:
        directory.mkdir(parents=True)
        conf = directory / "sentinel.conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.ports[0]} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        return Process([SERVER, conf, "--sentinel"], log=directory / "sentinel.log")

    @property
    def address(self) -> str:
        """As slurmjcd's redis.address has it."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._sentinel_ports)}/{SERVICE}"

    def start(self) -> None:
        """Start everything; returns when the replicas have what the master has and the sentinels know them all."""
        for server in self.servers.values():
            server.start()
        wait_until(self._replicated, what="the replicas to follow")
        for process in self.sentinels:
            process.start()
        wait_until(lambda: all(map(self._knows_all, self._sentinel_ports)), what="the sentinels to find each other")

    def stop(self) -> None:
        for process in [*self.sentinels, *(server.process for server in self.servers.values())]:
            process.stop()

    def master_port(self) -> int:
        """Where the sentinels say that the master is, 0 while none answers."""
        for port in self._sentinel_ports:
            with contextlib.suppress(redis.RedisError), self._client(port) as client:
                return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return 0

    def master(self) -> RedisServer:
        return self.servers[self.master_port()]

    def ask_for_failover(self) -> bool:
        """Have a replica made the master although that one is well; False while the last failover is not over."""
        with self._client(self._sentinel_ports[0]) as client:
            try:
                client.execute_command("SENTINEL", "FAILOVER", SERVICE)
            except redis.ResponseError:  # INPROG, NOGOODSLAVE
                return False
            return True

    def watch(self, port: int) -> None:
        """Have each sentinel forget what it watches and watch the server at that port."""
        for sentinel in self._sentinel_ports:
            with self._client(sentinel) as client:
                client.sentinel_remove(SERVICE)
                client.sentinel_monitor(SERVICE, "127.0.0.1", port, len(self.sentinels) // 2 + 1)

    def wait_failover(self, before: int) -> int:
        """Wait until another server is the master, and says so itself; returns its port."""

        def over() -> int:
            port = self.master_port()
            if port in (0, before) or not self.servers[port].process.running:
                return 0
            with contextlib.suppress(redis.RedisError), self.servers[port].client() as client:
                return port if client.info("replication")["role"] == "master" else 0
            return 0

        return wait_until(over, what="a failover", timeout_s=60)

    def _replicated(self) -> bool:
        with self.servers[self.ports[0]].client() as client:
            return int(client.info("replication")["connected_slaves"]) == len(self.ports) - 1

    def _knows_all(self, port: int) -> bool:
        with contextlib.suppress(redis.RedisError), self._client(port) as client:
            state = client.sentinel_master(SERVICE)
            others, replicas = state["num-other-sentinels"], state["num-slaves"]
            return bool(others == len(self.sentinels) - 1 and replicas == len(self.ports) - 1)
        return False

    @staticmethod
    def _client(port: int) -> Any:
        return redis.Redis(port=port, socket_timeout=scaled(5), protocol=2)
