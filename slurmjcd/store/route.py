# SPDX-License-Identifier: MIT
"""Where a connection goes when its server isn't named by the configuration: what sentinels and clusters have in common.

No I/O.
"""

from __future__ import annotations

from typing import Protocol

from slurmjcd.store.storeinfo import StoreInfo

Place = tuple[str, int]  # host and port


class Route(Protocol):
    """Finds the server for one kind of connection, and says when another should be taken.

    Attributes:
        looks_again: the server has to be looked at now and then with `why_unfit`: it alone knows.
        elsewhere: what is the case when `is_outdated`, in words before `than Redis at …`.
    """

    looks_again: bool
    elsewhere: str

    async def find(self) -> Place:
        """Where to connect now.

        Raises:
            Unavailable: nobody knows.
        """

    def why_unfit(self, info: StoreInfo) -> str | None:
        """What is wrong with the server that was found, by what it says of itself; None when it will do."""

    def avoid(self, place: Place) -> None:
        """It would not do there: look again, or elsewhere, next time."""

    async def is_outdated(self, place: Place) -> bool:
        """Whether another place should be asked by now, as far as can be told without asking the one there."""
