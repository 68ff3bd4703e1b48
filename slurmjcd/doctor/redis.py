# SPDX-License-Identifier: MIT
"""Redis: can it be reached as configured, has it the module, does it keep what it has, and who may do what there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from slurmjcd import __version__, protocol
from slurmjcd.config import Config
from slurmjcd.doctor import Finding
from slurmjcd.doctor.machine import redis_is_here
from slurmjcd.errors import Refused, StoreError
from slurmjcd.store import Store, StoreInfo, StoreLink

_ACL: Final = "ACL"
_DENIED: Final = ("NOPERM", "NOAUTH", "invalid username-password pair")


async def look(config: Config) -> AsyncIterator[Finding]:
    """All of it; when Redis can't be reached one finding of the check `redis`, when it lets us not in, of `login`."""
    store = Store(config)
    writes = "ingest" in config.daemon.roles
    link = store.writer() if writes else store.asker()  # a login node knows no user that writes
    try:
        info = await link.open()
    except StoreError as exc:
        text = str(exc)
        if "lacks the module" in text:
            text, _, fix = text.partition(": ")
            yield Finding("module", "error", text, fix)
        elif any(word in text for word in _DENIED):
            yield Finding("login", "error", text, "redis.user and redis.password_file, or the ACL file of Redis")
        else:
            yield Finding("redis", "error", text, "start Redis (systemctl status redis-server), or set redis.address")
        return
    try:
        yield Finding("redis", "ok", f"{info.text('server')} {info.text('server_version')} at {store.address}")
        for finding in (*module(info), *settings(info, config), *transport(config)):
            yield finding
        async for finding in _users(config, store, link):
            yield finding
    finally:
        await link.close()


def module(info: StoreInfo) -> Iterator[Finding]:
    """Daemon and module of one version."""
    version = info.text("module_version")
    if version == __version__:
        yield Finding("module", "ok", f"slurm_jobcomp.so {version}")
    else:
        text = f"slurm_jobcomp.so is version {version}, slurmjcd {__version__}"
        yield Finding("module", "warning", text, "install both of one version and restart Redis")


def settings(info: StoreInfo, config: Config) -> Iterator[Finding]:
    """Eviction, persistence, and what a replica does that can't follow."""
    policy = info.text("maxmemory_policy")
    if policy == "noeviction":
        yield Finding("eviction", "ok", "maxmemory-policy noeviction")
    else:
        text = f"maxmemory-policy is {policy or 'unknown'}: under memory pressure Redis would delete whole days of jobs"
        yield Finding("eviction", "error", text, "maxmemory-policy noeviction in redis.conf")
    yield from _persistence(info, config)
    behavior = info.text("propagation-error-behavior")
    if not behavior:
        text = "propagation-error-behavior is not told by this module"
        yield Finding("propagation", "unknown", text, "redis-cli CONFIG GET propagation-error-behavior")
    elif behavior == "ignore":
        text = "propagation-error-behavior is ignore: a replica without the module drops every record and counts as one"
        level = "error" if info.fields.get("replicas") else "warning"
        fix = "propagation-error-behavior panic-on-replicas in redis.conf, on every replica"
        yield Finding("propagation", "error" if level == "error" else "warning", text, fix)
    else:
        yield Finding("propagation", "ok", f"propagation-error-behavior {behavior}")


def _persistence(info: StoreInfo, config: Config) -> Iterator[Finding]:
    if not info.flag("aof_enabled"):
        text = "the append-only file is off: a restart of Redis loses what the last snapshot lacks, or all"
        yield Finding("persistence", "error", text, "appendonly yes in redis.conf")
        return
    sync = info.text("appendfsync")
    if sync == "no":
        text = "appendfsync is no: a power failure loses what the kernel has not written yet"
        yield Finding("persistence", "warning", text, "appendfsync everysec, or always, in redis.conf")
    else:
        yield Finding("persistence", "ok", f"append-only file, appendfsync {sync}")
    if config.redis.durability == "aof" and not info.flag("waitaof"):
        text = "redis.durability is 'aof', and this server has no WAITAOF"
        yield Finding("persistence", "error", text, "a Redis of 7.2 or later or a Valkey, or appendfsync always")


def transport(config: Config) -> Iterator[Finding]:
    """Passwords and jobs on the network only in TLS."""
    address = config.redis_address
    if address.startswith("redis://") and not redis_is_here(config):
        text = f"{address} is not encrypted: passwords and jobs pass the network in clear"
        yield Finding("transport", "error", text, "tls-port for Redis, rediss:// in redis.address, redis.tls_ca_file")
    else:
        yield Finding("transport", "ok", "TLS" if address.startswith("rediss://") else "stays on this host")


async def _users(config: Config, store: Store, link: StoreLink) -> AsyncIterator[Finding]:
    """The users of redis.user and redis.reader_user may do what they must, and no more."""
    if config.embedded_used:
        yield Finding(_ACL, "ok", "the daemon's own Redis, on a socket in its state directory")
        return
    name = (config.redis.user if "ingest" in config.daemon.roles else config.redis.reader_user) or "default"
    if await _may(link, b"CONFIG", b"GET", b"maxmemory"):
        text = f"user '{name}' of Redis may do anything, CONFIG and FLUSHALL included"
        yield Finding(_ACL, "warning", text, "the users of systemd/redis/slurmjcd.acl, in redis.user and reader_user")
    elif "ingest" in config.daemon.roles:
        yield Finding(_ACL, "ok", f"user '{name}' writes records and does nothing else")
    if not config.redis.reader_user:
        text = f"questions are asked by user '{name}', who may write"
        yield Finding(_ACL, "warning", text, "redis.reader_user = 'slurmjcd-reader', see systemd/redis/slurmjcd.acl")
        return
    try:
        async with store.reader() as reader:
            # deletes what ended before 1970: nothing, and yet it is a command that writes
            writes = await _may(reader, protocol.TRIM, store.prefix, b"BEFORE", b"0")
    except StoreError as exc:
        yield Finding(_ACL, "error", f"user '{config.redis.reader_user}': {exc}", "redis.reader_password_file")
        return
    if writes:
        text = f"user '{config.redis.reader_user}', who only asks, may write"
        yield Finding(_ACL, "warning", text, "its line in systemd/redis/slurmjcd.acl")
    else:
        yield Finding(_ACL, "ok", f"user '{config.redis.reader_user}' only reads")


async def _may(link: StoreLink, *words: bytes) -> bool:
    try:
        await link.call(*words)
    except Refused:
        return True
    except StoreError as exc:
        if "NOPERM" in str(exc):
            return False
        raise
    return True
