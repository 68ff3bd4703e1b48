# SPDX-License-Identifier: MIT
"""A proxy that makes a network as bad as a test wants it: slow, cut, half closed, silent.

It runs in a thread of its own, so that tests which start processes and poll can use it without being asynchronous.
Bytes are only ever held back or thrown away, never invented, changed or sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

_CHUNK: Final = 64 * 1024
_FOREVER: Final = 1 << 62

T = TypeVar("T")
Address = Path | tuple[str, int]


class End(Enum):
    """What happens to a connection where it is cut."""

    CLOSE = "close"  # both sides see the end of the stream
    RESET = "reset"  # both sides see a reset, where the transport knows one
    HALF = "half"  # the receiver sees the end of the stream, its other direction goes on
    HANG = "hang"  # nothing more comes, nothing is closed


@dataclass(slots=True)
class Cut:
    """Cut a connection when `at` bytes have gone one way; it is used once."""

    at: int
    end: End = End.CLOSE


@dataclass(slots=True)
class Way:
    """One direction, for all connections."""

    delay_s: float = 0.0  # before each chunk
    chunk: int = _CHUNK  # 1 makes bytes drip
    silent: bool = False  # bytes are taken and thrown away
    cut: Cut | None = None  # for the first connection that gets there
    plan: deque[Cut] = field(default_factory=deque)  # what becomes `cut` when that was carried out
    bytes: int = 0


@dataclass(slots=True, eq=False)
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class ChaosProxy:
    """Between clients of `listen` and the server at `upstream`; `requests` and `replies` say what goes wrong."""

    def __init__(self, listen: Address, upstream: Address) -> None:
        self.listen, self.upstream = listen, upstream
        self.requests, self.replies = Way(), Way()
        self.refuse = False  # new connections are closed at once
        self.connections = 0  # that were made so far
        self.cuts = 0  # that were carried out so far
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    # ---- for tests -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        self._server = self._run(self._listen())

    def stop(self) -> None:
        if self._thread.is_alive():
            self._run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Be a good network again, for connections to come; the ones that hang are closed."""
        self.requests, self.replies, self.refuse = Way(), Way(), False
        self.drop_all()

    def drop_all(self, end: End = End.CLOSE) -> None:
        """End every connection there is."""
        self._run(self._drop_all(end))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # ---- in the loop ---------------------------------------------------------------------------------------------

    async def _listen(self) -> asyncio.Server:
        if isinstance(self.listen, Path):
            self.listen.unlink(missing_ok=True)
            return await asyncio.start_unix_server(self._accept, self.listen)
        return await asyncio.start_server(self._accept, *self.listen)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._drop_all(End.CLOSE)

    async def _drop_all(self, end: End) -> None:
        pairs = list(self._pairs)
        for pair in pairs:
            _end(pair, end)
        tasks = [task for pair in pairs for task in pair.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuse:
            writer.close()
            return
        try:
            if isinstance(self.upstream, Path):
                up_reader, up_writer = await asyncio.open_unix_connection(self.upstream)
            else:
                up_reader, up_writer = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.close()
            return
        pair = _Pair(writer, up_writer)
        self._pairs.add(pair)
        pair.tasks = [
            asyncio.create_task(self._pump(pair, reader, up_writer, lambda: self.requests)),
            asyncio.create_task(self._pump(pair, up_reader, writer, lambda: self.replies)),
        ]
        await asyncio.gather(*pair.tasks, return_exceptions=True)
        _end(pair, End.CLOSE)
        self._pairs.discard(pair)

    async def _pump(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way_now: Callable[[], Way]
    ) -> None:
        """Carry one direction until it ends; the other one goes on until it ends itself."""
        sent = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(way_now().chunk):
                way = way_now()
                if way.delay_s:
                    await asyncio.sleep(way.delay_s)
                if way.silent:
                    continue
                cut = way.cut
                room = cut.at - sent if cut is not None else _FOREVER
                if room <= len(data):
                    data = data[: max(0, room)]
                writer.write(data)
                way.bytes += len(data)
                sent += len(data)
                await writer.drain()
                if cut is not None and sent >= cut.at:
                    way.cut = way.plan.popleft() if way.plan else None
                    self.cuts += 1
                    await self._cut(pair, writer, cut.end)
                    return
            if writer.can_write_eof():
                writer.write_eof()

    @staticmethod
    async def _cut(pair: _Pair, writer: asyncio.StreamWriter, end: End) -> None:
        if end is End.HANG:
            await asyncio.Event().wait()
        if end is End.HALF:
            writer.write_eof()
            return
        _end(pair, end)
        for task in pair.tasks:
            if task is not asyncio.current_task():
                task.cancel()


def _end(pair: _Pair, end: End) -> None:
    for writer in (pair.client, pair.server):
        sock = writer.get_extra_info("socket")
        if end is End.RESET and sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if end is End.RESET:
            writer.transport.abort()
        else:
            writer.close()
