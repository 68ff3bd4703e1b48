# SPDX-License-Identifier: MIT
"""A redis-server (or valkey-server) on a Unix socket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.harness.paths import MODULE
from tests.harness.process import Process
from tests.harness.waiting import scaled

# REDIS_SERVER names another server to test with.
SERVER: Final = os.environ.get("REDIS_SERVER", "redis-server")


class RedisServer:
    """A server with our module, without TCP and without persistence unless options say so.

    Args:
        directory: for socket, log and data files.
        module: the module to load; None for a server that lacks it.
        module_arguments: what stands behind it in a loadmodule line.
        options: settings as in redis.conf, over the defaults here.
        conf: a whole redis.conf instead of all that; its unixsocket has to be redis.sock in `directory`.
        ready_without_login: a server that wants a password before it answers PING is ready when it asks for it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        module: Path | None = MODULE,
        module_arguments: Sequence[str] = (),
        options: Mapping[str, str | int] | None = None,
        server: str = SERVER,
        conf: Path | None = None,
        ready_without_login: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.socket = directory / "redis.sock"
        self._ready_without_login = ready_without_login
        log = directory / "redis.log"
        if conf is not None:
            self.process = Process([server, conf], log=log)
            return
        settings: dict[str, str | int] = {
            "port": 0,
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(directory),
            "save": "",
            "appendonly": "no",
            "enable-debug-command": "yes",
            **(options or {}),
        }
        argv: list[str] = [server]
        for name, value in settings.items():
            argv += [f"--{name}", *([""] if value == "" else str(value).split(" "))]
        if module is not None:
            argv += ["--loadmodule", str(module), *module_arguments]
        self.process = Process(argv, log=log)

    @property
    def address(self) -> str:
        """As slurmjcd's redis.address has it."""
        return f"unix:{self.socket}"

    def client(self, **kwargs: Any) -> Any:
        """A redis.Redis of this server; replies are bytes, RESP2 unless `protocol` says other.

        Any, because much of redis-py has no types.
        """
        kwargs = {"protocol": 2, "socket_timeout": scaled(30), **kwargs}
        return redis.Redis(unix_socket_path=str(self.socket), **kwargs)

    def start(self, timeout_s: float = 20.0) -> None:
        self.process.start()
        self.process.wait_ready(self.answers, timeout_s=timeout_s)

    def answers(self) -> bool:
        """Is it up, and has it loaded its data?"""
        try:
            # redis-py would try again for seconds, and we are asked again anyway
            with self.client(retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return self._ready_without_login
        except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
            return False

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def restart(self) -> None:
        """Stop as an administrator would, and start again with the same files."""
        self.stop()
        self.start()

    def cli(self, *words: str) -> str:
        """What redis-cli prints for a command."""
        done = subprocess.run(
            ["redis-cli", "-s", str(self.socket), *words],
            capture_output=True,
            text=True,
            timeout=scaled(30),
            check=True,
        )
        return done.stdout
