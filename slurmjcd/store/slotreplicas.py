# SPDX-License-Identifier: MIT
"""Replicas of a cluster that answer for their master's slot, as long as it is certain that they have all of it.

A replica doesn't know that a slot is on its way. MIGRATE deletes at the master, the replica follows, and answers with
what is left; one of the new master lacks what hasn't come through yet. So both are asked. If the replica has applied
all that the master had done at some moment, and the master has lost no segment since (SLURMJC.INFO … REPLICATION counts
them), then whatever the replica answers from is what the master had at that moment or later, with nothing missing.
That is a `Vouch`; it is made before a question, and after the answer it is seen that it still holds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from slurmjcd.errors import Moved, Unavailable
from slurmjcd.store.cluster import ClusterMap
from slurmjcd.store.route import Asked, Place, PlainRoute, why_behind
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink

_AVOIDED_S: Final = 10.0  # a replica that would not do
_LOOKED_S: Final = 2.0  # between two looks for a replica where none is known
_CATCH_UP_S: Final = 1.0  # longest wait for one that has not come far enough


@dataclass(frozen=True, slots=True)
class Vouch:
    """A replica has all that its master had at `at_s`, as long as none of the rest changes.

    `gone` is the master's count of segments, `flushes` the replica's: it is emptied before it takes over a whole copy.
    """

    replica: Place
    at_s: float
    replid: str
    gone: object
    flushes: object

    def holds(self, master: StoreInfo, replica: StoreInfo) -> bool:
        return (
            master.text("replid") == replica.text("replid") == self.replid
            and master.fields.get("segments_gone") == self.gone
            and replica.fields.get("flushes") == self.flushes
        )


class MasterWatch:
    """Asks a slot's master how it is, for all who want to know it at a time.

    Args:
        new_link: a new connection to it, of the user that reads.
    """

    def __init__(self, new_link: Callable[[], StoreLink]) -> None:
        self._new_link = new_link
        self._link: StoreLink | None = None
        self._asking = asyncio.Lock()
        self._told: StoreInfo | None = None
        self._told_s = float("-inf")

    async def told(self, since_s: float) -> tuple[StoreInfo, float]:
        """What it says of its replication, and a time before that: `since_s` (monotonic) or later.

        Raises:
            Moved: it hasn't the slot any more, or not for long.
            Unavailable: it can't be asked.
        """
        async with self._asking:
            if self._told is None or self._told_s < since_s:
                now_s = time.monotonic()
                self._told, self._told_s = await self._ask(), now_s
            return self._told, self._told_s

    async def _ask(self) -> StoreInfo:
        try:
            if self._link is None or not self._link.is_open or await self._link.is_outdated():
                await self.close()
                self._link = self._new_link()
                await self._link.open()
            told = await self._link.replication()
            if told.text("role") != "master":
                raise Moved(f"Redis at {self._link.address} is no master any more (or not yet)")
        except BaseException:
            await self.close()
            raise
        return told

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()


class SlotReplicas:
    """One slot's replicas: which of them is asked, the same by all connections, and whether it is vouched for.

    Args:
        lag_s: an answer has all that the master had so long before the question.
    """

    def __init__(self, cluster: ClusterMap, slot: int, lag_s: float, master: MasterWatch) -> None:
        self._cluster, self._slot, self._lag_s = cluster, slot, lag_s
        self.master = master
        self._replica: Place | None = None
        self._avoided: dict[Place, float] = {}  # until when
        self._looked_s = time.monotonic()
        self._vouch: Vouch | None = None
        self._since_s = float("-inf")

    async def find(self) -> Place:
        """The replica to ask; the master while there is none.

        Raises:
            Unavailable: not even a master is known.
        """
        owner, now_s = await self._cluster.owner(self._slot), time.monotonic()
        known = self._cluster.replicas(self._slot)
        fit = [place for place in known if self._avoided.get(place, 0.0) <= now_s]
        if self._replica not in fit:
            self._replica = random.choice(fit) if fit else None  # noqa: S311 (which one is no secret)
        if not fit and now_s - self._looked_s > _LOOKED_S:
            self._looked_s = now_s
            self._cluster.look_again()  # for the next one who asks
        return self._replica or owner

    def known_owner(self) -> Place | None:
        return self._cluster.known(self._slot)

    def avoid(self, place: Place) -> None:
        """It will not do for a while."""
        if place != self.known_owner():
            self._avoided[place] = time.monotonic() + _AVOIDED_S
        self._cluster.look_again()

    def vouch_anew(self) -> None:
        """Jobs that the master had lost have come again just now: what a replica had before doesn't count."""
        self._since_s = time.monotonic()

    async def vouch(self, link: Asked, place: Place) -> Vouch:
        """For the replica at the other end.

        Raises:
            Unavailable: not for this one now. Moved: and for no other.
        """
        known, now_s = self._vouch, time.monotonic()
        if known is not None and known.replica == place and known.at_s >= max(self._since_s, now_s - self._lag_s):
            return known
        master, at_s = await self.master.told(now_s)
        while True:
            told = await link.replication()
            why = self._why_behind(told, master)
            if why is None:
                break
            if time.monotonic() - now_s > _CATCH_UP_S:
                raise Unavailable(f"Redis at {link.address} is {why}")
            await asyncio.sleep(_CATCH_UP_S / 50)
        gone, flushes = master.fields.get("segments_gone"), told.fields.get("flushes")
        self._vouch = Vouch(place, at_s, master.text("replid"), gone, flushes)
        return self._vouch

    def _why_behind(self, told: StoreInfo, master: StoreInfo) -> str | None:
        if told.text("role") != "slave":
            return "no replica any more"
        if told.text("replid") != master.text("replid"):
            return "a replica of another server than the slot's master, or has not its data yet"
        if not _has_all(told, master):
            return "a replica that lacks what its master has had for a second"
        return why_behind(told, self._lag_s)

    async def confirm(self, link: Asked, vouch: Vouch) -> None:
        """See that an answer which came from a replica was whole.

        Raises:
            Moved: that isn't certain, ask again.
        """
        master, at_s = await self.master.told(time.monotonic())
        told = await link.replication()
        if not vouch.holds(master, told) or why_behind(told, self._lag_s) is not None:
            self._vouch = None
            raise Moved(f"Redis at {link.address} may lack jobs: its master lost or got some, or isn't its master now")
        if self._vouch == vouch and _has_all(told, master):
            self._vouch = replace(vouch, at_s=at_s)


