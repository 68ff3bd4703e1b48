# SPDX-License-Identifier: MIT
"""Redis or Valkey with our module: connections, calls, and what its errors mean for us.

A connection is never shared between tasks, and one whose call was cancelled or timed out is closed: its next reply
would belong to the call before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from slurmjcd import protocol
from slurmjcd.checks import read_secret, secret_path
from slurmjcd.config import Config
from slurmjcd.errors import BadRecord, ConfigError, OutOfSequence, Refused, StoreError, Unavailable
from slurmjcd.replies import PAGE_BYTES_MAX, GuardedParser, ReplyGuard
from slurmjcd.sentinel import MasterFinder, Place

log = logging.getLogger(__name__)

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
_READ_BYTES: Final = 256 * 1024
_TWO_ERRORS: Final = re.compile(rb"-[^\r\n]*\r\n-[^\r\n]*\r\n")
_ERRORS_BYTES: Final = 8192  # two error replies are shorter
_ANSWERS: Final = frozenset({"ERR", "NOQUERY", "LIMIT", "WRONGTYPE", "TOOBIG"})


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What SLURMJC.INFO said."""

    fields: dict[str, Any]
    watermarks: dict[str, int]

    def flag(self, name: str) -> bool:
        return self.fields.get(name) in (1, b"1", b"yes")

    def text(self, name: str) -> str:
        value = self.fields.get(name, b"")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class StoreLink:
    """One connection to the store for one task."""

    def __init__(
        self, connection: AbstractConnection, prefix: bytes, address: str, finder: MasterFinder | None = None
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self.address = address
        self._finder = finder
        self._place: Place | None = None  # where the sentinels say that the master is
        self._has_module = False

    async def open(self) -> StoreInfo:
        """Connect and see that the module there is one we can talk to.

        Raises:
            Unavailable: not (yet); the text says why.
        """
        if self._finder is not None:
            await self._find_master(self._finder)
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
        except (exceptions.RedisError, OSError, TimeoutError) as exc:
            raise Unavailable(f"no connection to Redis at {self.address}: {_text(exc)}") from exc
        info = await self.info()
        self._has_module = True
        spoken = info.fields.get("protocol")
        if spoken != protocol.PROTOCOL_VERSION:
            raise Unavailable(
                f"the module in Redis at {self.address} speaks protocol {spoken}, this slurmjcd speaks "
                f"{protocol.PROTOCOL_VERSION}: install slurmjcd and slurm_jobcomp.so of one version"
            )
        if self._place is not None and info.text("role") not in ("", "master"):
            raise Unavailable(f"Redis at {self.address} is no master any more (or not yet), as its sentinels say it is")
        return info

    async def _find_master(self, finder: MasterFinder) -> None:
        self._place = await finder.master()
        connection = cast(Connection, self._connection)
        connection.host, connection.port = self._place
        self.address = f"{connection.host}:{connection.port}"

    async def has_moved(self) -> bool:
        """Whether the sentinels say that the master is another by now."""
        if self._finder is None or self._place is None:
            return False
        return not await self._finder.still_master(self._place)

    async def info(self, *, segments: bool = False) -> StoreInfo:
        """What the module says of itself and its server; with `segments`, of each segment."""
        more = (b"SEGMENTS",) if segments else ()
        return parse_info(await self.call(protocol.INFO, self._prefix, *more))

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
        try:
            await self._connection.send_packed_command(parts, check_health=False)
        except (exceptions.RedisError, OSError, TimeoutError, RuntimeError) as exc:
            # RuntimeError is what uvloop says when the connection closed a moment ago
            raise Unavailable(f"connection to Redis at {self.address} lost: {_text(exc)}") from exc

    async def receive(self, *, timeout_s: float | None = None) -> Any:
        """The next reply; an error reply is raised as one of ours."""
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=timeout_s)
        except (exceptions.ResponseError, exceptions.BusyLoadingError, exceptions.AuthenticationError) as exc:
            raise translate(exc, self.address, has_module=self._has_module) from exc
        except (exceptions.RedisError, OSError, TimeoutError) as exc:
            raise Unavailable(f"connection to Redis at {self.address} lost: {_text(exc)}") from exc

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
                    data = await reader.read(_READ_BYTES) if reader is not None else b""
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
            raise translate(error, self.address, has_module=self._has_module)
        del came[-len(end) :]
        return came

    @property
    def is_open(self) -> bool:
        return bool(self._connection.is_connected)

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
    return Unavailable(f"Redis at {address} doesn't take commands now: {taken_off}{text}")


