# SPDX-License-Identifier: MIT
"""Where the servers of a Redis are that sentinels watch over, asked of them (redis-py's client for Sentinel)."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, Final

from redis import exceptions
from redis.asyncio.sentinel import Sentinel

from slurmjcd.config import sentinels
from slurmjcd.errors import Unavailable

_KEPT_S: Final = 1.0  # an answer; a failover takes longer
_AVOIDED_S: Final = 10.0  # a replica that would not do

Place = tuple[str, int]


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
