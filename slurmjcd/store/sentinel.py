# SPDX-License-Identifier: MIT
"""Where the servers of a Redis are that sentinels watch over, asked of them (redis-py's client for Sentinel)."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, Final

from redis import exceptions
from redis.asyncio.sentinel import Sentinel

from slurmjcd.config.settings import sentinels
from slurmjcd.errors import Moved, Unavailable
from slurmjcd.store.route import Asked, Place, PlainRoute, why_behind
from slurmjcd.store.storeinfo import StoreInfo

_KEPT_S: Final = 1.0  # an answer; a failover takes longer
_AVOIDED_S: Final = 10.0  # a replica that would not do


class ServerFinder:
    """Finds one service's master, and a replica to read from.

    Args:
        address: of the sentinels, as redis.address has it.
        options: of the connections to them, as redis-py names them.
    """

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        places, self.service = sentinels(address)
        self._sentinel = Sentinel(places, sentinel_kwargs=dict(options))  # type: ignore[no-untyped-call]
        self._found: Place | None = None
        self._found_s = 0.0
        self._replica: Place | None = None
        self._avoided: dict[Place, float] = {}  # until when

    async def master(self) -> Place:
        """Its host and port.

        Raises:
            Unavailable: no sentinel answers, or none knows a master that is up.
        """
        if self._found is not None and time.monotonic() - self._found_s < _KEPT_S:
            return self._found
        try:
            host, port = await self._sentinel.discover_master(self.service)
        except (exceptions.RedisError, OSError, TimeoutError) as exc:
            raise Unavailable(f"the sentinels name no master of '{self.service}': {exc}") from exc
        self._found, self._found_s = (str(host), int(port)), time.monotonic()
        return self._found

    async def still_master(self, place: Place) -> bool:
        """Whether that is the master; also when nobody can say: without sentinels there is no failover."""
        try:
            return await self.master() == place
        except Unavailable:
            self._found, self._found_s = place, time.monotonic()  # not asked again for each question
            return True

    async def replica(self) -> Place:
        """Where to read: one replica, the same for all as long as it will do; the master while there is none.

        An open query lives in one server, so all connections of a daemon go to the same one.

        Raises:
            Unavailable: not even a master is known.
        """
        if self._replica is None:
            try:
                known = await self._sentinel.discover_replicas(self.service)
            except (exceptions.RedisError, OSError, TimeoutError):
                known = []
            now_s = time.monotonic()
            places = [(str(host), int(port)) for host, port in known]
            fit = [place for place in places if self._avoided.get(place, 0.0) <= now_s]
            if not fit:
                return await self.master()
            self._replica = random.choice(fit)  # noqa: S311 (which one is no secret)
        return self._replica

    def avoid(self, place: Place) -> None:
        """Read elsewhere for a while."""
        self._avoided[place] = time.monotonic() + _AVOIDED_S
        if self._replica == place:
            self._replica = None

    async def close(self) -> None:
        await self._sentinel.aclose()


class MasterRoute(PlainRoute):
    """To the master that the sentinels agree on."""

    elsewhere = "the sentinels have another master now"

    def __init__(self, finder: ServerFinder) -> None:
        self._finder = finder

    async def find(self) -> Place:
        return await self._finder.master()

    def why_unfit(self, info: StoreInfo) -> str | None:
        return "no master any more (or not yet)" if info.text("role") == "slave" else None

    async def is_outdated(self, place: Place) -> bool:
        return not await self._finder.still_master(place)


class ReplicaRoute(PlainRoute):
    """To a replica that keeps up, or the master where none does.

    Args:
        lag_s: a replica will do that heard from its master so long ago.
    """

    looks_again = True
    elsewhere = "another replica is asked now"

    def __init__(self, finder: ServerFinder, lag_s: float) -> None:
        self._finder, self._lag_s = finder, lag_s

    async def find(self) -> Place:
        return await self._finder.replica()

    def why_unfit(self, info: StoreInfo) -> str | None:
        return why_behind(info, self._lag_s)

    def avoid(self, place: Place) -> None:
        self._finder.avoid(place)

    async def is_outdated(self, place: Place) -> bool:
        return await self._finder.replica() != place

    async def confirm(self, link: Asked) -> None:
        """It may have lost its master while it was at work, or since it was looked at."""
        why = why_behind(await link.replication(), self._lag_s)
        if why is not None:
            if link.place is not None:
                self.avoid(link.place)
            raise Moved(f"Redis at {link.address} is {why}")
