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
import time
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
from slurmjcd.sentinel import Place, ServerFinder

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
_LOOKED_S: Final = 1.0  # between two looks at a replica
_TRIES: Final = 3  # replicas that are asked before a question fails
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
        self,
        connection: AbstractConnection,
        prefix: bytes,
        address: str,
        finder: ServerFinder | None = None,
        replica_lag_s: float | None = None,
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self.address = address
        self._finder = finder
        self._replica_lag_s = replica_lag_s  # a replica will do that heard from its master so long ago; None: none will
        self._place: Place | None = None  # where the sentinels say that it is
        self._looked_s = 0.0
        self._has_module = False

    async def open(self) -> StoreInfo:
        """Connect and see that the module there is one we can talk to.

        Raises:
            Unavailable: not (yet); the text says why.
        """
        if self._finder is not None:
            await self._find(self._finder)
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
        except (exceptions.RedisError, OSError, TimeoutError) as exc:
            self._avoid()
            raise Unavailable(f"no connection to Redis at {self.address}: {_text(exc)}") from exc
        info = await self.info()
        self._has_module = True
        spoken = info.fields.get("protocol")
        if spoken != protocol.PROTOCOL_VERSION:
            raise Unavailable(
                f"the module in Redis at {self.address} speaks protocol {spoken}, this slurmjcd speaks "
                f"{protocol.PROTOCOL_VERSION}: install slurmjcd and slurm_jobcomp.so of one version"
            )
        if self._place is not None and not self._is_fit(info):
            self._avoid()
            what = "no master any more (or not yet)" if self._replica_lag_s is None else "a replica that lags"
            raise Unavailable(f"Redis at {self.address} is {what}")
        return info

    async def _find(self, finder: ServerFinder) -> None:
        self._place = await (finder.master() if self._replica_lag_s is None else finder.replica())
        connection = cast(Connection, self._connection)
        connection.host, connection.port = self._place
        self.address = f"{connection.host}:{connection.port}"

    def _is_fit(self, info: StoreInfo) -> bool:
        """Whether it is what the sentinels say, and not behind for longer than it may be."""
        if info.text("role") != "slave":
            return True
        lag = info.fields.get("master_last_io_seconds_ago", -1)
        return self._replica_lag_s is not None and (
            info.text("master_link_status") == "up" and isinstance(lag, int) and 0 <= lag <= self._replica_lag_s
        )

    def _avoid(self) -> None:
        if self._finder is not None and self._place is not None and self._replica_lag_s is not None:
            self._finder.avoid(self._place)

    async def is_outdated(self) -> bool:
        """Whether another server should be asked by now, as the sentinels say or as this one says of itself."""
        finder, place = self._finder, self._place
        if finder is None or place is None:
            return False
        if self._replica_lag_s is None:
            return not await finder.still_master(place)
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOKED_S:
            return False
        self._looked_s = now_s
        try:
            if await finder.replica() != place:
                return True
            fit = self._is_fit(await self.info())
        except StoreError:
            fit = False
        if not fit:
            self._avoid()
        return not fit

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
        self._finder: ServerFinder | None = None  # made with the first connection: only a running loop can ask

    def writer(self) -> StoreLink:
        """A new connection of the user that writes; `open` it."""
        redis = self._config.redis
        return self._link(redis.user, "redis.password_file", secret_path(redis.password_file, "redis-password"))

    def asker(self, *, master: bool = False) -> StoreLink:
        """A new connection of the user that only reads; `open` it. `master`: no replica, which may be behind."""
        redis = self._config.redis
        lag_s = redis.replica_lag_s if redis.read_from == "replica" and not master else None
        if not redis.reader_user:
            path = secret_path(redis.password_file, "redis-password")
            return self._link(redis.user, "redis.password_file", path, lag_s)
        path = secret_path(redis.reader_password_file, "redis-reader-password")
        return self._link(redis.reader_user, "redis.reader_password_file", path, lag_s)

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[StoreLink]:
        """Lend an open connection of the user that reads.

        Raises:
            Unavailable: none can be had.
        """
        async with self._room:
            link = self._idle.pop() if self._idle else None
            if link is not None and (not link.is_open or await link.is_outdated()):
                await link.close()
                link = None
            if link is None:
                link = await self._open_asker()
            try:
                yield link
            except Refused:
                self._idle.append(link)
                raise
            except BaseException:
                await link.close()
                raise
            self._idle.append(link)

    async def _open_asker(self) -> StoreLink:
        """A connection for questions; where replicas are asked, the next one when one will not do.

        Raises:
            Unavailable: none can be had.
        """
        tries = _TRIES if self._config.redis.read_from == "replica" else 1
        for left in reversed(range(tries)):
            link = self.asker()
            try:
                await link.open()
            except Unavailable:
                await link.close()
                if not left:
                    raise
            except BaseException:
                await link.close()
                raise
            else:
                return link
        raise AssertionError("unreachable")

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()
        if self._finder is not None:
            await self._finder.close()

    def _link(self, user: str, key: str, secret: Any, replica_lag_s: float | None = None) -> StoreLink:
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
            self._finder = ServerFinder(self.address, self._options(redis.sentinel_user, password) | self._tls())
        options["parser_class"] = GuardedParser
        return StoreLink(self._connection(options), self.prefix, self.address, self._finder, replica_lag_s)

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
