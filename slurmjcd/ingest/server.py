# SPDX-License-Identifier: MIT
"""ingest.sock: where slurmctld's plugin delivers records. A record is answered only when it is in the spool."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, cast

from slurmjcd import __version__, protocol
from slurmjcd.access.policy import Peer, peer_of
from slurmjcd.backoff import Quiet
from slurmjcd.errors import ProtocolError
from slurmjcd.ingest.committer import Committer
from slurmjcd.protocol import Limits, Request, RequestParser
from slurmjcd.spool.batch import Ring

log = logging.getLogger(__name__)

_NUMBER_MAX_DIGITS: Final = 19
_RING_COUNTERS: Final = (b"ATTEMPTED", b"DROPPED", b"SPILLED", b"LAST_DROPPED")
_REPLIES_MAX: Final = 10_000  # answers a connection may wait for before it isn't read any further


class IngestServer:
    """What the connections of ingest.sock share: who may connect, and one brake for all."""

    def __init__(
        self,
        committer: Committer,
        *,
        allowed_uids: frozenset[int],
        limits: Limits,
        pending_bytes: int,
        connections: int,
    ) -> None:
        self.committer, self.allowed_uids, self.limits = committer, allowed_uids, limits
        self.connections: set[IngestConnection] = set()
        self.connections_max = connections
        self.quiet = Quiet()
        self._high, self._low = pending_bytes, pending_bytes // 2
        committer.on_progress = self._progress

    def connection(self) -> IngestConnection:
        return IngestConnection(self)

    @property
    def must_wait(self) -> bool:
        return self.committer.pending_bytes > self._high

    def _progress(self) -> None:
        if self.committer.pending_bytes <= self._low:
            for connection in self.connections:
                connection.resume()

    def close(self) -> None:
        """Close every connection once what it waits for has been answered."""
        for connection in list(self.connections):
            connection.close_when_answered()


class IngestConnection(asyncio.Protocol):
    """One connection: requests in, replies out in the same order."""

    def __init__(self, server: IngestServer) -> None:
        self._server = server
        self._parser = RequestParser(server.limits, takes_records=True)
        self._replies: deque[list[bytes]] = deque()  # each empty until its answer is known
        self._peer: Peer | None = None
        self._greeted = self._closing = self._paused = False
        self._transport: asyncio.Transport

    # ---- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        self._peer = peer_of(self._transport)
        refusal = None
        if self._peer is None or self._peer.uid not in server.allowed_uids:
            uid = self._peer.uid if self._peer else "unknown"
            refusal = protocol.error("NOPERM", "ingest.sock takes records from root and SlurmUser only")
            if server.quiet.allows(f"uid {uid}"):
                log.warning("ingest: refused a connection of uid %s", uid)
        elif len(server.connections) >= server.connections_max:
            refusal = protocol.error("LIMIT", f"ingest.sock has its {server.connections_max} connections already")
            if server.quiet.allows("connections"):
                log.warning("ingest: more than %d connections", server.connections_max)
        server.connections.add(self)
        if refusal is not None:
            server.committer.metrics.ingest_refused.inc()
            self._transport.write(refusal)
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        for request in self._parser.feed(data):
            self._handle(request)
            if self._closing:
                return
        if self._parser.error is not None:
            error = self._parser.error
            log.warning("ingest: uid %s: %s", self._peer.uid if self._peer else "?", error)
            self._reply(protocol.error(error.code, str(error)))
            self.close_when_answered()
        elif not self._paused and (self._server.must_wait or len(self._replies) > _REPLIES_MAX):
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self.close_when_answered()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._server.connections.discard(self)

    def resume(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._transport.resume_reading()

    # ---- replies -------------------------------------------------------------------------------------------------

    def _reply(self, data: bytes) -> None:
        if self._replies:
            self._replies.append([data])
        else:
            self._transport.write(data)

    def _later(self) -> list[bytes]:
        slot: list[bytes] = []
        self._replies.append(slot)
        return slot

    def _answer(self, slot: list[bytes], data: bytes) -> None:
        slot.append(data)
        ready = []
        while self._replies and self._replies[0]:
            ready.extend(self._replies.popleft())
        if self._transport.is_closing():
            return
        if ready:
            self._transport.write(b"".join(ready))
        if self._closing and not self._replies:
            self._transport.close()

    def close_when_answered(self) -> None:
        self._closing = True
        if not self._replies:
            self._close()

    def _close(self) -> None:
        self._closing = True
        self._transport.close()

    # ---- requests ------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> None:
        name = request.name
        try:
            if name == protocol.PING:
                self._reply(protocol.PONG)
            elif name == protocol.HELLO:
                self._hello(request.args)
            elif not self._greeted:
                self._reply(protocol.error("NOHELLO", "the first command must be SLURMJC.HELLO 1 <program>/<version>"))
                self.close_when_answered()
            elif name == protocol.PUT:
                self._put(request)
            elif name == protocol.RING:
                self._ring(request.args)
            else:
                expected = "PING, SLURMJC.HELLO, SLURMJC.RING or SLURMJC.PUT"
                raise ProtocolError(f"unknown command '{_shown(name)}', expected {expected}")
        except ProtocolError as error:
            self._reply(protocol.error(error.code, str(error)))

    def _hello(self, args: list[bytes]) -> None:
        if len(args) != 3:
            raise ProtocolError("SLURMJC.HELLO takes 2 arguments: 1 <program>/<version>")
        if args[1] != b"%d" % protocol.PROTOCOL_VERSION:
            self._reply(protocol.error("NOPROTO", f"this daemon speaks protocol {protocol.PROTOCOL_VERSION}"))
            self.close_when_answered()
            return
        if not self._greeted:
            log.info("ingest: %s connected, uid %s pid %s", _shown(args[2]), *(self._peer or ("?", "?"))[:2])
        self._greeted = True
        about = [
            "server", f"slurmjcd/{__version__}", "protocol", protocol.PROTOCOL_VERSION,
            "record", protocol.RECORD_VERSION,
            "role", "ingest", "max_request_bytes", self._server.limits.request_bytes,
        ]  # fmt: skip
        self._reply(protocol.reply(about))

    def _put(self, request: Request) -> None:
        args = request.args
        if len(args) != 5 or not request.count:
            raise ProtocolError("SLURMJC.PUT takes SPOOL <source> <seq> RECORDS <record> [<record> ...]")
        source = _source(args[2])
        seq = _number(args[3], "seq")
        if seq < 1:
            raise ProtocolError("seq starts at 1")
        if request.bad_index >= 0:
            raise ProtocolError(f"{request.bad_index} not a MessagePack array of a record's length", code="BADRECORD")
        slot = self._later()
        self._server.committer.put(source, seq, request, lambda data: self._answer(slot, data))

    def _ring(self, args: list[bytes]) -> None:
        usage = "SLURMJC.RING takes <source> ATTEMPTED n DROPPED n SPILLED n [LAST_DROPPED jobid]"
        if len(args) not in (8, 10):
            raise ProtocolError(usage)
        source = _source(args[1])
        values = {}
        for name, value in zip(args[2::2], args[3::2], strict=True):
            values[name.upper()] = _number(value, name.decode("ascii", "replace"))
        if list(values) != list(_RING_COUNTERS[: len(values)]) or len(values) < 3:
            raise ProtocolError(usage)
        ring = Ring(values[b"ATTEMPTED"], values[b"DROPPED"], values[b"SPILLED"], values.get(b"LAST_DROPPED"))
        slot = self._later()
        self._server.committer.ring(source, ring, lambda data: self._answer(slot, data))


def _source(value: bytes) -> str:
    if not protocol.is_id(value):
        raise ProtocolError(f"a source is 1 to {protocol.ID_MAX_BYTES} of [A-Za-z0-9_.:-], not '{_shown(value)}'")
    return value.decode("ascii")


def _number(value: bytes, name: str) -> int:
    if not value.isdigit() or len(value) > _NUMBER_MAX_DIGITS or int(value) >= 2**63:
        raise ProtocolError(f"{name} must be a number from 0 to 2^63-1, not '{_shown(value)}'")
    return int(value)


def _shown(value: bytes) -> str:
    """Foreign bytes as they may stand in a log line or an error."""
    return value[:64].decode("ascii", "backslashreplace")
