# SPDX-License-Identifier: MIT
"""Who ships records knows what a store had; a server that has less lacks jobs, whoever notices it first. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slurmjcd.store.storeinfo import StoreInfo


@dataclass(frozen=True, slots=True)
class Had:
    """The records of a spool, up to a number, that a store has said it has."""

    spool_id: str
    number: int

    def why_less(self, info: StoreInfo) -> str | None:
        """What to say of a master that has less; a replica may be behind."""
        lacks = self.number - info.watermarks.get(self.spool_id, 0)
        if info.text("role") == "slave" or lacks <= 0:
            return None
        return f"Redis lost jobs and gets them again, {lacks} records are to come"


class Witness:
    """Of one shard. After a failover questions and records find the new master, and who is first isn't certain."""

    def __init__(self) -> None:
        self._tell: Callable[[], Had] | None = None
        self._on_less: Callable[[], None] | None = None

    def listen_to(self, tell: Callable[[], Had], on_less: Callable[[], None]) -> None:
        """`tell` says what the store had; `on_less` is called when somebody sees that it has less."""
        self._tell, self._on_less = tell, on_less

    def had(self) -> Had | None:
        """To be asked for before the server is: what comes later it may not have told yet. None: nobody ships here."""
        return self._tell() if self._tell is not None else None

    def why_less(self, had: Had | None, info: StoreInfo) -> str | None:
        why = had.why_less(info) if had is not None else None
        if why is not None and self._on_less is not None:
            self._on_less()
        return why
