# SPDX-License-Identifier: MIT
"""The daemon: start, serve, stop. The first SIGTERM drains, a second one forces; SIGHUP reloads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slurmjcd import __version__, systemd
from slurmjcd.access.listener import Listener, descriptors
from slurmjcd.access.lookups import Lookups
from slurmjcd.access.policy import AccessPolicy
from slurmjcd.access.sockets import OwnSocket
from slurmjcd.config.checks import check_machine, slurm_uid
from slurmjcd.config.settings import Config
from slurmjcd.errors import ConfigError, SlurmjcdError, SpoolError, StoreError
from slurmjcd.health import status
from slurmjcd.health.jobpages import JobPages, page_token
from slurmjcd.health.metrics import Metrics
from slurmjcd.health.observer import Observer
from slurmjcd.health.readiness import Readiness
from slurmjcd.health.server import HealthServer
from slurmjcd.health.statuspage import StatusPage
from slurmjcd.ingest.committer import Committer
from slurmjcd.ingest.server import IngestServer
from slurmjcd.intake.resizes import Resizes
from slurmjcd.intake.server import IntakeServer, read_token
from slurmjcd.loopbackhttp import tcp_socket
from slurmjcd.protocol import Limits
from slurmjcd.query.server import QueryServer, query_server
from slurmjcd.shipping.shippers import Shippers
from slurmjcd.slurm.slurmconf import private_jobs
from slurmjcd.spool.spool import Spool
from slurmjcd.store.embedded import EmbeddedRedis
from slurmjcd.store.store import Store

if TYPE_CHECKING:
    from slurmjcd.cold.keeper import ColdKeeper

log = logging.getLogger(__name__)

_TRIM_S: Final = 10.0
_TRIM_MIN_S: Final = 0.2
_RELOAD_S: Final = 60.0
_RESERVED_DESCRIPTORS: Final = 128  # what is open beside connections: spool, Redis, health, libraries

LoadConfig = Callable[[], Config]


class Daemon:
    """One slurmjcd. `await run()` returns when it has stopped."""

    def __init__(self, config: Config, load: LoadConfig) -> None:
        self.config = config
        self._load = load
        self.metrics = Metrics()
        self.store = Store(config)
        self.spool: Spool | None = None
        self.shipper: Shippers | None = None
        self.committer: Committer | None = None
        self.ingest: IngestServer | None = None
        self.intake: IntakeServer | None = None
        self.query: QueryServer | None = None
        self.embedded: EmbeddedRedis | None = None
        self.cold: ColdKeeper | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._servers: dict[str, asyncio.Server | Listener] = {}
        self._own_sockets: list[OwnSocket] = []
        self._stop = asyncio.Event()
        self._broken: str | None = None  # a task that ended by itself
        self._force = asyncio.Event()
        self._reload: asyncio.Task[None] | None = None
        self._lookups = Lookups(timeout_s=_RELOAD_S)
        self._notifier = systemd.Notifier(os.environ)
        self._passed = systemd.take_listen_fds(os.environ)
        self._readiness = Readiness(self)
        self.observer = Observer(self)
        self._job_pages = JobPages(self)
        pages = StatusPage(self.observer, search_is_on=lambda: self._job_pages.on).pages | self._job_pages.pages
        self._health = HealthServer(self.metrics, self._readiness.report, self._readiness.refresh_metrics, pages)

    async def run(self) -> None:
        """Start, serve until a signal, stop.

        Raises:
            ConfigError, SpoolError: it can't start; what had been started is stopped again.
            SlurmjcdError: a task of it ended, which none should; everything was stopped in order.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal)
        try:
            await self._start()
            self._notifier.ready(self._readiness.summary())
            log.info("slurmjcd %s serves %s", __version__, " and ".join(self.config.daemon.roles))
            await self._stop.wait()
            self._notifier.stopping()
            await self._drain()
        finally:
            await self._shut_down()
        log.info("slurmjcd stopped")
        if self._broken:
            raise SlurmjcdError(f"stopped because of a bug: {self._broken} ended by itself, see the log")

    # ---- start ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        config = self.config
        check_machine(config)
        if config.embedded_used:
            self.embedded = EmbeddedRedis(config)
            self.embedded.on_ended = self.metrics.embedded_restarts.inc
            self.embedded.prepare()
        if "ingest" in config.daemon.roles:
            await self._start_ingest()
            if config.intake.listen:
                await self._start_intake()
        if config.cold.dir:
            self._start_cold()
        if "query" in config.daemon.roles:
            await self._start_query()
        if config.health.listen:
            self._job_pages.set_token(page_token(config))
            await self._health.start(self._health_socket(config.health.listen))
            self._spawn("observer", self.observer.run())
        for name, sock in self._passed.items():
            log.warning("systemd passed a socket named '%s' that no role of this daemon serves", name)
            sock.close()
        if self.embedded is not None:
            self._spawn("embedded", self.embedded.run())
        self._spawn("watchdog", self._notifier.feed_watchdog(self._readiness.summary))

    async def _start_ingest(self) -> None:
        config = self.config
        # where systemd doesn't do it, SlurmUser gets its socket from a daemon that runs as root
        owner = slurm_uid(config) if os.geteuid() == 0 else None
        listener = self._listener("ingest", config.ingest_socket, config.ingest.mode, owner)
        self.spool = await Spool.open(
            config.spool_path,
            max_bytes=config.spool.max_bytes,
            replay_s=config.spool.replay_s,
            replay_bytes=config.spool.replay_bytes,
        )
        self.metrics.rings.tell(self.spool.state.rings)
        self.committer = Committer(
            self.spool, self.metrics,
            batch_records=config.ingest.batch_records,
            batch_bytes=config.ingest.batch_bytes,
            batch_ms=config.ingest.batch_ms,
        )  # fmt: skip
        self.ingest = IngestServer(
            self.committer,
            allowed_uids=frozenset({0, slurm_uid(config)}),
            limits=Limits(request_bytes=config.ingest.request_bytes),
            pending_bytes=config.ingest.pending_bytes,
            connections=config.ingest.connections,
        )
        self.shipper = Shippers(self.spool, self.store, config.redis, self.metrics)
        self._spawn("jobstats", self.metrics.jobs.run())
        self._spawn("committer", self.committer.run())
        self._spawn("shipper", self.shipper.run())
        self._spawn("trim", self._trim(self.spool))
        await self._serve("ingest", self.ingest.connection, listener)

    def _start_cold(self) -> None:
        from slurmjcd.cold.keeper import ColdKeeper  # noqa: PLC0415 (it needs pyarrow)

        moves = "ingest" in self.config.daemon.roles
        self.cold = ColdKeeper(self.config, self.store, self.metrics, moves=moves)
        self._spawn("cold", self.cold.run())

    async def _start_intake(self) -> None:
        config = self.config
        assert self.committer is not None  # ingest has been started
        self.intake = IntakeServer(
            self.committer,
            allowed_uids=frozenset({0, slurm_uid(config)}),
            token=read_token(config.intake.token_file) if config.intake.token_file else None,
            body_bytes=config.intake.body_bytes,
            resizes=Resizes(config.daemon.state_dir / "intake_resizes.json"),
        )
        sock = self._passed.pop("intake", None) or tcp_socket(config.intake.listen, "intake.listen")
        await self.intake.start(sock)

    async def _start_query(self) -> None:
        listener = self._listener("query", self.config.query_socket, self.config.query.mode)
        self.query = query_server(self.store, self.config.query, self.metrics, self._policy(self.config))
        self.query.status = lambda operator: status.report(self, operator=operator)
        if self.cold is not None:
            self.query.older, self.query.older_s = self.cold.tier.sources, self.config.cold.timeout_s
        self.query.connections_max = self._descriptors_for_queries()
        self.query.feed.switch_off("ingest" in self.config.daemon.roles and not self.config.redis.events)
        if self.shipper is not None:
            self.query.why_incomplete = self.shipper.why_incomplete
        self._servers["query"] = Listener("query", listener, self.query.connection, admit=self.query.admit)

    def _descriptors_for_queries(self) -> int:
        """How many descriptors connections that ask may take, so that what ingest and the spool need is left."""
        # each shard's connections to ask, its shipper's and its feed of events
        each = self.config.query.store_connections + 2
        if self.store.reads_replicas:  # the master's too, and one that asks it how it is
            each += self.config.query.store_connections + 1
        kept = _RESERVED_DESCRIPTORS + each * len(self.store.shards)
        kept += self.config.ingest.connections if "ingest" in self.config.daemon.roles else 0
        room = max(descriptors() - kept, 1)
        if room < self.config.query.connections:
            log.warning(
                "query.connections is %d, but the limit of descriptors has room for %d: raise LimitNOFILE=",
                self.config.query.connections, room,
            )  # fmt: skip
        return room

    @staticmethod
    def _policy(config: Config) -> AccessPolicy:
        private = config.access.private_data
        if private == "slurm":
            private = private_jobs(config.access.slurm_conf)
        uids = {0, os.geteuid(), slurm_uid(config)}
        access = config.access
        return AccessPolicy(
            private=private, operators=access.operators, operator_uids=uids, coordinators=access.coordinators
        )

    def _listener(self, name: str, path: Path, mode: int, owner: int | None = None) -> socket.socket:
        passed = self._passed.pop(name, None)
        if passed is not None:
            return passed
        own = OwnSocket(path, mode, owner)
        self._own_sockets.append(own)
        return own.socket

    def _health_socket(self, listen: str) -> socket.socket:
        if "http" in self._passed:
            return self._passed.pop("http")
        if listen.startswith("unix:"):
            own = OwnSocket(Path(listen.removeprefix("unix:")), 0o666)
            self._own_sockets.append(own)
            return own.socket
        return tcp_socket(listen, "health.listen")

    async def _serve(self, name: str, factory: Callable[[], asyncio.Protocol], sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._servers[name] = await loop.create_unix_server(factory, sock=sock)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """No task of the daemon ends by itself; if one does, systemd should start the daemon anew."""
        if task.cancelled() or self._stop.is_set():
            return
        log.critical("a bug in slurmjcd: %s ended", task.get_name(), exc_info=task.exception())
        self._broken = task.get_name()
        self._stop.set()

    # ---- serve ---------------------------------------------------------------------------------------------------

    async def _trim(self, spool: Spool) -> None:
        while True:
            await asyncio.sleep(_TRIM_MIN_S)  # between two for which senders did not get room
            try:
                async with asyncio.timeout(_TRIM_S):
                    await spool.refused.wait()
            except TimeoutError:
                pass
            spool.refused.clear()
            try:
                while await spool.trim():
                    pass  # each call is a transaction of its own, so commits come in between
            except SpoolError as exc:
                log.warning("spool: %s", exc)

    def _on_stop_signal(self) -> None:
        if self._stop.is_set():
            log.warning("second signal: stopping at once")
            self._force.set()
        self._stop.set()

    def _on_reload_signal(self) -> None:
        before = self._reload

        async def one_after_the_other() -> None:
            if before is not None:
                await asyncio.gather(before, return_exceptions=True)
            await self._reload_now()

        self._reload = asyncio.get_running_loop().create_task(one_after_the_other(), name="reload")

    def _load_checked(self) -> tuple[Config, AccessPolicy, str | None]:
        config = self._load()
        check_machine(config)
        return config, self._policy(config), page_token(config)

    async def _reload_now(self) -> None:
        self._notifier.reloading()
        try:
            # users are looked up, which may take as long as a directory server likes
            config, policy, token = await self._lookups.run(self._load_checked)
        except (ConfigError, TimeoutError) as exc:
            why = str(exc) or f"looking up its users took more than {_RELOAD_S:g} s"
            log.error("reload: the old configuration stays: %s", why.replace("\n", "; "))
        else:
            self._take_in(config, policy, token)
        self._notifier.ready(self._readiness.summary())

    def _take_in(self, config: Config, policy: AccessPolicy, token: str | None) -> None:
        """Take over what can change while running, and name what can't."""
        if self.query is not None:
            self.query.policy = policy
            self.query.config = config.query
        if self.spool is not None:
            self.spool.max_bytes = config.spool.max_bytes
            self.spool.replay_s, self.spool.replay_bytes = config.spool.replay_s, config.spool.replay_bytes
        self._job_pages.set_token(token)
        logging.getLogger().setLevel(config.daemon.log_level.upper())
        live = {
            "access": None,
            "health": {"listen"},
            "query": {"socket", "mode", "store_connections"},
            "spool": {"path"},
            "daemon": ...,
        }
        changed = []
        for section in type(config).model_fields:
            old, new = getattr(self.config, section).model_dump(), getattr(config, section).model_dump()
            for key in old:
                fixed = live.get(section, ...)
                is_live = key == "log_level" or fixed is None or (isinstance(fixed, set) and key not in fixed)
                if old[key] != new[key] and not is_live:
                    changed.append(f"{section}.{key}")
        if changed:
            log.warning("reload: these take effect at the next start: %s", ", ".join(changed))
        log.info("reload: configuration taken in")

    # ---- stop ----------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Take nothing new, commit what came, ship what can be shipped, all within drain_s."""
        forced = asyncio.create_task(self._force.wait())
        work = asyncio.create_task(self._drain_work())
        try:
            async with asyncio.timeout(self.config.daemon.drain_s):
                await asyncio.wait({forced, work}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            log.warning("not all was shipped within daemon.drain_s: the rest stays in the spool")
        finally:
            forced.cancel()
            work.cancel()
            await asyncio.gather(forced, work, return_exceptions=True)

    async def _drain_work(self) -> None:
        for server in self._servers.values():
            server.close()
        if self.intake is not None:
            self.intake.stop()
        if self.ingest is not None and self.committer is not None:
            self.ingest.close()
            self.committer.close()
            await asyncio.gather(self._tasks["committer"], return_exceptions=True)
        if self.query is not None:
            await self.query.close()
        if self.shipper is not None:
            await self.shipper.drained()

    async def _shut_down(self) -> None:
        self._stop.set()
        for server in self._servers.values():
            server.close()
        embedded = self._tasks.pop("embedded", None)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self.cold is not None:
            self.cold.close()
        with contextlib.suppress(StoreError):
            await self.store.close()
        await self._health.close()
        if self.intake is not None:
            await self.intake.close()
        if self.spool is not None:
            await self.spool.close()
        if embedded is not None:
            embedded.cancel()
            await asyncio.gather(embedded, return_exceptions=True)
        for own in self._own_sockets:
            own.close()
        for sock in self._passed.values():
            sock.close()
