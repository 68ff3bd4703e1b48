# SPDX-License-Identifier: MIT
"""The daemon's own Redis: a redis-server or valkey-server on a Unix socket, with the module and an append-only file.

It never outlives the daemon: the kernel tells it to stop when the daemon dies. And it holds an inherited lock for as
long as it lives, so that a daemon that was killed and started again waits for its end before it starts another one
on the same files.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from slurmjcd.backoff import Backoff, Quiet
from slurmjcd.config.settings import Config
from slurmjcd.errors import ConfigError

log = logging.getLogger(__name__)

_SERVERS: Final = ("redis-server", "valkey-server")
_PR_SET_PDEATHSIG: Final = 1
_STOP_S: Final = 30.0
_READY_S: Final = 0.02
_LOG_TAIL_BYTES: Final = 4096


class EmbeddedRedis:
    """Starts the server, starts it again when it dies, and stops it."""

    def __init__(self, config: Config) -> None:
        section = config.embedded
        self.server = _find_server(section.server)
        self.directory, self.socket = config.embedded_dir, config.embedded_socket
        self._module, self._appendfsync, self._maxmemory = section.module, section.appendfsync, section.maxmemory
        _check_module(self._module)
        self._process: asyncio.subprocess.Process | None = None
        self._quiet = Quiet()
        self._stopping = False
        self.status = "not started yet"
        self.on_ended: Callable[[], None] = lambda: None  # called each time the server has ended by itself

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def log_path(self) -> Path:
        return self.directory / "redis.log"

    def prepare(self) -> None:
        """Make the directory and write the server's configuration.

        Raises:
            ConfigError: that can't be done.
        """
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            self._conf_path.write_text(self._conf())
        except OSError as exc:
            raise ConfigError(f"embedded.dir: {self.directory} can't be used: {exc.strerror}") from exc

    @property
    def _conf_path(self) -> Path:
        return self.directory / "redis.conf"

    def _conf(self) -> str:
        settings = {
            "port": "0",
            "unixsocket": _quoted(self.socket),
            "unixsocketperm": "600",
            "dir": _quoted(self.directory),
            "logfile": _quoted(self.log_path),
            "daemonize": "no",
            "loadmodule": _quoted(self._module),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": '""',
            "maxmemory": str(self._maxmemory),
            "maxmemory-policy": "noeviction",
            "enable-module-command": "no",
            "enable-debug-command": "no",
            # somebody may attach a replica
            "propagation-error-behavior": "panic-on-replicas",
            "enable-protected-configs": "no",
        }
        head = "# Written by slurmjcd at each start; what is changed here is lost. See [embedded] in slurmjcd.toml.\n"
        return head + "".join(f"{name} {value}\n" for name, value in settings.items())

    async def run(self) -> None:
        """Keep the server running until cancelled; cancel stops it."""
        backoff = Backoff(first_s=0.2, longest_s=10.0)
        try:
            while True:
                started = time.monotonic()
                code = await self._serve_once()
                if time.monotonic() - started > 10.0:
                    backoff.reset()
                self.on_ended()
                self.status = f"{Path(self.server).name} ended with {_ending(code)}: {self._last_words()}"
                if self._quiet.allows(self.status):
                    log.error("embedded: %s; it is started again", self.status)
                await asyncio.sleep(backoff.next_s())
        finally:
            self._stopping = True
            await self._stop()

    async def _serve_once(self) -> int:
        lock = await self._lock()
        try:
            self._process = await asyncio.create_subprocess_exec(
                self.server, str(self._conf_path),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(lock,), preexec_fn=_die_with_parent(os.getpid()), start_new_session=True,
                cwd=self.directory,
            )  # fmt: skip
        finally:
            os.close(lock)  # the server keeps its copy, and with it the lock
        self.status = "running"
        log.info("embedded: %s runs as pid %d on %s", Path(self.server).name, self._process.pid, self.socket)
        return await self._process.wait()

    async def _lock(self) -> int:
        """The lock that a running server of this directory holds; waits until it is free."""
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.status = f"waiting for the server that still runs in {self.directory}"
                if self._quiet.allows("lock"):
                    log.info("embedded: %s", self.status)
                await asyncio.sleep(_READY_S * 5)  # a lock can't be awaited
            else:
                return lock

    def _last_words(self) -> str:
        """The last line of the server's log that says what was wrong."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - _LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return f"see {self.log_path}"
        telling = [line for line in lines if " # " in line or "Fatal" in line] or lines
        return telling[-1] if telling else f"see {self.log_path}"

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            log.error("embedded: pid %d doesn't stop, it is killed", process.pid)
            process.kill()
            await process.wait()
        self.status = "stopped"
        log.info("embedded: stopped")


def _find_server(name: str) -> str:
    candidates = (name,) if name else _SERVERS
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is not None:
            return path
    raise ConfigError(
        f"embedded.server: no {' or '.join(candidates)} found in PATH: "
        "install one, or set redis.address to a server that runs"
    )


def _check_module(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(
            f"embedded.module: {path} doesn't exist: "
            "install slurm_jobcomp.so there or set embedded.module to where it is"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise ConfigError(f"embedded.module: {path} must be readable and executable: chmod 755 {path}")


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def _die_with_parent(parent: int) -> Callable[[], None]:
    """What the child does before exec: ask the kernel for SIGTERM when the daemon dies."""
    libc = ctypes.CDLL(None, use_errno=True)

    def child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return child