def _has_all(replica: StoreInfo, master: StoreInfo) -> bool:
    theirs, ours = master.fields.get("offset"), replica.fields.get("offset")
    return isinstance(theirs, int) and isinstance(ours, int) and ours >= theirs


class SlotReplicaRoute(PlainRoute):
    """To a replica of a slot that is vouched for, or the master where none is."""

    elsewhere = "another server of the cluster is asked for its slot now"

    def __init__(self, replicas: SlotReplicas) -> None:
        self._replicas = replicas
        self._vouch: Vouch | None = None  # for the question under way; None: the master was asked
        self._as_replica = False  # how the connection was made

    async def find(self) -> Place | None:
        return await self._replicas.find()

    async def greet(self, link: Asked) -> None:
        """Without it a replica refers to its master. A master isn't greeted: it may become a replica."""
        if link.place != self._replicas.known_owner():
            self._as_replica = True
            await link.call(b"READONLY")

    def avoid(self, place: Place) -> None:
        self._replicas.avoid(place)

    async def is_outdated(self, place: Place) -> bool:
        return await self._replicas.find() != place

    async def prepare(self, link: Asked) -> None:
        place = link.place
        self._vouch = None
        if place is not None and place != self._replicas.known_owner():
            self._vouch = await self._replicas.vouch(link, place)
        elif self._as_replica:
            raise Moved(f"Redis at {link.address} has become the master: what it lacks is seen by a new connection")

    async def confirm(self, link: Asked) -> None:
        if self._vouch is not None:
            await self._replicas.confirm(link, self._vouch)
            return
        told = await link.replication()
        if told.text("role") != "master":
            raise Moved(f"Redis at {link.address} is no master any more (or not yet)")
