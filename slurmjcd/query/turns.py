# SPDX-License-Identifier: MIT
"""Who goes next when many ask at once: users take turns, and one round of the event loop serves only so many.

Without it one user's thousand requests, all there at once, would be answered before anybody else's first, and before
the loop looked at ingest.sock again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_RATES_MAX: Final = 1000
_FORGOTTEN_S: Final = 2.0
_PER_ROUND: Final = 16  # small pieces of work, each below a millisecond


class Turns:
    """Deals out turns: `await turns.mine(uid)` before each piece of work."""

    def __init__(self, per_round: int = _PER_ROUND) -> None:
        self._per_round = per_round
        self._left = per_round
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}  # by uid, the next one first
        self._scheduled = False

    async def mine(self, uid: int) -> None:
        """Return when it is this user's turn; at once while there is no crowd."""
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._round, loop)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.setdefault(uid, deque()).append(turn)
        await turn

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deal one round, a turn to each user and then from the first again."""
        self._left = self._per_round
        while self._waiting and self._left:
            uid = next(iter(self._waiting))
            queue = self._waiting.pop(uid)
            turn = queue.popleft()
            if queue:
                self._waiting[uid] = queue  # at the end of the line
            if not turn.done():  # else its connection is gone
                turn.set_result(None)
                self._left -= 1
        self._scheduled = bool(self._waiting) or self._left < self._per_round
        if self._scheduled:
            loop.call_soon(self._round, loop)


class Rates:
    """Lets each user do something so often a second, and twice as often at once after a pause."""

    def __init__(self) -> None:
        self._rooms: dict[int, tuple[float, float]] = {}  # by uid: what was left, and when

    def allows(self, uid: int, per_s: float) -> bool:
        """Whether this user may now."""
        now, most = time.monotonic(), 2 * per_s
        left, then = self._rooms.get(uid, (most, now))
        left = min(most, left + (now - then) * per_s)
        if len(self._rooms) >= _RATES_MAX:
            self._rooms = {who: room for who, room in self._rooms.items() if now - room[1] < _FORGOTTEN_S}
        self._rooms[uid] = (left - 1 if left >= 1 else left, now)
        return left >= 1


class Shares:
    """Lets each user have at most `most` of something at a time, so that some is left for the others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._room: dict[int, asyncio.Semaphore] = {}
        self._users: Counter[int] = Counter()

    @asynccontextmanager
    async def one(self, uid: int) -> AsyncIterator[None]:
        """Hold one of this user's shares; waits while all of them are held."""
        room = self._room.setdefault(uid, asyncio.Semaphore(self._most))
        self._users[uid] += 1
        try:
            async with room:
                yield
        finally:
            self._users[uid] -= 1
            if not self._users[uid]:
                del self._users[uid], self._room[uid]
