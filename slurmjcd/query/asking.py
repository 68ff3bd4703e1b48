# SPDX-License-Identifier: MIT
"""The connections of query.sock: who comes in, requests cut out of bytes, and what one caller can cost the others.

Anyone on this host may connect, so all is bounded: connections, in all and of a user; bytes of requests that have not
come whole and of answers that are not read; the time that each step may take; and how much of one round of the event
loop goes into questions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

from slurmjcd import protocol
from slurmjcd.access.policy import AccessPolicy, Peer, peer_of
from slurmjcd.backoff import Quiet
from slurmjcd.config.settings import QuerySection
from slurmjcd.criteria import Criteria
from slurmjcd.errors import ProtocolError, Refused
from slurmjcd.health.metrics import Metrics
from slurmjcd.protocol import Limits, Request, RequestParser
from slurmjcd.query.fanout import Forgetting
from slurmjcd.query.sources import ShardSource, Source, master_sources, shard_sources
from slurmjcd.query.turns import Rates, Shares, Turns
from slurmjcd.store.store import Store
from slurmjcd.watching.feeds import EventFeeds

log = logging.getLogger(__name__)

LIMITS: Final = Limits(request_bytes=1024 * 1024, bulk_bytes=512 * 1024, arguments=4096)
_WRITE_HIGH: Final = 1024 * 1024
_STALL_S: Final = 10.0  # a reader that takes nothing for so long is cut
_SHED_S: Final = 1.0  # ... and for so long, when others need the memory
_COUNT_S: Final = 0.05  # between two counts of what is unread
_RECEIVE: Final = memoryview(bytearray(16 * 1024))  # filled and emptied in one step, so all connections share it
_INBOX_MAX: Final = 32 * 1024  # received and not yet cut into requests; above this the socket isn't read
_PIECE: Final = 2048  # bytes cut in one turn
_SMALL: Final = 64 * 1024  # of requests that every connection may hold


@dataclass(slots=True)
class QueryServer:
    """What the connections of query.sock share."""

    store: Store
    config: QuerySection
    metrics: Metrics
    policy: AccessPolicy
    make: Callable[[QueryServer], Connection]
    why_incomplete: Callable[[], str | None] = lambda: None
    status: Callable[[bool], dict[str, Any]] | None = None  # for STATUS; whether an operator asks
    connections_max: int = 10_000  # what descriptors allow, beside config.connections
    quiet: Quiet = field(default_factory=Quiet)
    connections: set[Connection] = field(default_factory=set)
    by_uid: Counter[int] = field(default_factory=Counter)  # connections that don't wait for jobs to end
    waiting: Counter[int] = field(default_factory=Counter)  # those that do
    turns: Turns = field(default_factory=Turns)
    rates: Rates = field(default_factory=Rates)
    shares: Shares = field(init=False)
    forget: Forgetting = field(default_factory=Forgetting)
    shards: list[ShardSource] = field(init=False)
    watched: list[ShardSource] = field(init=False)  # the shards as who waits for jobs asks them
    sources: list[Source] = field(init=False)  # the shards, and what else holds jobs
    older: Callable[[Criteria], Sequence[Source] | None] = lambda asked: None  # see sources_for
    older_s: float = 0.0  # how long an answer may take with these
    feed: EventFeeds = field(init=False)
    held: int = 0  # bytes of requests that have not come whole
    unread: int = 0  # bytes of answers; as last counted, so too many rather than too few
    _counted_s: float = 0.0

    def __post_init__(self) -> None:
        self.shares = Shares(max(1, self.config.store_connections // 2))
        self.shards = shard_sources(self.store, lambda: self.config, self.forget)
        self.sources = list(self.shards)
        self.watched = master_sources(self.store, lambda: self.config)
        self.feed = EventFeeds(self.store, self.watched)

    def sources_for(self, asked: Criteria) -> Sequence[Source]:
        """What has to be asked: the shards, or where files of older days may matter what stands for both."""
        return self.older(asked) or self.sources

    @property
    def answer_s(self) -> float:
        """Longest time for one answer."""
        return max(self.config.timeout_s, self.older_s)

    def connection(self) -> Connection:
        return self.make(self)

    def admit(self, peer: Peer | None, opening: int) -> bytes | None:
        """As `refusal`, for somebody who is at the door: it also counts how often they come."""
        per_s = self.config.connections_per_uid_s
        if peer is not None and peer.uid and not self.rates.allows(peer.uid, per_s):
            return self._refuse(peer, protocol.error("LIMIT", f"a user may connect {per_s:g} times a second"))
        return self.refusal(peer, opening)

    def refusal(self, peer: Peer | None, opening: int = 0) -> bytes | None:
        """What to tell somebody who can't be let in now, None to let them in."""
        waiting = self.waiting.total()
        most = min(self.config.connections, self.connections_max - waiting)
        most_per_uid = self.config.connections_per_uid
        if peer is None:
            why = protocol.error("NOPERM", "the kernel doesn't say who you are")
        elif self.by_uid[peer.uid] >= most_per_uid:
            why = protocol.error("LIMIT", f"a user may have {most_per_uid} connections to query.sock")
        elif len(self.connections) - waiting + opening >= most:
            why = protocol.error("LIMIT", f"query.sock has its {most} connections already")
        else:
            return None
        return self._refuse(peer, why)

    def _refuse(self, peer: Peer | None, why: bytes) -> bytes:
        self.metrics.queries_refused.inc()
        if self.quiet.allows(f"uid {peer.uid if peer else '?'}"):
            log.warning("query: uid %s is refused: %s", peer.uid if peer else "?", why.decode().strip())
        return why

    async def room(self) -> None:
        """Wait until what others don't read leaves memory for one more answer; who reads nothing is cut then."""
        while self.unread > self.config.memory_bytes:
            now = time.monotonic()
            if now - self._counted_s >= _COUNT_S:
                self._counted_s = now
                for connection in list(self.connections):
                    connection.count_unread(now, shed=True)
            if self.unread > self.config.memory_bytes:
                await asyncio.sleep(_COUNT_S)

    async def close(self) -> None:
        """Let answers in progress end, then close every connection."""
        tasks = [connection.stop() for connection in list(self.connections)]
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.feed.close()
        await self.forget.close()


