# SPDX-License-Identifier: MIT
"""query.sock: where sacct and slurmjc ask. Every answer passes the access policy; rows pass through as they are."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from slurmjcd import __version__, criteria, protocol
from slurmjcd.access.policy import AccessPolicy, Peer, View, restricted
from slurmjcd.config.settings import QuerySection
from slurmjcd.errors import ProtocolError, Refused, StoreError, Unavailable
from slurmjcd.health.metrics import Metrics
from slurmjcd.protocol import Request
from slurmjcd.query import fanout
from slurmjcd.query.asking import LIMITS, Connection, QueryServer
from slurmjcd.query.fanout import MergedQuery
from slurmjcd.query.sources import Source
from slurmjcd.store.infosum import sum_infos
from slurmjcd.store.store import Store
from slurmjcd.store.storelink import parse_reply
from slurmjcd.watching import watching

log = logging.getLogger(__name__)

_PUBLIC_INFO: Final = ("module_version", "protocol", "record", "server", "server_version", "role")
_FILTERED_BYTES: Final = 1024 * 1024  # of an answer that has to be read here, run by run
_ARRAY: Final = re.compile(rb"\*(\d{1,10})\r\n")
_SHOWN_BYTES: Final = 200  # of a question in the log
_IN_PASSING: Final = 1000  # rows of AGG that are put together without a thread of their own

__all__ = ["QueryConnection", "QueryServer", "query_server"]


@dataclass(slots=True)
class Cursor:
    """An open query. `own_id` is its name in the store, None for one that nothing matches, and where it is `merged`."""

    own_id: bytes | None
    view: View  # what its caller might see when it was opened
    rows: int = 0
    merged: MergedQuery | None = None  # where several sources are asked


class QueryConnection(Connection):
    """Answers the requests of one connection."""

    def __init__(self, server: QueryServer) -> None:
        super().__init__(server)
        self._cursors: dict[bytes, Cursor] = {}  # by the caller's id

    async def answer(self, request: Request, peer: Peer) -> bytes | bytearray:
        name, server = request.name, self.server
        handler = _HANDLERS.get(name)
        if handler is None:
            server.metrics.queries_refused.inc()
            expected = ", ".join(known.decode() for known in _HANDLERS)
            shown = name[:64].decode("ascii", "backslashreplace")
            return protocol.error("ERR", f"unknown command '{shown}', expected one of {expected}")
        if not self._greeted and name not in (protocol.PING, protocol.HELLO):
            raise ProtocolError("the first command must be SLURMJC.HELLO 1 <program>/<version>", code="NOHELLO")
        kind = _kind(name)
        started = time.perf_counter()
        try:
            # who watches waits, and limits each of its questions by itself
            async with asyncio.timeout(server.answer_s if name != protocol.WATCH else None):
                return await handler(self, request.args, peer)
        except Refused as exc:
            return protocol.error(exc.code, str(exc))
        except Unavailable as exc:
            return self._unavailable(str(exc))
        except TimeoutError as exc:
            who = fanout.awaited(exc) or "Redis"
            setting = "cold" if server.answer_s > server.config.timeout_s else "query"
            return self._unavailable(f"{who} gave no answer within {setting}.timeout_s ({server.answer_s:g} s)")
        except StoreError as exc:
            return protocol.error("ERR", str(exc))
        finally:
            server.metrics.queries.labels(kind).inc()
            if name != protocol.WATCH:
                server.metrics.query_seconds.labels(kind).observe(time.perf_counter() - started)

    def _unavailable(self, why: str) -> bytes:
        self.server.metrics.queries_failed.inc()
        if self.server.quiet.allows(why[:60]):
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
        sees = str(await self.server.policy.view(peer.uid))
        return protocol.reply([
            "server", f"slurmjcd/{__version__}", "protocol", protocol.PROTOCOL_VERSION,
            "record", protocol.RECORD_VERSION,
            "role", "query", "max_request_bytes", LIMITS.request_bytes, "uid", peer.uid, "sees", sees,
        ])  # fmt: skip

    async def _view(self, args: list[bytes], peer: Peer) -> View:
        """What this caller may see now; that somebody reads others' jobs is logged."""
        policy = self.server.policy
        view = await policy.view(peer.uid)
        if policy.private and (view.all or view.accounts) and args[0].upper() != protocol.FETCH:
            asked = b" ".join(args)[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
            log.info("query: uid %d sees %s: %s", peer.uid, _seen(view), asked)
        return view

    @asynccontextmanager
    async def share(self, peer: Peer, *, held: int = 0) -> AsyncIterator[None]:
        """One of this user's shares in asking the store, when there is memory for an answer or some of it is `held`."""
        if not held:
            await self.server.room()
        async with self.server.shares.one(peer.uid):
            yield

    def _merged_from(self, asked: criteria.Criteria) -> Sequence[Source] | None:
        """The sources that an answer is put together from, or one that may move; None where it passes as it came."""
        server = self.server
        sources = server.sources_for(asked)
        if sources is server.sources and len(sources) == 1 and not server.store.is_cluster:
            return None
        return sources

    @property
    def kept_bytes(self) -> int:
        return sum(cursor.merged.held_bytes for cursor in self._cursors.values() if cursor.merged is not None)

    def connection_lost(self, exc: Exception | None) -> None:
        for caller_id in list(self._cursors):
            self._drop(caller_id)
        super().connection_lost(exc)

    def _drop(self, caller_id: bytes) -> None:
        """Close a query that its caller will not go on with."""
        cursor = self._cursors.pop(caller_id, None)
        if cursor is not None and cursor.merged is not None:
            self.server.forget(cursor.merged)

    def _refuse_incomplete(self) -> None:
        why = self.server.why_incomplete()
        if why is not None:
            raise Unavailable(why)

    async def _match(self, args: list[bytes], peer: Peer) -> bytes:
        _arity(args, "SLURMJC.MATCH <id> [criterion value ...]", at_least=2)
        caller_id = _query_id(args[1])
        if caller_id not in self._cursors and len(self._cursors) >= self.server.config.open_queries:
            raise Refused(f"a connection may have {self.server.config.open_queries} open queries", code="LIMIT")
        self._refuse_incomplete()
        view = await self._view(args, peer)
        allowed = restricted(criteria.pairs(args[2:]), view)
        self._drop(caller_id)  # so that FETCH after a MATCH that failed is an error, not an empty list
        if allowed is None:
            self._cursors[caller_id] = Cursor(None, view)
            return protocol.NIL
        cursor = self._cursors[caller_id] = await self._open(allowed, view, peer)
        if cursor.own_id is None and cursor.merged is None:
            return protocol.NIL
        return protocol.bulk(b"%b:mat:%b" % (self.server.store.prefix, caller_id))

    async def _open(self, asked: criteria.Criteria, view: View, peer: Peer) -> Cursor:
        server = self.server
        sources = self._merged_from(asked)
        if sources is not None:
            async with self.share(peer):
                return Cursor(None, view, merged=await fanout.match(sources, asked, server.forget))
        own_id = secrets.token_hex(16).encode()
        words = (protocol.MATCH, server.store.prefix, own_id, *criteria.flatten(asked))
        async with self.share(peer):
            found = await server.shards[0].ask(lambda link: link.call(*words))
        return Cursor(own_id if found is not None else None, view)

    async def _fetch(self, args: list[bytes], peer: Peer) -> bytes | bytearray:
        usage = "SLURMJC.FETCH <id> <max> [RECORDS]"
        if len(args) not in (3, 4) or (len(args) == 4 and args[3].upper() != b"RECORDS"):
            raise Refused(f"usage: {usage}")
        caller_id = _query_id(args[1])
        if not args[2].isdigit() or not 0 < int(args[2][:12]) <= 10**9:
            raise Refused(f"<max> must be a number from 1 to 1000000000; usage: {usage}")
        if caller_id not in self._cursors:
            raise Refused(f"no query '{caller_id.decode()}' is open, send SLURMJC.MATCH first", code="NOQUERY")
        cursor = self._cursors[caller_id]
        if cursor.own_id is None and cursor.merged is None:
            del self._cursors[caller_id]
            return protocol.EMPTY_ARRAY
        if not (await self._view(args, peer)).covers(cursor.view):  # a reload came in between
            self._drop(caller_id)
            raise Refused("what you may see has changed, send SLURMJC.MATCH again", code="NOPERM")
        try:
            if cursor.merged is None:
                page = await self._page(cursor, caller_id, args, peer)
            else:
                page = await self._merged_page(cursor, cursor.merged, args, peer)
            if cursor.rows > self.server.config.query_rows:
                raise Refused(
                    f"a query may have {self.server.config.query_rows} rows, narrow the criteria", code="LIMIT"
                )
        except BaseException:
            self._drop(caller_id)  # rows may be lost: whoever asks on has to get an error
            raise
        if page == protocol.EMPTY_ARRAY:
            self._drop(caller_id)
        return page

    async def _page(self, cursor: Cursor, caller_id: bytes, args: list[bytes], peer: Peer) -> bytes | bytearray:
        config, own_id = self.server.config, cursor.own_id or b""
        most = b"%d" % min(int(args[2]), config.page_rows)
        try:
            words = (protocol.FETCH, self.server.store.prefix, own_id, most, *args[3:])
            async with self.share(peer):
                page = await self.server.shards[0].ask_once(
                    lambda link: link.call_unread(*words, most=config.answer_bytes)
                )
        except Refused as exc:
            raise Refused(str(exc).replace(own_id.decode(), caller_id.decode()), code=exc.code) from exc
        cursor.rows += _length(page)
        return page

    async def _merged_page(self, cursor: Cursor, merged: MergedQuery, args: list[bytes], peer: Peer) -> bytes:
        most = min(int(args[2]), self.server.config.page_rows)
        # who takes what is held makes room, and must not wait for others to do so
        async with self.share(peer, held=merged.held_bytes):
            rows = await merged.page(most, records=len(args) == 4)
        cursor.rows += len(rows)
        return b"*%d\r\n%b" % (len(rows), b"".join(rows))

    async def _get(self, args: list[bytes], peer: Peer) -> bytes | bytearray:
        _arity(args, "SLURMJC.GET <jobid>", exactly=2)
        if not args[1].isdigit() or len(args[1]) > 10:
            raise Refused("a job id is a number")
        self._refuse_incomplete()
        view = await self._view(args, peer)
        most = self.server.config.answer_bytes if view.all else _FILTERED_BYTES
        sources = self._merged_from([(b"job", args[1])])
        if sources is not None:
            async with self.share(peer):
                runs = await fanout.runs(sources, int(args[1]), most)
            return protocol.reply([run for run in runs if view.all or _may_see(view, run)])
        words = (protocol.GET, self.server.store.prefix, args[1])
        async with self.share(peer):
            answer = await self.server.shards[0].ask(lambda link: link.call_unread(*words, most=most))
        return answer if view.all else protocol.reply(_visible(answer, view))

    async def _agg(self, args: list[bytes], peer: Peer) -> bytes | bytearray:
        usage = "SLURMJC.AGG BY <field> [<field>] [criterion value ...]"
        _arity(args, usage, at_least=3)
        if args[1].upper() != b"BY" or args[2].lower() not in criteria.AGG_FIELDS:
            expected = b", ".join(criteria.AGG_FIELDS).decode()
            raise Refused(f"usage: {usage}, field one of {expected}")
        # criteria are pairs, so an odd number of words after BY means one field, an even number two
        fields = 1 if (len(args) - 2) % 2 else 2
        self._refuse_incomplete()
        allowed = restricted(criteria.pairs(args[2 + fields :]), await self._view(args, peer))
        if allowed is None:
            return protocol.EMPTY_ARRAY
        sources = self._merged_from(allowed)
        if sources is not None:
            return await self._merged_groups(sources, args[2 : 2 + fields], allowed, peer)
        by, most = args[2 : 2 + fields], self.server.config.answer_bytes
        words = (protocol.AGG, self.server.store.prefix, b"BY", *by, *criteria.flatten(allowed))
        async with self.share(peer):
            return await self.server.shards[0].ask(lambda link: link.call_unread(*words, most=most))

    async def _merged_groups(
        self, sources: Sequence[Source], fields: list[bytes], asked: criteria.Criteria, peer: Peer
    ) -> bytes:
        most = self.server.config.answer_bytes
        async with self.share(peer):
            groups = await fanout.groups(sources, fields, asked)
            if len(groups) < _IN_PASSING:
                answer = protocol.reply(groups)
            else:
                answer = await asyncio.to_thread(protocol.reply, groups)
        if len(answer) > most:
            raise Refused(f"the answer has more than {most} bytes, narrow the criteria", code="LIMIT")
        return answer

    async def _watch(self, args: list[bytes], peer: Peer) -> bytes:
        _arity(args, watching.USAGE, at_least=4)
        question = watching.parse(args, self.server.feed)
        view = await self._view(args, peer)
        return await watching.watch(self, question, peer, view)

    async def _info(self, args: list[bytes], peer: Peer) -> bytes:
        segments = len(args) == 2 and args[1].upper() == b"SEGMENTS"
        _arity(args, "SLURMJC.INFO [SEGMENTS]", exactly=1 + segments)
        view = await self._view(args, peer)
        async with self.share(peer):
            shards = self.server.shards
            infos = await fanout.ask_all(shards, [shard.info(segments=segments) for shard in shards])
        fields: dict[str, Any] = sum_infos(infos).fields
        if not view.all:
            fields = {name: fields[name] for name in _PUBLIC_INFO if name in fields}
        return protocol.reply([part for pair in fields.items() for part in pair])

    async def _status(self, args: list[bytes], peer: Peer) -> bytes:
        _arity(args, "SLURMJC.STATUS", exactly=1)
        server = self.server
        if server.status is None:
            raise Unavailable("this daemon keeps no status")
        return protocol.bulk(json.dumps(server.status(await server.policy.operates(peer.uid))).encode())


def query_server(store: Store, config: QuerySection, metrics: Metrics, policy: AccessPolicy) -> QueryServer:
    """What a listening socket needs: its `connection` is the factory of protocols."""
    metrics.expect_queries(map(_kind, _HANDLERS))
    return QueryServer(store, config, metrics, policy, QueryConnection)


_HANDLERS: Final = {
    protocol.PING: QueryConnection._ping,
    protocol.HELLO: QueryConnection._hello,
    protocol.MATCH: QueryConnection._match,
    protocol.FETCH: QueryConnection._fetch,
    protocol.GET: QueryConnection._get,
    protocol.AGG: QueryConnection._agg,
    protocol.INFO: QueryConnection._info,
    protocol.STATUS: QueryConnection._status,
    protocol.WATCH: QueryConnection._watch,
}


def _kind(command: bytes) -> str:
    """A command as a metric's label."""
    return command.decode().removeprefix("SLURMJC.").lower()


def _arity(args: list[bytes], usage: str, *, exactly: int = 0, at_least: int = 0) -> None:
    if (exactly and len(args) != exactly) or len(args) < at_least:
        raise Refused(f"usage: {usage}")


def _query_id(value: bytes) -> bytes:
    if not protocol.is_id(value):
        raise Refused(f"a query id is 1 to {protocol.ID_MAX_BYTES} of [A-Za-z0-9_.:-]")
    return value


def _visible(answer: bytes | bytearray, view: View) -> list[Any]:
    """Those runs of an answer to GET that may be seen."""
    runs = parse_reply(answer)
    if not isinstance(runs, list):
        raise Unavailable("the reply to SLURMJC.GET is no list")
    return [run for run in runs if _may_see(view, run)]


def _may_see(view: View, run: Any) -> bool:
    return isinstance(run, list) and view.allows(_uid(run), _account(run))


def _uid(run: list[Any]) -> int:
    value = _field(run, b"uid")
    return int(value) if isinstance(value, int) or (isinstance(value, bytes) and value.isdigit()) else -1


def _account(run: list[Any]) -> str:
    value = _field(run, b"account")
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else ""


def _field(run: list[Any], name: bytes) -> Any:
    """A field's value in a flat list of names and values; the first of that name, where the record's columns are."""
    for position in range(0, len(run) - 1, 2):
        if run[position] == name:
            return run[position + 1]
    return None


def _length(page: bytes | bytearray) -> int:
    """How many elements an array has that is still bytes."""
    head = _ARRAY.match(page)
    return int(head[1]) if head else 0


def _seen(view: View) -> str:
    return "jobs of all users" if view.all else f"all jobs of accounts {', '.join(sorted(view.accounts))}"
