# SPDX-License-Identifier: MIT
"""slurmjcd with a generated configuration."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any

from tests.harness.paths import program
from tests.harness.process import Process


class Daemon:
    """One slurmjcd; its sockets are in `run_dir`, which is what JobCompLoc names.

    Args:
        redis_address: as in redis.address; empty for the daemon's own Redis.
        settings: section → key → value, over the defaults here.
    """

    def __init__(
        self,
        directory: Path,
        *,
        redis_address: str = "",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.state_dir = directory / "state"
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.state_dir.mkdir(exist_ok=True)
        self.state_dir.chmod(0o700)
        self.health_socket = directory / "health.sock"
        self.conf = directory / "slurmjcd.toml"
        self._redis_address = redis_address
        self.write_conf(settings or {})
        self.process = Process(
            [program("slurmjcd"), "run", "--config", self.conf], log=directory / "slurmjcd.log", env=env
        )

    @property
    def ingest_socket(self) -> Path:
        return self.run_dir / "ingest.sock"

    @property
    def query_socket(self) -> Path:
        return self.run_dir / "query.sock"

    def write_conf(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        sections: dict[str, dict[str, Any]] = {
            "daemon": {"run_dir": str(self.run_dir), "state_dir": str(self.state_dir), "slurm_user": "root"},
            "redis": {"address": self._redis_address} if self._redis_address else {},
            "access": {"private_data": False},
            "health": {"listen": f"unix:{self.health_socket}"},
        }
        for section, keys in settings.items():
            sections.setdefault(section, {}).update(keys)
        self.conf.write_text(_toml(sections))

    def start(self, *, ready: bool = True) -> None:
        self.process.start()
        self.process.wait_ready(self.ready if ready else self.listening)

    def listening(self) -> bool:
        return accepts(self.ingest_socket)

    def ready(self) -> bool:
        """Do all components say that they are well?"""
        try:
            status, body = self.get("/readyz")
        except OSError:
            return False
        return status == 200 and json.loads(body).get("status") == "ok"

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of the health endpoint's answer."""
        status, _, body = self.request(path)
        return status, body

    def request(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, Message, str]:
        """Status, headers and body of the health endpoint's answer."""
        connection = _UnixHTTPConnection(self.health_socket)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def stop(self) -> int | None:
        return self.process.stop()

    def kill(self) -> None:
        self.process.kill()


def accepts(path: Path) -> bool:
    """Does somebody listen on that Unix socket?"""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


class _UnixHTTPConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    lines: list[str] = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        # JSON's strings, numbers, booleans and lists are TOML's too
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"