class Connection(asyncio.BufferedProtocol):
    """One connection: a task has its requests answered one after the other."""

    def __init__(self, server: QueryServer) -> None:
        self.server = server
        self._parser = RequestParser(LIMITS)
        self._inbox = bytearray()
        self._requests: deque[Request] = deque()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._peer: Peer | None = None
        self._greeted = self.ended = self._paused = self._waits = False
        self.on_end: Callable[[], None] | None = None  # called when the caller says no more, or the daemon stops
        self._held = self._unread = 0
        self._born_s = self._since_s = self._moved_s = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    async def answer(self, request: Request, peer: Peer) -> bytes | bytearray:
        """The reply to one request.

        Raises:
            ProtocolError: after it the connection can't go on.
        """
        raise NotImplementedError

    # ---- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        server, self._peer = self.server, peer_of(self._transport)
        refusal = server.refusal(self._peer)
        if refusal is not None or self._peer is None:
            self._transport.write(refusal or b"")
            self._transport.close()
            return
        server.connections.add(self)
        server.by_uid[self._peer.uid] += 1
        self._task = asyncio.get_running_loop().create_task(self._serve(self._peer))

    def get_buffer(self, sizehint: int) -> memoryview:
        return _RECEIVE

    def buffer_updated(self, nbytes: int) -> None:
        if self._task is None or self.ended:
            return
        self._inbox += _RECEIVE[:nbytes]
        self._arrived.set()
        if len(self._inbox) > _INBOX_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._end()
        return True

    def _end(self) -> None:
        self.ended = True
        self._arrived.set()
        if self.on_end is not None:
            self.on_end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is None or self._peer is None:
            return
        server = self.server
        server.connections.discard(self)
        _less(server.waiting if self._waits else server.by_uid, self._peer.uid)
        server.held -= self._held
        server.unread -= self._unread
        self._held = self._unread = 0
        self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def stop(self) -> None:
        self._requests.clear()
        self._inbox.clear()
        self._end()
        if self._task is not None:
            await self._task

    @contextmanager
    def waits(self, peer: Peer) -> Iterator[None]:
        """Count this connection among those that wait, which have limits of their own.

        Raises:
            Refused: too many wait already.
        """
        server, config = self.server, self.server.config
        room = min(config.waiting, max(1, server.connections_max - config.connections))
        most = config.waiting_per_uid if peer.uid else room
        if server.waiting[peer.uid] >= most or server.waiting.total() >= room:
            server.metrics.queries_refused.inc()
            raise Refused(f"{min(most, room)} connections may wait for jobs: wait for several in one", code="LIMIT")
        _less(server.by_uid, peer.uid)
        server.waiting[peer.uid] += 1
        self._waits = True
        server.metrics.waiting.inc()
        try:
            yield
        finally:
            self._waits = False
            server.metrics.waiting.dec()
            if self in server.connections:  # else it was taken off with the connection
                _less(server.waiting, peer.uid)
                server.by_uid[peer.uid] += 1

    # ---- answers -------------------------------------------------------------------------------------------------

    def _send(self, data: bytes | bytearray) -> None:
        if self._transport.is_closing():
            return  # the caller went away, and uvloop makes a bug of writing to nobody
        self._transport.write(data)
        if self._peer is not None and self in self.server.connections:
            self.count_unread(time.monotonic())

    @property
    def kept_bytes(self) -> int:
        """Of answers that are here and that the caller hasn't asked for yet."""
        return 0

    def count_unread(self, now_s: float, *, shed: bool = False) -> None:
        """Take note of what the caller hasn't read; with `shed`, cut it when it has read nothing for a while."""
        size = self._transport.get_write_buffer_size() + self.kept_bytes
        if size != self._unread:
            self.server.unread += size - self._unread
            self._unread, self._moved_s = size, now_s
        elif shed and size and now_s - self._moved_s > _SHED_S:
            log.info("query: uid %d reads too slowly and others need the memory", self._peer.uid if self._peer else -1)
            self._transport.abort()

    # ---- one request after the other -----------------------------------------------------------------------------

    async def _serve(self, peer: Peer) -> None:
        try:
            while (request := await self._next_request(peer)) is not None:
                self._send(await self.answer(request, peer))
                if not self._writable.is_set():
                    async with asyncio.timeout(_STALL_S):
                        await self._writable.wait()
            if self._parser.error is not None:
                raise self._parser.error
        except TimeoutError:
            self._transport.abort()
        except ProtocolError as exc:
            self.server.metrics.queries_refused.inc()
            self._send(protocol.error(exc.code, str(exc)))
        except Exception:
            log.exception("query: uid %d: a bug in slurmjcd", peer.uid)
            self._send(protocol.error("ERR", "internal error, see slurmjcd's log"))
        finally:
            self._transport.close()

    async def _next_request(self, peer: Peer) -> Request | None:
        """The next request, None when the connection is over.

        Raises:
            ProtocolError: it took too long, or too much memory.
        """
        while not self._requests:
            if self._inbox:
                await self.server.turns.mine(peer.uid)
                self._cut()
                continue
            if self.ended:
                return None
            self._arrived.clear()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            if not await self._more():
                return None
        await self.server.turns.mine(peer.uid)
        return self._requests.popleft()

    def _cut(self) -> None:
        """Cut the next piece of what came into requests."""
        begun = self._parser.buffered
        piece = bytes(self._inbox[:_PIECE])
        del self._inbox[:_PIECE]
        self._requests.extend(self._parser.feed(piece))
        if not begun or self._requests:
            self._since_s = time.monotonic()
        if self._parser.error is not None:
            self.ended = True
            self._inbox.clear()
        server, held = self.server, self._parser.buffered
        server.held += held - self._held
        self._held = held
        if held > _SMALL and server.held > server.config.memory_bytes // 2:
            raise ProtocolError("too many large requests are under way at a time, try again later", code="LIMIT")

    async def _more(self) -> bool:
        """Wait for bytes; False when the connection was idle for too long."""
        config, now_s = self.server.config, time.monotonic()
        unfinished = self._parser.buffered > 0 or not self._greeted
        wait_s = self._since_s + config.request_s - now_s if unfinished else config.idle_s
        rest_s = self._born_s + config.total_s - now_s
        try:
            async with asyncio.timeout(max(0.0, min(wait_s, rest_s))):
                await self._arrived.wait()
        except TimeoutError:
            if rest_s <= wait_s:
                raise ProtocolError(f"a connection may last {config.total_s:g} s", code="LIMIT") from None
            if self._parser.buffered:
                raise ProtocolError(f"a request must come whole within {config.request_s:g} s", code="LIMIT") from None
            return False
        return True


def _less(counter: Counter[int], uid: int) -> None:
    counter[uid] -= 1
    if not counter[uid]:
        del counter[uid]
