# SPDX-License-Identifier: MIT
"""A host as the pages see it: a Redis of its own, slurmjcd and a slurmctld's plugin, below one directory.

There is no systemd where tests run, so `systemctl` there asks this process, which starts and stops the real programs.
"""

from __future__ import annotations

import os
import shlex
import socketserver
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.docs.blocks import Block, run
from tests.harness import ROOT, Daemon, RedisServer, run_dir
from tests.harness.hook_driver import HookDriver
from tests.harness.paths import MODULE, program
from tests.harness.waiting import wait_until

_CONTROL: Final = """#!{python}
import socket, sys
with socket.socket(socket.AF_UNIX) as control:
    control.connect({path!r})
    control.sendall((" ".join(sys.argv[1:]) + "\\n").encode())
    answer = control.makefile().read()
sys.stderr.write(answer)
sys.exit(bool(answer))
"""
_OURS: Final = """#!/bin/sh
case " $* " in
    *" audit "*|*" doctor "*|*" import "*|*" quarantine "*|*" check-config "*) set -- "$@" --config {conf} ;;
esac
exec {program} "$@"
"""


class Site:
    """What runs; `play` runs a block of a page."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.redis_conf = directory / "redis.conf"
        self.module = directory / "slurm_jobcomp.so"
        self.module.symlink_to(MODULE)
        self.redis_dir = directory / "redis"
        self._control = directory / "control"
        stack.enter_context(self._serving())  # ends last, see there
        self.redis = RedisServer(self.redis_dir, conf=self._write_redis_conf())
        stack.callback(self.redis.stop)
        self.redis.start()
        self.daemon = Daemon(directory / "jc", redis_address=self.redis.address)
        stack.callback(self.daemon.stop)
        self.daemon.start()
        self._drivers = 0
        self._bin = directory / "bin"
        self._bin.mkdir()
        self._program("systemctl", _CONTROL.format(python=sys.executable, path=str(self._control)))
        for name in ("slurmjc", "slurmjcd"):
            self._program(name, _OURS.format(conf=self.daemon.conf, program=program(name)))

    def _write_redis_conf(self) -> Path:
        text = (ROOT / "systemd" / "redis" / "slurmjcd.conf").read_text()
        self.redis_dir.mkdir()
        text = text.replace("/usr/lib/redis/modules/slurm_jobcomp.so", str(self.module))
        text = text.replace("/run/redis/redis-server.sock", str(self.redis_dir / "redis.sock"))
        self.redis_conf.write_text(f"{text}\nport 0\ndir {self.redis_dir}\n")
        return self.redis_conf

    def _program(self, name: str, text: str) -> None:
        path = self._bin / name
        path.write_text(text)
        path.chmod(0o755)

    @property
    def paths(self) -> Mapping[str, str]:
        """What the pages call it, and what it is here."""
        return {
            "/etc/slurmjcd/slurmjcd.toml": str(self.daemon.conf),
            "/var/lib/slurmjcd": str(self.daemon.state_dir),
            "/run/slurmjcd": str(self.daemon.run_dir),
            "/etc/redis/redis.conf": str(self.redis_conf),
            "/var/lib/redis": str(self.redis_dir),
            "/var/log/redis/redis-server.log": str(self.redis.process.log),
            "/run/redis/redis-server.sock": str(self.redis.socket),
            "/usr/lib/redis/modules/slurm_jobcomp.so": str(self.module),
            "/var/backups": str(self.directory),
            "journalctl -u slurmjcd": f"cat {shlex.quote(str(self.daemon.process.log))}",
            "http://127.0.0.1:9856": f"--unix-socket {self.daemon.health_socket} http://localhost",
        }

    def play(self, block: Block) -> str:
        """Run it as root on this host; what it printed."""
        env = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "SLURMJC_SOCKET": str(self.daemon.query_socket),
            "TZ": "UTC",
        }
        return run(block, paths=self.paths, env=env, cwd=self.directory)

    # ---- systemctl ----

    def control(self, words: list[str]) -> str:
        """What `systemctl WORDS` does; words of an error, empty when it went well."""
        verb, *units = words
        for unit in units:
            part: Any = {"slurmjcd": self.daemon, "redis-server": self.redis}.get(unit)
            if part is None or verb not in {"start", "stop", "restart", "reload"}:
                return f"no such unit or verb here: {' '.join(words)}\n"
            if verb in {"stop", "restart"}:
                part.process.stop()
            if verb in {"start", "restart"}:
                part.process.start()
                if unit == "redis-server":
                    # the unit is up when the program is; it may end at once, as on a host
                    wait_until(lambda: not self.redis.process.running or self.redis.answers(), what="Redis")
                else:
                    part.process.wait_ready(part.listening)
        return ""

    @contextmanager
    def _serving(self) -> Iterator[None]:
        site = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    answer = site.control(self.rfile.readline().decode().split())
                except RuntimeError as exc:
                    answer = f"{exc}\n"
                self.wfile.write(answer.encode())

        # one thread for all of it: what it starts gets SIGTERM when that thread ends
        with socketserver.UnixStreamServer(str(self._control), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, name="systemctl")
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    # ---- jobs ----

    def end_jobs(self, count: int) -> None:
        """As many jobs end: the plugin's hook is called as slurmctld does, and slurmctld stops."""
        self._drivers += 1
        driver = HookDriver(
            self.directory / f"driver{self._drivers}", self.daemon.run_dir,
            f"--calls={count}", f"--first={self._drivers * 100_000}",
        )  # fmt: skip
        driver.process.start()
        driver.finish()

    def stored(self) -> int:
        """How many jobs the store has."""
        with self.redis.client() as client:
            flat = client.execute_command("SLURMJC.INFO", "job")
        return int(dict(zip(flat[::2], flat[1::2], strict=True))[b"jobs"])

    def wait_stored(self, count: int) -> None:
        wait_until(lambda: self.stored() == count, what=lambda: f"{count} jobs in Redis, there are {self.stored()}")


@contextmanager
def running_site() -> Iterator[Site]:
    with run_dir() as directory, ExitStack() as stack:
        yield Site(directory, stack)
