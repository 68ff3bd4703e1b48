# SPDX-License-Identifier: MIT
"""What of a move stands in Redis itself: the layout, which move is under way, who does it, and what it left behind.

All four keys lie in one slot. A run that was killed leaves all of it as it was, and the next run goes on from there.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

from slurmjcd.config.settings import has_hash_tag
from slurmjcd.errors import SlurmjcdError, Unavailable
from slurmjcd.resharding.patience import Patience
from slurmjcd.store.shards import Layout, layout_key, parse_layout
from slurmjcd.store.storelink import StoreLink

_LEASE_MS: Final = 60_000
_RENEWED_S: Final = 5.0


class MoveError(SlurmjcdError):
    """The move can't begin or go on; the text says why and what would be right."""


class LayoutKeys:
    """The keys, over a connection to the server that has them.

    Args:
        link: to the server that has the layout key.
        prefix: redis.prefix.
        patience: for a server that doesn't answer.
    """

    def __init__(self, link: StoreLink, prefix: str, patience: Patience) -> None:
        self._link, self._patience = link, patience
        self._layout = layout_key(prefix.encode())
        # in the slot of the layout key
        near = self._layout if has_hash_tag(prefix) else b"{%b}" % self._layout
        self._moving, self._left, self._lease = (near + name for name in (b":moving", b":left", b":mover"))
        self._mine = b""
        self._renewed_s = 0.0

    async def _call(self, *words: bytes) -> Any:
        async def call() -> Any:
            try:
                if not self._link.is_open:
                    await self._link.connect()
                return await self._link.call(*words)
            except BaseException:
                await self._link.close()  # what it would say next would be the answer to this
                raise

        return await self._patience(call)

    # ---- how many shards there are -------------------------------------------------------------------------------

    async def layout(self) -> Layout | None:
        """None where nobody has said.

        Raises:
            MoveError: the key holds something else.
        """
        value = await self._call(b"GET", self._layout)
        try:
            return parse_layout(value) if value is not None else None
        except ValueError as exc:
            raise MoveError(f"the key {self._layout.decode()} can't be read: {exc}") from exc

    async def set_layout(self, layout: Layout) -> None:
        await self._call(b"SET", self._layout, bytes(layout))

    # ---- which move is under way, and what the last ones left ------------------------------------------------------

    async def moving(self) -> Layout | None:
        """The move that a run has begun and none has ended."""
        value = await self._call(b"GET", self._moving)
        return parse_layout(value) if value is not None else None

    async def begin(self, move: Layout) -> None:
        await self._call(b"SET", self._moving, bytes(move))

    async def end(self) -> None:
        await self._call(b"UNLINK", self._moving)

    async def left(self) -> list[int]:
        """Numbers of shards, of layouts whose jobs are still there although another is in use."""
        value = await self._call(b"GET", self._left)
        return [int(word) for word in value.split(b",")] if value else []

    async def set_left(self, shards: set[int]) -> None:
        if shards:
            await self._call(b"SET", self._left, b",".join(b"%d" % number for number in sorted(shards)))
        else:
            await self._call(b"UNLINK", self._left)

    # ---- who does it ---------------------------------------------------------------------------------------------

    async def take(self, what: str) -> None:
        """See that nobody else moves jobs of this store; `renew` now and then, `release` in the end.

        Raises:
            MoveError: somebody does.
        """
        pid = os.getpid()
        mine = {"host": socket.gethostname(), "pid": pid, "began": _began(pid), "what": what, "at": int(time.time())}
        self._mine = json.dumps(mine).encode()
        words = (b"SET", self._lease, self._mine)
        if await self._call(*words, b"NX", b"PX", b"%d" % _LEASE_MS) is None:
            other = await self._call(b"GET", self._lease)
            if other is not None and not _is_dead(other):
                raise MoveError(_busy(other))
            # of two that find the same dead one, the second to come takes it from the first, who sees that
            if await self._call(*words, b"PX", b"%d" % _LEASE_MS, b"GET") != other:
                raise MoveError("another slurmjc reshard began at the same moment")
        self._renewed_s = time.monotonic()

    async def renew(self) -> None:
        """Call it often: it looks at the clock first.

        Raises:
            MoveError: somebody else does it now.
        """
        if time.monotonic() - self._renewed_s < _RENEWED_S:
            return
        self._renewed_s = time.monotonic()  # before, as several tasks call it
        holder = await self._call(b"GET", self._lease)
        if holder not in (None, self._mine):
            raise MoveError(_busy(holder))
        await self._call(b"SET", self._lease, self._mine, b"PX", b"%d" % _LEASE_MS)

    async def release(self) -> None:
        if self._mine and await self._call(b"GET", self._lease) == self._mine:
            await self._call(b"UNLINK", self._lease)


def _busy(lease: bytes) -> str:
    who = _read(lease)
    return (
        f"another slurmjc reshard {who.get('what', '')} moves these jobs, process {who.get('pid', '?')} on "
        f"{who.get('host', '?')}: wait for it, or end it and try again in {_LEASE_MS // 1000} s"
    )


def _is_dead(lease: bytes) -> bool:
    """Whether its process is gone, as far as this host can tell."""
    who = _read(lease)
    return who.get("host") == socket.gethostname() and _began(int(who.get("pid") or 0)) != who.get("began")


def _read(lease: bytes) -> dict[str, Any]:
    try:
        who = json.loads(lease)
    except ValueError as exc:
        raise Unavailable(f"the key that says who moves jobs can't be read: {exc}") from exc
    return who if isinstance(who, dict) else {}


def _began(pid: int) -> str:
    """When a process of this host began, in clock ticks; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
