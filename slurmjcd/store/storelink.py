# SPDX-License-Identifier: MIT
"""One connection to Redis or Valkey with our module: calls, and what its errors mean for us.

A connection is never shared between tasks, and one whose call was cancelled or timed out is closed: its next reply
would belong to the call before.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final, cast

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, Connection

from slurmjcd import protocol
from slurmjcd.errors import BadRecord, Moved, OutOfSequence, Refused, StoreError, Unavailable
from slurmjcd.store.replies import PAGE_BYTES_MAX, ReplyGuard, is_table
from slurmjcd.store.route import Place, Route
from slurmjcd.store.storeinfo import StoreInfo, parse_info
from slurmjcd.store.witness import Witness

_OUR_CODES: Final = re.compile(r"(OUTOFSEQ|BADRECORD) (\d+)(?: (.*))?", re.DOTALL)
_CODE: Final = re.compile(r"[A-Z]{3,}(?= )")
# codes that redis-py takes off the text; operators look for them
_TAKEN_OFF: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.AuthenticationError, "NOAUTH"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.MovedError, "MOVED"),
    (exceptions.AskError, "ASK"),
)
READ_BYTES: Final = 256 * 1024
_TWO_ERRORS: Final = re.compile(rb"-[^\r\n]*\r\n-[^\r\n]*\r\n")
_LOOKED_S: Final = 1.0  # between two looks at a server whose state can change
_ERRORS_BYTES: Final = 8192  # two error replies are shorter
_MOVED: Final = ("MOVED", "ASK", "TRYAGAIN")
_ANSWERS: Final = frozenset({"ERR", "NOQUERY", "LIMIT", "WRONGTYPE", "TOOBIG"})


class StoreLink:
    """One connection to the store for one task.

    Args:
        witness: of questions, knows whether the server that is found lacks jobs.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        prefix: bytes,
        address: str,
        route: Route | None = None,
        witness: Witness | None = None,
    ) -> None:
        self._connection = connection
        self.prefix = prefix
        self.address = address
        self._route = route
        self._witness = witness
        self.place: Place | None = None  # where the route led
        self._looked_s = 0.0
        self._unfit = ""  # why it would not do when it was looked at
        self._has_module = False

    async def open(self) -> StoreInfo:
        """Connect and see that the module there is one we can talk to.

        Raises:
            Unavailable: not (yet); the text says why.
        """
        await self.connect()
        try:
            return await self._look()
        except Unavailable:
            self.avoid()
            raise

    async def connect(self) -> None:
        """Connect, whatever is there.

        Raises:
            Unavailable: not (yet).
        """
        if self._route is not None:
            await self._find(self._route)
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
        except (exceptions.RedisError, OSError, TimeoutError) as exc:
            self.avoid()
            raise Unavailable(f"no connection to Redis at {self.address}: {_text(exc)}") from exc
        if self._route is not None:
            try:
                await self._route.greet(self)
            except Unavailable:
                self.avoid()
                raise

    async def _find(self, route: Route) -> None:
        self.place = await route.find()
        if self.place is None:
            return
        connection = cast(Connection, self._connection)
        connection.host, connection.port = self.place
        self.address = f"{connection.host}:{connection.port}"

    async def _look(self) -> StoreInfo:
        had = self._witness.had() if self._witness is not None else None
        info = await self.info()
        self._has_module = True
        spoken = info.fields.get("protocol")
        if spoken != protocol.PROTOCOL_VERSION:
            raise Unavailable(
                f"the module in Redis at {self.address} speaks protocol {spoken}, this slurmjcd speaks "
                f"{protocol.PROTOCOL_VERSION}: install slurmjcd and slurm_jobcomp.so of one version"
            )
        why = self._route.why_unfit(info) if self._route is not None else None
        if why is not None:
            raise Unavailable(f"Redis at {self.address} is {why}")
        less = self._witness.why_less(had, info) if self._witness is not None else None
        if less is not None:
            raise Unavailable(less)
        return info

    def avoid(self) -> None:
        """The server would not do: look again, or elsewhere, next time."""
        if self._route is not None and self.place is not None:
            self._route.avoid(self.place)

    async def is_outdated(self) -> bool:
        """Whether another server should be asked by now, as its route says or as this one says of itself."""
        route, place = self._route, self.place
        if route is None:
            return False
        if not route.looks_again:
            return place is not None and await route.is_outdated(place)
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOKED_S:
            return False
        self._looked_s = now_s
        try:
            if place is not None and await route.is_outdated(place):
                return True
            why = route.why_unfit(await self.info())
            self._unfit = f"Redis at {self.address} is {why}" if why is not None else ""
        except StoreError as exc:
            self._unfit = str(exc)
        if self._unfit:
            self.avoid()
        return bool(self._unfit)

    async def prepare(self) -> None:
        """As its route's, see there."""
        if self._route is not None:
            try:
                await self._route.prepare(self)
            except Moved:
                raise
            except Unavailable:
                self.avoid()
                raise

    async def confirm(self) -> None:
        """As its route's, see there."""
        if self._route is not None:
            await self._route.confirm(self)

    @property
    def why_outdated(self) -> str:
        """In words, after `is_outdated`."""
        return self._unfit or (
            f"{self._route.elsewhere if self._route is not None else 'there is another'} than Redis at {self.address}"
        )

    async def info(self, *, segments: bool = False) -> StoreInfo:
        """What the module says of itself and its server; with `segments`, of each segment."""
        more = (b"SEGMENTS",) if segments else ()
        return parse_info(await self.call(protocol.INFO, self.prefix, *more))

    async def replication(self) -> StoreInfo:
        """What tells whether a replica has all that its master has."""
        try:
            return parse_info(await self.call(protocol.INFO, self.prefix, b"REPLICATION"))
        except Refused as exc:
            raise Unavailable(f"the module in Redis at {self.address} is older than this slurmjcd: {exc}") from exc

    def peer_certificate(self) -> dict[str, Any]:
        """What the server showed in TLS, as ssl.SSLSocket.getpeercert() has it; empty without TLS."""
        writer = self._connection._writer
        return (writer.get_extra_info("peercert") if writer is not None else None) or {}

    async def call(self, *args: bytes, timeout_s: float | None = None) -> Any:
        """Send one command and return its reply."""
        await self.send([protocol.command(*args)])
        return await self.receive(timeout_s=timeout_s)

    async def send(self, parts: Sequence[bytes]) -> None:
        """Send the bytes of whole commands."""
        task = asyncio.current_task()
        wanted_off = task.cancelling() if task is not None else 0
        try:
            await self._connection.send_packed_command(parts, check_health=False)
        except (exceptions.RedisError, OSError, TimeoutError, RuntimeError) as exc:
            # RuntimeError is what uvloop says when the connection closed a moment ago
            raise Unavailable(f"connection to Redis at {self.address} lost: {_text(exc)}") from exc
        if task is not None and task.cancelling() > wanted_off:
            # redis-py sends inside wait_for, which in Python 3.11 loses a cancellation that comes as it ends
            raise asyncio.CancelledError

    async def receive(self, *, timeout_s: float | None = None) -> Any:
        """The next reply; an error reply is raised as one of ours."""
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=timeout_s)
        except (exceptions.ResponseError, exceptions.BusyLoadingError, exceptions.AuthenticationError) as exc:
            raise self._translated(exc) from exc
        except (exceptions.RedisError, OSError, TimeoutError) as exc:
            raise Unavailable(f"connection to Redis at {self.address} lost: {_text(exc)}") from exc

    def _translated(self, exc: Exception) -> StoreError:
        error = translate(exc, self.address, has_module=self._has_module)
        if isinstance(error, Moved):
            self.avoid()
        return error

    async def call_unread(self, *args: bytes, most: int | None = None) -> bytes | bytearray:
        """Send one command and return its reply as the bytes it came in; an error reply is raised as one of ours.

        A reply of more than `most` bytes is Refused with LIMIT, and the connection closed: what is left of it would be
        as long.

        Behind it goes a PING with a word that nobody can guess. Where the answer to that begins the reply ends, so
        nobody has to walk over it.
        """
        word = secrets.token_hex(16).encode()
        end = protocol.bulk(word)
        await self.send([protocol.command(*args), protocol.command(protocol.PING, word)])
        # redis-py has no call for a reply's bytes; of what it keeps to itself this is all we take
        reader, came = self._connection._reader, bytearray()
        try:
            async with asyncio.timeout(self._connection.socket_timeout):
                while not came.endswith(end) and not _TWO_ERRORS.fullmatch(came[:_ERRORS_BYTES]):
                    data = await reader.read(READ_BYTES) if reader is not None else b""
                    if not data:
                        raise ConnectionResetError("closed by the server")
                    came += data
                    if most is not None and len(came) > most + _ERRORS_BYTES:
                        await self.close()
                        raise Refused(f"the answer has more than {most} bytes, narrow the criteria", code="LIMIT")
                    if len(came) > PAGE_BYTES_MAX:
                        raise ConnectionAbortedError(f"a page may have {PAGE_BYTES_MAX} bytes, this one has more")
        except (OSError, TimeoutError) as exc:
            raise Unavailable(f"connection to Redis at {self.address} lost: {_text(exc)}") from exc
        if came.startswith(b"-"):
            text = came[1 : came.index(b"\r\n")].decode("utf-8", "replace")
            error = exceptions.ResponseError(text.removeprefix("ERR "))
            raise self._translated(error)
        del came[-len(end) :]
        return came

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as one can tell without asking; redis-py looks only when it reads."""
        reader = self._connection._reader
        return bool(self._connection.is_connected) and not (reader is not None and reader.at_eof())

    async def close(self) -> None:
        with contextlib.suppress(exceptions.RedisError, OSError, TimeoutError):
            await self._connection.disconnect(nowait=True)


def translate(exc: Exception, address: str, *, has_module: bool = False) -> StoreError:
    """Our error for an error reply: what is the record's fault, what is the request's, and all else: not now."""
    text = str(exc).split(", with args beginning with", 1)[0]  # what follows is what somebody asked
    if match := _OUR_CODES.match(text):
        number = int(match[2])
        return OutOfSequence(number) if match[1] == "OUTOFSEQ" else BadRecord(number, match[3] or "refused")
    if "unknown command" in text and has_module:
        return Unavailable(f"the module in Redis at {address} is older than this slurmjcd: {text}")
    if "unknown command" in text:
        return Unavailable(
            f"Redis at {address} lacks the module: add 'loadmodule /usr/lib/redis/modules/slurm_jobcomp.so' "
            "to its configuration and restart it"
        )
    code = match[0] if (match := _CODE.match(text)) else "ERR"
    if type(exc) is exceptions.ResponseError and code in _ANSWERS:
        return Refused(text.removeprefix(f"{code} "), code=code)
    taken_off = next((f"{name} " for kind, name in _TAKEN_OFF if isinstance(exc, kind)), "")
    kind = Moved if (taken_off or code).strip() in _MOVED else Unavailable
    return kind(f"Redis at {address} doesn't take commands now: {taken_off}{text}")


def parse_reply(data: bytes | bytearray) -> Any:
    """The value of a whole reply that came unread.

    Raises:
        Unavailable: it is none.
    """
    reader, whole = hiredis.Reader(), bytes(data)
    try:
        if not is_table(whole):
            ReplyGuard().check(whole)
        reader.feed(whole)
        return reader.gets()
    except (exceptions.RedisError, hiredis.HiredisError) as exc:
        raise Unavailable(f"a reply of Redis can't be read: {_text(exc)}") from exc


def _text(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