def parse_info(reply: Any) -> StoreInfo:
    """SLURMJC.INFO's reply, as flat array or map."""
    if isinstance(reply, list):
        pairs = list(zip(reply[::2], reply[1::2], strict=False))
    elif isinstance(reply, dict):
        pairs = list(reply.items())
    else:
        raise Unavailable("the reply to SLURMJC.INFO is not a list of names and values")
    fields = {key.decode("ascii", "replace"): value for key, value in pairs if isinstance(key, bytes)}
    marks = fields.get("watermarks") or []
    if isinstance(marks, dict):
        marks = [part for pair in marks.items() for part in pair]
    try:
        watermarks = {key.decode("ascii"): int(mark) for key, mark in zip(marks[::2], marks[1::2], strict=True)}
    except (ValueError, AttributeError, TypeError) as exc:
        raise Unavailable(f"the watermarks in the reply to SLURMJC.INFO are not ids and numbers: {exc}") from exc
    return StoreInfo(fields, watermarks)


def parse_reply(data: bytes | bytearray) -> Any:
    """The value of a whole reply that came unread.

    Raises:
        Unavailable: it is none.
    """
    reader, whole = hiredis.Reader(), bytes(data)
    try:
        ReplyGuard().check(whole)
        reader.feed(whole)
        return reader.gets()
    except (exceptions.RedisError, hiredis.HiredisError) as exc:
        raise Unavailable(f"a reply of Redis can't be read: {_text(exc)}") from exc


def _text(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


class Store:
    """Makes connections for writing, and lends connections for reading."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.prefix = config.redis.prefix.encode()
        self.address = config.redis_address
        self.reply_s = config.redis.reply_s
        self._idle: list[StoreLink] = []
        self._room = asyncio.Semaphore(config.query.store_connections)
        self._finder: MasterFinder | None = None  # made with the first connection: only a running loop can ask

    def writer(self) -> StoreLink:
        """A new connection of the user that writes; `open` it."""
        redis = self._config.redis
        return self._link(redis.user, "redis.password_file", secret_path(redis.password_file, "redis-password"))

    def asker(self) -> StoreLink:
        """A new connection of the user that only reads; `open` it."""
        redis = self._config.redis
        if not redis.reader_user:
            return self.writer()
        path = secret_path(redis.reader_password_file, "redis-reader-password")
        return self._link(redis.reader_user, "redis.reader_password_file", path)

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[StoreLink]:
        """Lend an open connection of the user that reads.

        Raises:
            Unavailable: none can be had.
        """
        async with self._room:
            link = self._idle.pop() if self._idle else None
            if link is not None and await link.has_moved():
                await link.close()
            if link is None or not link.is_open:
                link = self.asker()
                try:
                    await link.open()
                except BaseException:
                    await link.close()
                    raise
            try:
                yield link
            except Refused:
                self._idle.append(link)
                raise
            except BaseException:
                await link.close()
                raise
            self._idle.append(link)

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()
        if self._finder is not None:
            await self._finder.close()

    def _link(self, user: str, key: str, secret: Any) -> StoreLink:
        redis = self._config.redis
        try:
            password = read_secret(key, secret) if secret is not None else None
        except ConfigError as exc:
            raise Unavailable(str(exc)) from exc
        options = self._options(user, password)
        if redis.has_sentinels and self._finder is None:
            key, secret = "redis.sentinel_password_file", redis.sentinel_password_file
            try:
                password = read_secret(key, secret) if secret is not None else None
            except ConfigError as exc:
                raise Unavailable(str(exc)) from exc
            self._finder = MasterFinder(self.address, self._options(redis.sentinel_user, password) | self._tls())
        options["parser_class"] = GuardedParser
        return StoreLink(self._connection(options), self.prefix, self.address, self._finder)

    def _options(self, user: str, password: str | None) -> dict[str, Any]:
        """Of any connection, as redis-py names them."""
        redis = self._config.redis
        return {
            "username": user or None,
            "password": password,
            "socket_connect_timeout": redis.connect_s,
            "socket_timeout": redis.reply_s,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
        }

    def _tls(self) -> dict[str, Any]:
        redis = self._config.redis
        if not redis.has_tls:
            return {}
        return {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": str(redis.tls_ca_file) if redis.tls_ca_file else None,
            "ssl_certfile": str(redis.tls_cert_file) if redis.tls_cert_file else None,
            "ssl_keyfile": str(redis.tls_key_file) if redis.tls_key_file else None,
        }

    def _connection(self, options: dict[str, Any]) -> AbstractConnection:
        options["socket_read_size"] = _READ_BYTES
        if self.address.startswith("unix:"):
            path = self.address.removeprefix("unix:")
            return cast(AbstractConnection, UnixDomainSocketConnection(path=path, **options))
        if not self._config.redis.has_sentinels:  # who say where it is
            url = urlsplit(self.address)
            options |= {"host": url.hostname or "127.0.0.1", "port": url.port or 6379}
        tls = self._tls()
        if not tls.pop("ssl", False):
            return Connection(**options)
        return SSLConnection(**options, **tls)
