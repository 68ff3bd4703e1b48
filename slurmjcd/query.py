# SPDX-License-Identifier: MIT
"""query.sock: where sacct and slurmjc ask. Every answer passes the access policy; rows pass through as they are."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from slurmjcd import __version__, criteria, protocol
from slurmjcd.access import AccessPolicy, Peer, peer_of
from slurmjcd.backoff import Quiet
from slurmjcd.config import QuerySection
from slurmjcd.errors import ProtocolError, Refused, StoreError, Unavailable
from slurmjcd.metrics import Metrics
from slurmjcd.protocol import Limits, Request, RequestParser
from slurmjcd.store import Store

log = logging.getLogger(__name__)

_LIMITS: Final = Limits(request_bytes=1024 * 1024, bulk_bytes=512 * 1024, arguments=4096)
_QUEUE_MAX: Final = 64  # requests sent ahead before the connection isn't read any further
_WRITE_HIGH: Final = 1024 * 1024
_STALL_S: Final = 10.0  # a reader that takes nothing for so long is cut
_PUBLIC_INFO: Final = ("module_version", "protocol", "record", "server", "server_version", "role")


@dataclass(slots=True)
class QueryServer:
    """What the connections of query.sock share."""

    store: Store
    config: QuerySection
    metrics: Metrics
    policy: AccessPolicy
    why_incomplete: Callable[[], str | None] = lambda: None
    quiet: Quiet = field(default_factory=Quiet)
    connections: set[QueryConnection] = field(default_factory=set)
    by_uid: Counter[int] = field(default_factory=Counter)

    def connection(self) -> QueryConnection:
        return QueryConnection(self)

    async def close(self) -> None:
        """Let answers in progress end, then close every connection."""
        tasks = [connection.stop() for connection in list(self.connections)]
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)


class QueryConnection(asyncio.Protocol):
    """One connection: a task answers its requests one after the other."""

    def __init__(self, server: QueryServer) -> None:
        self._server = server
        self._parser = RequestParser(_LIMITS)
        self._requests: deque[Request] = deque()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._cursors: dict[bytes, bytes | None] = {}  # the caller's id to ours; None: a query that nothing matches
        self._peer: Peer | None = None
        self._greeted = self._ended = self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    # ---- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        server, self._peer = self._server, peer_of(self._transport)
        refusal = None
        if self._peer is None:
            refusal = protocol.error("NOPERM", "the kernel doesn't say who you are")
        elif len(server.connections) >= server.config.connections:
            refusal = protocol.error("LIMIT", f"query.sock has its {server.config.connections} connections already")
        elif server.by_uid[self._peer.uid] >= server.config.connections_per_uid:
            most = server.config.connections_per_uid
            refusal = protocol.error("LIMIT", f"a user may have {most} connections to query.sock")
        if refusal is not None or self._peer is None:
            server.metrics.queries_refused.inc()
            self._transport.write(refusal or b"")
            self._transport.close()
            return
        server.connections.add(self)
        server.by_uid[self._peer.uid] += 1
        self._task = asyncio.get_running_loop().create_task(self._serve(self._peer))

    def data_received(self, data: bytes) -> None:
        if self._task is None or self._ended:
            return
        self._requests.extend(self._parser.feed(data))
        if self._parser.error is not None:
            self._ended = True
        self._arrived.set()
        if len(self._requests) > _QUEUE_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._arrived.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is None or self._peer is None:
            return
        server = self._server
        server.connections.discard(self)
        server.by_uid[self._peer.uid] -= 1
        if not server.by_uid[self._peer.uid]:
            del server.by_uid[self._peer.uid]
        self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def stop(self) -> None:
        self._ended = True
        self._requests.clear()
        self._arrived.set()
        if self._task is not None:
            await self._task

    # ---- one request after the other -----------------------------------------------------------------------------

    async def _serve(self, peer: Peer) -> None:
        try:
            while (request := await self._next_request()) is not None:
                self._transport.write(await self._answer(request, peer))
                async with asyncio.timeout(_STALL_S):
                    await self._writable.wait()
            if self._parser.error is not None:
                self._server.metrics.queries_refused.inc()
                self._transport.write(protocol.error(self._parser.error.code, str(self._parser.error)))
        except TimeoutError:
            self._transport.abort()
        except ProtocolError as exc:
            self._transport.write(protocol.error(exc.code, str(exc)))
        except Exception:
            log.exception("query: uid %d: a bug in slurmjcd", peer.uid)
            self._transport.write(protocol.error("ERR", "internal error, see slurmjcd's log"))
        finally:
            self._transport.close()

    async def _next_request(self) -> Request | None:
        """The next request, None when the connection is over."""
        while not self._requests:
            if self._ended:
                return None
            self._arrived.clear()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            try:
                async with asyncio.timeout(self._server.config.idle_s):
                    await self._arrived.wait()
            except TimeoutError:
                return None
        return self._requests.popleft()

    async def _answer(self, request: Request, peer: Peer) -> bytes | bytearray:
        name, server = request.name, self._server
        handler = _HANDLERS.get(name)
        if handler is None:
            server.metrics.queries_refused.inc()
            expected = ", ".join(known.decode() for known in _HANDLERS)
            shown = name[:64].decode("ascii", "backslashreplace")
            return protocol.error("ERR", f"unknown command '{shown}', expected one of {expected}")
        if not self._greeted and name not in (protocol.PING, protocol.HELLO):
            raise ProtocolError("the first command must be SLURMJC.HELLO 1 <program>/<version>", code="NOHELLO")
        kind = name.decode().removeprefix("SLURMJC.").lower()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(server.config.timeout_s):
                return await handler(self, request.args, peer)
        except Refused as exc:
            return protocol.error(exc.code, str(exc))
        except Unavailable as exc:
            return self._unavailable(str(exc))
        except TimeoutError:
            return self._unavailable(f"Redis gave no answer within query.timeout_s ({server.config.timeout_s:g} s)")
        except StoreError as exc:
            return protocol.error("ERR", str(exc))
        finally:
            server.metrics.queries.labels(kind).inc()
            server.metrics.query_seconds.labels(kind).observe(time.perf_counter() - started)

    def _unavailable(self, why: str) -> bytes:
        if self._server.quiet.allows(why[:60]):
            log.warning("query: %s", why)
        return protocol.error("UNAVAILABLE", why)

    # ---- commands ------------------------------------------------------------------------------------------------

    async def _ping(self, args: list[bytes], peer: Peer) -> bytes:
        return protocol.PONG

    async def _hello(self, args: list[bytes], peer: Peer) -> bytes:
        _arity(args, "SLURMJC.HELLO 1 <program>/<version>", exactly=3)
        if args[1] != b"%d" % protocol.PROTOCOL_VERSION:
            raise ProtocolError(f"this daemon speaks protocol {protocol.PROTOCOL_VERSION}", code="NOPROTO")
        self._greeted = True
        sees = "all" if await self._server.policy.sees_all(peer.uid) else "own"
        return protocol.reply([
            "server", f"slurmjcd/{__version__}", "protocol", protocol.PROTOCOL_VERSION,
            "record", protocol.RECORD_VERSION,
            "role", "query", "max_request_bytes", _LIMITS.request_bytes, "uid", peer.uid, "sees", sees,
        ])  # fmt: skip

    async def _restrict(self, asked: criteria.Criteria, peer: Peer) -> criteria.Criteria | None:
        """The question as this caller may ask it, None when there is nothing it may see."""
        if await self._server.policy.sees_all(peer.uid):
            if self._server.policy.private:
                log.info("query: uid %d reads jobs of all users", peer.uid)
            return asked
        return criteria.only_uid(asked, peer.uid)

    def _refuse_incomplete(self) -> None:
        why = self._server.why_incomplete()
        if why is not None:
            raise Unavailable(why)

    async def _match(self, args: list[bytes], peer: Peer) -> bytes:
        _arity(args, "SLURMJC.MATCH <id> [criterion value ...]", at_least=2)
        caller_id = _query_id(args[1])
        if caller_id not in self._cursors and len(self._cursors) >= self._server.config.open_queries:
            raise Refused(f"a connection may have {self._server.config.open_queries} open queries", code="LIMIT")
        self._refuse_incomplete()
        allowed = await self._restrict(criteria.pairs(args[2:]), peer)
        self._cursors[caller_id] = None
        if allowed is None:
            return protocol.NIL
        store, own_id = self._server.store, secrets.token_hex(16).encode()
        async with store.reader() as link:
            found = await link.call(protocol.MATCH, store.prefix, own_id, *criteria.flatten(allowed))
        if found is None:
            return protocol.NIL
        self._cursors[caller_id] = own_id
        return protocol.bulk(b"%b:mat:%b" % (store.prefix, caller_id))

    async def _fetch(self, args: list[bytes], peer: Peer) -> bytes | bytearray:
        usage = "SLURMJC.FETCH <id> <max> [RECORDS]"
        if len(args) not in (3, 4) or (len(args) == 4 and args[3].upper() != b"RECORDS"):
            raise Refused(f"usage: {usage}")
        caller_id = _query_id(args[1])
        if not args[2].isdigit() or not 0 < int(args[2][:12]) <= 10**9:
            raise Refused(f"<max> must be a number from 1 to 1000000000; usage: {usage}")
        if caller_id not in self._cursors:
            raise Refused(f"no query '{caller_id.decode()}' is open, send SLURMJC.MATCH first", code="NOQUERY")
        own_id = self._cursors[caller_id]
        if own_id is None:
            del self._cursors[caller_id]
            return protocol.EMPTY_ARRAY
        most = b"%d" % min(int(args[2]), self._server.config.page_rows)
        store = self._server.store
        try:
            async with store.reader() as link:
                page = await link.call_unread(protocol.FETCH, store.prefix, own_id, most, *args[3:])
        except Refused as exc:
            del self._cursors[caller_id]
            raise Refused(str(exc).replace(own_id.decode(), caller_id.decode()), code=exc.code) from exc
        if page == protocol.EMPTY_ARRAY:
            del self._cursors[caller_id]
        return page

    async def _get(self, args: list[bytes], peer: Peer) -> bytes:
        _arity(args, "SLURMJC.GET <jobid>", exactly=2)
        if not args[1].isdigit() or len(args[1]) > 10:
            raise Refused("a job id is a number")
        self._refuse_incomplete()
        store = self._server.store
        async with store.reader() as link:
            runs = await link.call(protocol.GET, store.prefix, args[1])
        if not await self._server.policy.sees_all(peer.uid):
            runs = [run for run in runs if _field(run, b"uid") in (peer.uid, b"%d" % peer.uid)]
        return protocol.reply(runs)

    async def _agg(self, args: list[bytes], peer: Peer) -> bytes:
        usage = "SLURMJC.AGG BY <field> [<field>] [criterion value ...]"
        _arity(args, usage, at_least=3)
        if args[1].upper() != b"BY" or args[2].lower() not in criteria.AGG_FIELDS:
            expected = b", ".join(criteria.AGG_FIELDS).decode()
            raise Refused(f"usage: {usage}, field one of {expected}")
        # criteria are pairs, so an odd number of words after BY means one field, an even number two
        fields = 1 if (len(args) - 2) % 2 else 2
        self._refuse_incomplete()
        allowed = await self._restrict(criteria.pairs(args[2 + fields :]), peer)
        if allowed is None:
            return protocol.EMPTY_ARRAY
        store = self._server.store
        async with store.reader() as link:
            rows = await link.call(protocol.AGG, store.prefix, b"BY", *args[2 : 2 + fields], *criteria.flatten(allowed))
        return protocol.reply(rows)

    async def _info(self, args: list[bytes], peer: Peer) -> bytes:
        _arity(args, "SLURMJC.INFO", exactly=1)
        store = self._server.store
        async with store.reader() as link:
            info = await link.info()
        fields: dict[str, Any] = info.fields
        if not await self._server.policy.sees_all(peer.uid):
            fields = {name: fields[name] for name in _PUBLIC_INFO if name in fields}
        return protocol.reply([part for pair in fields.items() for part in pair])


_HANDLERS: Final = {
    protocol.PING: QueryConnection._ping,
    protocol.HELLO: QueryConnection._hello,
    protocol.MATCH: QueryConnection._match,
    protocol.FETCH: QueryConnection._fetch,
    protocol.GET: QueryConnection._get,
    protocol.AGG: QueryConnection._agg,
    protocol.INFO: QueryConnection._info,
}


def _arity(args: list[bytes], usage: str, *, exactly: int = 0, at_least: int = 0) -> None:
    if (exactly and len(args) != exactly) or len(args) < at_least:
        raise Refused(f"usage: {usage}")


def _query_id(value: bytes) -> bytes:
    if not protocol.is_id(value):
        raise Refused(f"a query id is 1 to {protocol.ID_MAX_BYTES} of [A-Za-z0-9_.:-]")
    return value


def _field(run: Any, name: bytes) -> Any:
    """A field's value in a flat list of names and values; the first of that name, where the record's columns are."""
    for position in range(0, len(run) - 1, 2):
        if run[position] == name:
            return run[position + 1]
    return None
