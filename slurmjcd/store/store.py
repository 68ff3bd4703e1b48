# SPDX-License-Identifier: MIT
"""The store: Redis or Valkey with our module, in one part or several: connections to write, and to read.

A part (shard) has a prefix of its own; how jobs are spread over them stands in shards.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from slurmjcd.backoff import Backoff, Quiet
from slurmjcd.config.settings import Config
from slurmjcd.errors import Moved, Refused, Unavailable
from slurmjcd.store import connections
from slurmjcd.store.cluster import ClusterMap, OwnerRoute
from slurmjcd.store.connections import Login
from slurmjcd.store.layout import StoreLayout
from slurmjcd.store.route import NamedRoute, Route
from slurmjcd.store.sentinel import MasterRoute, ReplicaRoute, ServerFinder
from slurmjcd.store.shards import name_of, shard_of, shard_prefixes, slot_of
from slurmjcd.store.slotreplicas import MasterWatch, SlotReplicaRoute, SlotReplicas
from slurmjcd.store.storelink import StoreLink
from slurmjcd.store.witness import Witness

log = logging.getLogger(__name__)

_TRIES: Final = 3  # replicas that are asked before a question fails
_WAITED: Final = 0.9  # of query.timeout_s, for what moves


class Routes:
    """How connections find their server; what sentinels and nodes have said is shared by all of them."""

    def __init__(self, config: Config) -> None:
        self._config = config
        # made with the first connection: only a running loop can ask
        self._finder: ServerFinder | None = None
        self._map: ClusterMap | None = None
        self._witnesses: dict[bytes, Witness] = {}
        self._replicas: dict[bytes, SlotReplicas] = {}  # by the prefix that lies in the slot

    def route(self, prefix: bytes, *, asks: bool, replica: bool) -> Route | None:
        """To the server that has the keys under a prefix; None where the address names it and there is no choice.

        Args:
            asks: questions go there, no records.
            replica: a replica will do.

        Raises:
            Unavailable: a password can't be read.
        """
        redis = self._config.redis
        if redis.has_cluster:
            return (
                SlotReplicaRoute(self._slot_replicas(prefix)) if replica else OwnerRoute(self._cluster, slot_of(prefix))
            )
        if not redis.has_sentinels:
            return NamedRoute(redis.replica_lag_s) if asks and not self._config.embedded_used else None
        if self._finder is None:
            wanted = connections.options(redis, connections.sentinel_login(redis)) | connections.tls(redis)
            self._finder = ServerFinder(self._config.redis_address, wanted)
        return ReplicaRoute(self._finder, redis.replica_lag_s) if replica else MasterRoute(self._finder)

    @property
    def _cluster(self) -> ClusterMap:
        if self._map is None:
            redis = self._config.redis
            wanted = connections.options(redis, connections.reader_login(redis)) | connections.tls(redis)
            self._map = ClusterMap(self._config.redis_address, wanted)
        return self._map

    def _slot_replicas(self, prefix: bytes) -> SlotReplicas:
        if prefix not in self._replicas:
            cluster, slot = self._cluster, slot_of(prefix)

            def to_master() -> StoreLink:
                connection = connections.connection(self._config, connections.reader_login(self._config.redis))
                route = OwnerRoute(cluster, slot)
                return StoreLink(connection, prefix, self._config.redis_address, route, self.witness(prefix))

            lag_s = self._config.redis.replica_lag_s
            self._replicas[prefix] = SlotReplicas(cluster, slot, lag_s, MasterWatch(to_master))
        return self._replicas[prefix]

    def witness(self, prefix: bytes) -> Witness:
        """Who knows what the shard with this prefix had."""
        return self._witnesses.setdefault(prefix, Witness())

    def vouch_anew(self, prefix: bytes) -> None:
        """The master with this prefix had lost jobs, and has them again just now."""
        if prefix in self._replicas:
            self._replicas[prefix].vouch_anew()

    async def close(self) -> None:
        for replicas in self._replicas.values():
            await replicas.master.close()
        if self._finder is not None:
            await self._finder.close()


class Shard:
    """One part of the store: the jobs under one prefix.

    Args:
        replicas: questions may go to replicas, which may be behind.
    """

    def __init__(
        self, config: Config, routes: Routes, layout: StoreLayout, index: int, prefix: bytes, *, replicas: bool
    ) -> None:
        self._config, self._routes, self._layout, self._replicas = config, routes, layout, replicas
        self.index = index
        self.count = config.redis.shards
        self.prefix = prefix
        self.address = config.redis_address
        self._idle: list[StoreLink] = []
        self._room = asyncio.Semaphore(config.query.store_connections)
        self._quiet = Quiet()

    @property
    def reads_replicas(self) -> bool:
        """Whether there may be another server to ask when one is away."""
        return self._replicas

    @property
    def name(self) -> str:
        """How it is named to people; just Redis where there is one part."""
        return name_of(self.index, self.count) if self.count > 1 else "Redis"

    def writer(self) -> StoreLink:
        """A new connection of the user that writes; `open` it."""
        return self._link(connections.writer_login(self._config.redis))

    def asker(self, *, master: bool = False) -> StoreLink:
        """A new connection of the user that only reads; `open` it. `master`: no replica, which may be behind."""
        login = connections.reader_login(self._config.redis)
        return self._link(login, asks=True, replica=self._replicas and not master)

    def _link(self, login: Login, *, asks: bool = False, replica: bool = False) -> StoreLink:
        connection = connections.connection(self._config, login)
        route = self._routes.route(self.prefix, asks=asks, replica=replica)
        return StoreLink(connection, self.prefix, self.address, route, self.witness if asks else None)

    @property
    def witness(self) -> Witness:
        """Knows what it had."""
        return self._routes.witness(self.prefix)

    def has_jobs_again(self) -> None:
        """Its master had lost jobs and has got them again just now: replicas have them a little later."""
        self._routes.vouch_anew(self.prefix)

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[StoreLink]:
        """Lend an open connection of the user that reads. Who needs several shards' takes them in their order.

        Raises:
            Unavailable: none can be had, or jobs are spread over another number of shards than is configured.
        """
        async with self._room:
            await self._layout.check()
            link = await self._lent()
            try:
                yield link
            except Refused:
                self._idle.append(link)
                raise
            except Moved:
                await link.close()
                raise
            except Unavailable:
                link.avoid()
                await link.close()
                raise
            except BaseException:
                await link.close()
                raise
            self._idle.append(link)

    async def _lent(self) -> StoreLink:
        if self._idle:
            link = self._idle.pop()
            try:
                if link.is_open and not await link.is_outdated():
                    await link.prepare()
                    return link
            except Unavailable as exc:
                log.debug("questions: %s", exc)
            except BaseException:
                await link.close()
                raise
            await link.close()
        return await self._open_asker()

    async def _open_asker(self) -> StoreLink:
        """A connection for questions; where replicas are asked, the next one when one will not do.

        What is on its way from one server of a cluster to another is waited for.

        Raises:
            Unavailable: none can be had.
        """
        tries = _TRIES if self._replicas else 1
        until_s = time.monotonic() + self._config.query.timeout_s * _WAITED
        backoff = Backoff(longest_s=0.5)
        while True:
            link = self.asker()
            try:
                await link.open()
                await link.prepare()
            except Moved:
                await link.close()
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(backoff.next_s())
            except Unavailable as exc:
                await link.close()
                tries -= 1
                if not tries:
                    raise
                if self._quiet.allows(str(exc)):
                    log.warning("query: asking another server: %s", exc)
            except BaseException:
                await link.close()
                raise
            else:
                return link

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()


class Store:
    """All parts of it. Where there is one, it can be asked for connections itself."""

    def __init__(self, config: Config) -> None:
        redis = config.redis
        self._config = config
        self.prefix = redis.prefix.encode()
        self.address = config.redis_address
        self.reply_s = redis.reply_s
        self._routes = Routes(config)
        prefixes = shard_prefixes(self.prefix, redis.shards)
        self.layout = StoreLayout(self)

        def shards(*, replicas: bool) -> tuple[Shard, ...]:
            parts = enumerate(prefixes)
            return tuple(Shard(config, self._routes, self.layout, *part, replicas=replicas) for part in parts)

        self.reads_replicas = redis.read_from == "replica"
        self.shards = shards(replicas=self.reads_replicas)
        self._masters = shards(replicas=False) if self.reads_replicas else ()

    @property
    def masters(self) -> tuple[Shard, ...]:
        """All parts, for questions that a replica's answer doesn't do for."""
        return self._masters or self.shards

    @property
    def is_cluster(self) -> bool:
        return self._config.redis.has_cluster

    def layout_link(self, key: bytes, *, writes: bool) -> StoreLink:
        """A connection to where a plain key is; `connect` it: what lies under the prefix there is nobody's."""
        redis = self._config.redis
        login = connections.writer_login(redis) if writes else connections.reader_login(redis)
        # a replica in a cluster would have to be vouched for
        replica = self.reads_replicas and not redis.has_cluster and not writes
        return self._plain(key, login, asks=not writes, replica=replica)

    def unsharded_writer(self) -> StoreLink:
        """A connection to what lies under the configured prefix itself, as if there were one shard; `open` it."""
        return self._plain(self.prefix, connections.writer_login(self._config.redis))

    def _plain(self, key: bytes, login: Login, *, asks: bool = False, replica: bool = False) -> StoreLink:
        connection = connections.connection(self._config, login)
        route = self._routes.route(key, asks=asks, replica=replica)
        return StoreLink(connection, self.prefix, self.address, route)

    def shard_of(self, job_id: int) -> Shard:
        """The part that has all runs of a job."""
        return self.shards[shard_of(job_id, len(self.shards))]

    @property
    def _only(self) -> Shard:
        if len(self.shards) > 1:
            raise Unavailable("this asks one part of the store only, and redis.shards is more than 1")
        return self.shards[0]

    def writer(self) -> StoreLink:
        """As Shard.writer, of the only one."""
        return self._only.writer()

    def asker(self, *, master: bool = False) -> StoreLink:
        """As Shard.asker, of the only one."""
        return self._only.asker(master=master)

    def reader(self) -> contextlib.AbstractAsyncContextManager[StoreLink]:
        """As Shard.reader, of the only one."""
        return self._only.reader()

    async def close(self) -> None:
        for shard in (*self.shards, *self._masters):
            await shard.close()
        await self.layout.close()
        await self._routes.close()
