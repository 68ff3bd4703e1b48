# SPDX-License-Identifier: MIT
"""Looking up users and groups, which may ask a directory server: never on the event loop, never for long.

Threads of our own, not the loop's: a name service that hangs keeps its threads for good, and the loop's are a few that
others need, and are waited for at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_THREADS_MAX: Final = 4
TIMEOUT_S: Final = 5.0


class Lookups:
    """Runs what may hang in threads that nobody waits for at the end."""

    def __init__(self, *, threads: int = _THREADS_MAX, timeout_s: float = TIMEOUT_S) -> None:
        self._threads, self.timeout_s = threads, timeout_s
        self._running = 0

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """What `work(*args)` returns.

        Raises:
            TimeoutError: it takes too long, or so many do already that this one isn't begun.
            Exception: what `work` raised.
        """
        if self._running >= self._threads:
            raise TimeoutError(f"{self._running} look-ups hang already")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._running += 1

        def finish(value: Any, error: BaseException | None) -> None:
            self._running -= 1
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)

        def thread() -> None:
            value, error = None, None
            try:
                value = work(*args)
            except Exception as exc:  # whatever it is, it belongs to who asked
                error = exc
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(finish, value, error)

        threading.Thread(target=thread, name="lookup", daemon=True).start()
        async with asyncio.timeout(self.timeout_s):
            return await answer
