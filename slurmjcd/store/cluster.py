# SPDX-License-Identifier: MIT
"""Which server of a Redis or Valkey Cluster has a slot, as its nodes say (redis-py's client for clusters).

Commands go to the owner and nowhere else. A redirection isn't followed: after MOVED, a connection is made to the owner
of now; after ASK and TRYAGAIN, while a slot is on its way, one waits. What an ASK leads to has none of the slot's
segments yet, and would begin second ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis import exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster

from slurmjcd import protocol
from slurmjcd.config.settings import cluster_nodes
from slurmjcd.errors import Refused, Unavailable
from slurmjcd.store.route import Asked, Place, PlainRoute
from slurmjcd.store.storeinfo import StoreInfo

# what redis-py raises when nobody answers, or one whose answer is no map: no slots, no address
_NO_MAP: Final = (
    exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError, ValueError, TypeError, LookupError,
)  # fmt: skip
_KEPT_S: Final = 0.5  # a map, however many find it wrong


class ClusterMap:
    """The owners of all slots, asked for when somebody found one elsewhere.

    Args:
        address: of some of its nodes, as redis.address has it.
        options: of the connections to them, as redis-py names them.
    """

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self._named, self._options = cluster_nodes(address), options
        self._nodes: list[Place] = []  # all that were there when it was last asked
        self._owners: Mapping[int, Sequence[ClusterNode]] = {}
        self._asked_s = float("-inf")
        self._stale = True
        self._asking = asyncio.Lock()

    def _reachable(self, place: Place) -> Place:
        """Nodes may announce a port only: then the host is the one that they were found at."""
        hosts = {host for host, _ in self._named}
        return (hosts.pop(), place[1]) if place[0] in (None, "", "?") and len(hosts) == 1 else place

    async def owner(self, slot: int) -> Place:
        """Where a slot is.

        Raises:
            Unavailable: no node answers, or none knows an owner.
        """
        async with self._asking:
            if self._stale and time.monotonic() - self._asked_s > _KEPT_S:
                await self._ask()
        node = self.known(slot)
        if node is None:
            self._stale = True
            raise Unavailable(f"the cluster says of no server that it has slot {slot}: are all its masters up?")
        return node

    def known(self, slot: int) -> Place | None:
        """Where a slot was when nodes were last asked; None when nobody said."""
        owners = self._owners.get(slot)
        return (owners[0].host, int(owners[0].port)) if owners and owners[0].host else None

    def replicas(self, slot: int) -> list[Place]:
        """The replicas of its owner that were up then."""
        return [(node.host, int(node.port)) for node in self._owners.get(slot, ())[1:] if node.host]

    async def _ask(self) -> None:
        """With a client for this once: one that is kept forgets the nodes it was told for those that nodes announce."""
        places = dict.fromkeys([*self._named, *self._nodes])
        nodes = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in places],
            require_full_coverage=False,  # half of a cluster that is down leaves the other half to be used
            dynamic_startup_nodes=False,
            address_remap=self._reachable,
            **self._options,
        ).nodes_manager
        try:
            await nodes.initialize()
            self._owners = nodes.slots_cache
            self._nodes = [(node.host, int(node.port)) for node in nodes.nodes_cache.values() if node.host]
        except _NO_MAP as exc:
            raise Unavailable(f"no node of the cluster says who has what: {_reason(exc)}") from exc
        finally:
            self._asked_s = time.monotonic()
            await nodes.aclose()
            await nodes.aclose("startup_nodes")
        self._stale = False

    def look_again(self) -> None:
        """Something wasn't where it should be."""
        self._stale = True


def _reason(exc: BaseException) -> str:
    """A node's own words, which redis-py takes for `Cluster mode is not enabled`; else its."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, exceptions.ResponseError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return str(exc)


class OwnerRoute(PlainRoute):
    """To the master that has a slot; one that has it no more says so to every command."""

    elsewhere = "another server of the cluster has its slot now"

    def __init__(self, cluster: ClusterMap, slot: int) -> None:
        self._cluster, self._slot = cluster, slot

    async def find(self) -> Place:
        return await self._cluster.owner(self._slot)

    def why_unfit(self, info: StoreInfo) -> str | None:
        return "no master any more (or not yet)" if info.text("role") == "slave" else None

    def avoid(self, place: Place) -> None:
        self._cluster.look_again()

    async def is_outdated(self, place: Place) -> bool:
        return self._cluster.known(self._slot) not in (place, None)

    async def confirm(self, link: Asked) -> None:
        """Segments may have left the server while it was at work on a question, in slices.

        They leave one after the other once their slot is on its way; from then on the server refers to the other one.
        """
        try:
            await link.call(protocol.FETCH, link.prefix, b"none", b"CLOSE")
        except Refused:
            pass  # no query is open by that name: whoever says so has the slot
