# SPDX-License-Identifier: MIT
"""Connections to Redis, sentinels and nodes of a cluster as the configuration wants them; none of them open yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from slurmjcd.config.checks import read_secret, secret_path
from slurmjcd.config.settings import Config, RedisSection
from slurmjcd.errors import ConfigError, Unavailable
from slurmjcd.store.replies import GuardedParser
from slurmjcd.store.storelink import READ_BYTES


@dataclass(frozen=True, slots=True)
class Login:
    """A user of Redis and where their password lies; `key` is the setting that says so."""

    user: str
    key: str
    secret: Path | None

    def password(self) -> str | None:
        """Raises Unavailable when it can't be read: it may be put right while the daemon runs."""
        try:
            return read_secret(self.key, self.secret) if self.secret is not None else None
        except ConfigError as exc:
            raise Unavailable(str(exc)) from exc


def writer_login(redis: RedisSection) -> Login:
    return Login(redis.user, "redis.password_file", secret_path(redis.password_file, "redis-password"))


def reader_login(redis: RedisSection) -> Login:
    """The user that only reads; the one that writes where none is configured."""
    if not redis.reader_user:
        return writer_login(redis)
    path = secret_path(redis.reader_password_file, "redis-reader-password")
    return Login(redis.reader_user, "redis.reader_password_file", path)


def sentinel_login(redis: RedisSection) -> Login:
    return Login(redis.sentinel_user, "redis.sentinel_password_file", redis.sentinel_password_file)


def options(redis: RedisSection, login: Login) -> dict[str, Any]:
    """Of any connection, as redis-py names them.

    Raises:
        Unavailable: the password can't be read.
    """
    return {
        "username": login.user or None,
        "password": login.password(),
        "socket_connect_timeout": redis.connect_s,
        "socket_timeout": redis.reply_s,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
    }


def tls(redis: RedisSection) -> dict[str, Any]:
    """Of a connection with TLS, `ssl` among them; nothing without."""
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


def connection(config: Config, login: Login) -> AbstractConnection:
    """A connection that checks what comes; to nowhere yet where sentinels or a cluster say where.

    Raises:
        Unavailable: the password can't be read.
    """
    redis, address = config.redis, config.redis_address
    wanted = options(redis, login) | {"parser_class": GuardedParser, "socket_read_size": READ_BYTES}
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        return cast(AbstractConnection, UnixDomainSocketConnection(path=path, **wanted))
    if not redis.has_sentinels and not redis.has_cluster:
        url = urlsplit(address)
        wanted |= {"host": url.hostname or "127.0.0.1", "port": url.port or 6379}
    secured = tls(redis)
    if not secured.pop("ssl", False):
        return Connection(**wanted)
    return SSLConnection(**wanted, **secured)
