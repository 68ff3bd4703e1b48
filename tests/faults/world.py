# SPDX-License-Identifier: MIT
"""All programs of a site in one directory, the faults between them, and the question whether every record is there."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from slurmjcd import record
from tests.faults import oracle, sacct
from tests.faults.driver import Driver
from tests.faults.proxy import ChaosProxy
from tests.harness import Daemon, RedisServer
from tests.harness.daemon import accepts
from tests.harness.process import Process
from tests.harness.waiting import wait_until

# what is on disk at Redis' reply stays: then only our own parts can lose something
REDIS_OPTIONS: Mapping[str, str | int] = {"appendonly": "yes", "appendfsync": "always"}


class World:
    """redis-server, slurmjcd and a driver, with a chaos proxy before Redis and before the daemon if wanted.

    Args:
        ring_dir: a directory on tmpfs that is removed with the run's own.
        promises: whether the driver writes its log, a synchronous write between calls.
        jobs: so many calls the driver can make at most.
        redis_address: where the daemon finds Redis when that is not this world's own; tests set `redis` then.
    """

    def __init__(
        self,
        directory: Path,
        ring_dir: Path,
        stack: ExitStack,
        *,
        redis_options: Mapping[str, str | int] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        daemon_env: Mapping[str, str] | None = None,
        params: str = "",
        proxied: bool = False,
        promises: bool = True,
        jobs: int = 300_000,
        redis_address: str = "",
    ) -> None:
        self.directory = directory
        self.redis = RedisServer(directory / "redis", options={**REDIS_OPTIONS, **(redis_options or {})})
        stack.callback(self.redis.stop)
        address = redis_address or self.redis.address
        self.redis_proxy = self.daemon_proxy = None
        if proxied:
            self.redis_proxy = ChaosProxy(directory / "redis-proxy.sock", self.redis.socket)
            self.redis_proxy.start()
            stack.callback(self.redis_proxy.stop)
            address = f"unix:{directory / 'redis-proxy.sock'}"
        self.daemon = Daemon(directory / "jc", redis_address=address, settings=settings, env=daemon_env)
        stack.callback(self.daemon.stop)
        loc = self.daemon.run_dir
        if proxied:
            loc = directory / "loc"
            loc.mkdir()
            self.daemon_proxy = ChaosProxy(loc / "ingest.sock", self.daemon.ingest_socket)
            self.daemon_proxy.start()
            stack.callback(self.daemon_proxy.stop)
        self.driver = Driver(directory / "ctld", loc, ring_dir / "ring", params=params, promises=promises, jobs=jobs)
        stack.callback(self.driver.stop)

    def start(self) -> None:
        self.redis.start()
        self.daemon.start()

    # ---- faults --------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> dict[str, Process]:
        return {"driver": self.driver.process, "daemon": self.daemon.process, "redis": self.redis.process}

    def revive(self) -> None:
        """Let everything run again that was stopped or killed; slurmctld comes back as a new process."""
        for process in [*self.driver.runs, self.daemon.process, self.redis.process]:
            if process.running:
                process.send(signal.SIGCONT)
        if not self.redis.process.running:
            self.redis.start()
        if not self.daemon.process.running:
            self.start_daemon()
        for proxy in (self.redis_proxy, self.daemon_proxy):
            if proxy is not None:
                proxy.heal()

    def daemon_peak_mib(self) -> int:
        """The daemon's largest resident set so far, 0 when it isn't there."""
        try:
            status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        except OSError:
            return 0
        return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)

    def start_daemon(self) -> None:
        """Start it and wait until it serves; Redis may be away."""
        self.daemon.process.start()
        self.daemon.process.wait_ready(lambda: accepts(self.daemon.health_socket), timeout_s=30)

    # ---- the question --------------------------------------------------------------------------------------------

    def stored_count(self) -> int:
        """Jobs in Redis, -1 while it doesn't say."""
        try:
            with self.redis.client() as client:
                reply = client.execute_command("SLURMJC.INFO", "job")
        except redis.RedisError:
            return -1
        pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return int(pairs.get(b"jobs", 0))

    def found(self) -> list[bytes]:
        """Every record in the store."""
        with self.redis.client() as client:
            return oracle.stored(client)

    def missing(self, *, allowed: int = 0) -> int:
        """How many promised records are not in Redis yet, by count alone."""
        return max(0, self.driver.calls - allowed - self.stored_count())

    def drain(self, *, allowed: int = 0, timeout_s: float = 180.0) -> None:
        """Everything runs and every call is made: one fresh record passes, then all that was promised is there.

        Args:
            allowed: so many promised records may stay away.
        """
        for run in self.driver.runs:
            if run.running:
                self.driver.report(run)
        fresh = self.driver.start(1)
        wait_until(self.driver.promised_last, what="the fresh record's call", timeout_s=60)
        wait_until(
            # the count is quick; records whose call was killed before it was logged make it too large by a few
            lambda: not fresh.running or (not self.missing(allowed=allowed) and len(self.verdict().lost) <= allowed),
            what=lambda: f"{len(self.verdict().lost)} of {self.driver.calls} records to arrive",
            timeout_s=timeout_s,
            every_s=0.1,
        )

    def verdict(self) -> oracle.Verdict:
        """Every record that was promised against every record that is there."""
        promised, possible = self.driver.promised(), self.driver.possible()
        verdict = oracle.Verdict()
        seen = verdict.seen
        for blob in self.found():
            job_id = int(record.decode_row(blob)[1])
            if job_id in seen:
                verdict.twice.append(job_id)
            seen[job_id] += 1
            digest = hashlib.sha256(blob).hexdigest()
            if job_id not in possible:
                verdict.unknown.append(job_id)
            elif promised.get(job_id, digest) != digest:
                verdict.changed[job_id] = digest
        verdict.lost = sorted(promised.keys() - seen.keys())
        return verdict

    def check(self, *, timeout_s: float = 180.0) -> None:
        """Heal, drain, compare, and pass one fresh record: nothing lost, nothing twice, nothing changed.

        Against the calls of the hook, twice: what FETCH returns, with the sum of each record, and what sacct -c lists.
        """
        self.revive()
        self.drain(timeout_s=timeout_s)
        verdict = self.verdict()
        assert verdict.good, verdict
        listed = sacct.job_ids(self.directory / "sacct", self.daemon.run_dir, cluster=self.driver.cluster)
        assert listed == verdict.seen, f"sacct -c: {oracle.counts(listed, verdict.seen)}"
        quarantined = oracle.quarantined(self.daemon.state_dir / "spool.db")
        assert not quarantined, f"{len(quarantined)} records are in quarantine"
