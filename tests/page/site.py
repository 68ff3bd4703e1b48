# SPDX-License-Identifier: MIT
"""A daemon and its Redis; they may have an hour behind them in which jobs ended, somebody asked, and Redis was away."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from tests.harness import Daemon, RedisServer, run_dir, wait_until
from tests.harness.paths import ROOT
from tests.harness.ports import free_ports
from tests.harness.process import Process
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire

_LIVE_S: Final = 30.0
_TICK_S: Final = 0.05
_USERS: Final = ("ada", "grace", "emmy", "alan", "edsger")
_ACCOUNTS: Final = ("physics", "chemistry", "climate")
_NAMES: Final = ("mesh", "relax_ion", "wrf-post", "train", "<script>alert(1)</script>")
_STATES: Final = ((3, 0), (3, 0), (3, 0), (3, 0), (5, 256), (6, 0), (4, 0))


class Site:
    """What runs; `url` is the page's."""

    def __init__(self, directory: Path, settings: Mapping[str, Mapping[str, Any]] | None, *, hour: bool) -> None:
        self.redis = RedisServer(directory / "redis", options={"appendonly": "yes"})
        port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}/"
        sections = {"health": {"listen": f"127.0.0.1:{port}"}, **(settings or {})}
        sections["health"] = {**sections["health"], "listen": f"127.0.0.1:{port}"}
        self.daemon = Daemon(directory / "jc", redis_address=self.redis.address, settings=sections)
        if hour:
            argv = [sys.executable, "-m", "tests.page.fast", "run", "--config", self.daemon.conf]
            self.daemon.process = Process(argv, log=self.daemon.directory / "slurmjcd.log", cwd=ROOT)
        self.seq = 0
        self.held: socket.socket | None = None

    def start(self) -> None:
        self.redis.start()
        self.daemon.process.start()
        self.daemon.process.wait_ready(self.daemon.listening)

    async def put(self, wire: Wire, count: int) -> None:
        now = int(time.time())
        records = [_job(self.seq + 1 + number, now) for number in range(count)]
        answer = await wire.put(self.seq + 1, *records)
        assert answer == count, answer
        self.seq += count

    async def ask(self) -> None:
        wire = await Wire.connect(self.daemon.query_socket)
        if await wire.call("SLURMJC.MATCH", "q", "user", random.choice(_USERS), "limit", "200") is not None:
            while isinstance(page := await wire.call("SLURMJC.FETCH", "q", 100, "RECORDS"), list) and page:
                pass
        await wire.close()

    async def live(self, *, away_s: tuple[float, float]) -> None:
        """Half a minute that the daemon takes for an hour; from when to when in it Redis is away."""
        wire = await Wire.connect(self.daemon.ingest_socket)
        began, is_away = time.monotonic(), False
        for tick in range(int(_LIVE_S / _TICK_S)):
            at = tick * _TICK_S
            if not is_away and away_s[0] <= at < away_s[1]:
                self.redis.kill()
                is_away = True
            elif is_away and at >= away_s[1]:
                self.redis.start()  # not in a thread: the kernel stops it when who started it is gone
                is_away = False
            burst = 6 if 6 < at < 7 or 23 < at < 25 else 1
            await self.put(wire, random.randint(10, 30) * burst)
            if not is_away and random.random() < (0.3 if at < 20 else 0.8):
                await self.ask()
            await asyncio.sleep(max(0.0, began + at + _TICK_S - time.monotonic()))
        await wire.call("SLURMJC.RING", "ring", "ATTEMPTED", self.seq, "DROPPED", 0, "SPILLED", 0)
        await wire.close()
        self.connect()

    def connect(self) -> None:
        """Stay connected, as slurmctld does."""
        self.held = socket.socket(socket.AF_UNIX)
        self.held.connect(str(self.daemon.ingest_socket))

    def stop(self) -> None:
        if self.held is not None:
            self.held.close()
        self.daemon.stop()

    def well(self) -> bool:
        """Is all well, and everything in Redis?"""
        try:
            with urlopen(self.url + "readyz", timeout=10) as answer:
                report = json.load(answer)
        except OSError:
            return False
        return bool(report["status"] == "ok" and report["components"]["spool"]["backlog_records"] == 0)


def _job(number: int, now: int) -> bytes:
    pick = random.Random(number)
    state, status = pick.choice(_STATES)
    ran, waited, user = pick.randint(5, 20_000), pick.randint(1, 4000), pick.randrange(len(_USERS))
    return job(
        number, user=_USERS[user], uid=1000 + user, account=pick.choice(_ACCOUNTS), name=pick.choice(_NAMES),
        state=state, exit_code=status, submit=now - ran - waited, eligible=now - ran - waited, start=now - ran, end=now,
        partition=pick.choice(("batch", "gpu")), node_count=pick.choice((1, 2, 8)), cpu_count=pick.choice((4, 16, 64)),
    )  # fmt: skip


@contextmanager
def running_site(settings: Mapping[str, Mapping[str, Any]] | None = None, *, hour: bool = False) -> Iterator[Site]:
    """Start Redis and daemon in a directory of their own; with `hour`, let an hour go by."""
    with run_dir() as directory, ExitStack() as stack:
        site = Site(directory, settings, hour=hour)
        stack.callback(site.redis.stop)
        stack.callback(site.stop)
        site.start()
        wait_until(site.well, what="a daemon that is well")
        yield site
