# SPDX-License-Identifier: MIT
"""Which server a connection goes to, and whether what it answered counts.

Where sentinels and clusters say where that is, stands in sentinel.py and cluster.py; here is what they have in common.
"""

from __future__ import annotations

from typing import Any, Protocol

from slurmjcd.errors import Unavailable
from slurmjcd.store.storeinfo import StoreInfo

Place = tuple[str, int]  # host and port


class Asked(Protocol):
    """An open connection to a server."""

    address: str

    @property
    def prefix(self) -> bytes: ...
    @property
    def place(self) -> Place | None: ...
    async def call(self, *args: bytes, timeout_s: float | None = None) -> Any: ...
    async def replication(self) -> StoreInfo: ...


class Route(Protocol):
    """Finds the server for one connection, and says when another should be taken.

    Attributes:
        looks_again: the server has to be looked at now and then with `why_unfit`: it alone knows.
        elsewhere: what is the case when `is_outdated`, in words before `than Redis at …`.
    """

    looks_again: bool
    elsewhere: str

    async def find(self) -> Place | None:
        """Where to connect now; None: where the address says.

        Raises:
            Unavailable: nobody knows.
        """

    async def greet(self, link: Asked) -> None:
        """What has to be said first to a server that was just connected to."""

    def why_unfit(self, info: StoreInfo) -> str | None:
        """What is wrong with the server that was found, by what it says of itself; None when it will do."""

    def avoid(self, place: Place) -> None:
        """It would not do there: look again, or elsewhere, next time."""

    async def is_outdated(self, place: Place) -> bool:
        """Whether another place should be asked by now, as far as can be told without asking the one there."""

    async def prepare(self, link: Asked) -> None:
        """See that the server may answer the next question.

        Raises:
            Unavailable: it may not.
        """

    async def confirm(self, link: Asked) -> None:
        """See that an answer which has just come is whole and as new as promised.

        Raises:
            Moved: it may lack jobs, ask again.
            Unavailable: as above, and asking again would not help.
        """


class PlainRoute:
    """A route of which nothing is asked but where it leads: the rest of Route as most have it."""

    looks_again = False
    elsewhere = "there is another server"

    async def greet(self, link: Asked) -> None:
        """Nothing."""

    def why_unfit(self, info: StoreInfo) -> str | None:
        return None

    def avoid(self, place: Place) -> None:
        """There is only one to try."""

    async def is_outdated(self, place: Place) -> bool:
        return False

    async def prepare(self, link: Asked) -> None:
        """Nothing."""

    async def confirm(self, link: Asked) -> None:
        """Nothing."""


class NamedRoute(PlainRoute):
    """To the server that the address names. It may be a replica: then its answers are as new as stated, or errors.

    Args:
        lag_s: a replica will do that heard from its master so long ago.
    """

    looks_again = True  # a master may become a replica

    def __init__(self, lag_s: float) -> None:
        self._lag_s = lag_s
        self._is_replica = False

    async def find(self) -> Place | None:
        return None

    def why_unfit(self, info: StoreInfo) -> str | None:
        self._is_replica = info.text("role") == "slave"
        return why_behind(info, self._lag_s)

    async def confirm(self, link: Asked) -> None:
        why = why_behind(await link.replication(), self._lag_s) if self._is_replica else None
        if why is not None:
            raise Unavailable(f"Redis at {link.address} is {why}")


def why_behind(info: StoreInfo, lag_s: float) -> str | None:
    """Why what a replica has may be older than so many seconds; None when it isn't, and of a master."""
    if info.text("role") != "slave":
        return None
    if info.text("master_link_status") != "up":
        return "a replica without a connection to its master: nobody knows what it lacks"
    silent_s = info.fields.get("master_last_io_seconds_ago", -1)
    if not isinstance(silent_s, int) or not 0 <= silent_s <= lag_s:
        return f"a replica that has not heard from its master for {silent_s} s, redis.replica_lag_s is {lag_s:g}"
    return None
