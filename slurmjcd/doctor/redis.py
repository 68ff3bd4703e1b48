# SPDX-License-Identifier: MIT
"""Redis: can it be reached as configured, has it the module, does it keep what it has, and who may do what there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from slurmjcd import __version__, protocol
from slurmjcd.config.settings import Config
from slurmjcd.doctor import Finding, capacity, certificates, fine, problem
from slurmjcd.doctor.machine import redis_is_here
from slurmjcd.errors import Refused, StoreError
from slurmjcd.store.infosum import sum_infos
from slurmjcd.store.layout import StoreLayout
from slurmjcd.store.store import Shard, Store
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink

_ACL: Final = "ACL"
_DENIED: Final = ("NOPERM", "NOAUTH", "invalid username-password pair")
_BEHIND: Final = ("is a replica ", "MASTERDOWN")
_SKEW_S: Final = 2.0
_SAVES: Final = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")


@dataclass(slots=True)
class _Server:
    """One server, with those of our shards that it has."""

    shards: list[Shard] = field(default_factory=list)
    links: list[StoreLink] = field(default_factory=list)
    infos: list[StoreInfo] = field(default_factory=list)


async def look(config: Config) -> AsyncIterator[Finding]:
    """All of it; when Redis can't be reached one finding of the check `redis`, when it lets us not in, of `login`."""
    store = Store(config)
    writes = "ingest" in config.daemon.roles
    servers: dict[str, _Server] = {}  # by run id
    links: list[StoreLink] = []
    away: dict[str, list[int]] = {}  # why: which shards
    try:
        for shard in store.shards:
            # a login node knows no user that writes
            links.append(link := shard.writer() if writes else shard.asker())
            try:
                info = await link.open()
            except StoreError as exc:
                away.setdefault(str(exc), []).append(shard.index)
                continue
            server = servers.setdefault(info.text("run_id"), _Server())
            server.shards.append(shard)
            server.links.append(link)
            server.infos.append(info)
        for why, shards in away.items():
            yield _of(unreachable(why, config), _shards(shards, store), store)
        if not away:
            async for finding in _layout(store, writes=writes):
                yield finding
        for server in servers.values():
            where = f"{_shards([shard.index for shard in server.shards], store)} at {server.links[0].address}"
            async for finding in _server(config, server):
                yield _of(finding, where, store)
    finally:
        for link in links:
            await link.close()
        await store.close()


async def _server(config: Config, server: _Server) -> AsyncIterator[Finding]:
    info, link = sum_infos(server.infos), server.links[0]
    yield fine("redis", f"{info.text('server')} {info.text('server_version')} at {link.address}")
    for finding in (*module(info), *settings(info, config), *transport(config), *clock(info)):
        yield finding
    for finding in certificates.shown(link.peer_certificate()):
        yield finding
    async for finding in capacity.look(config, server.links, info):
        yield finding
    async for finding in _users(config, server.shards[0], link):
        yield finding


async def _layout(store: Store, *, writes: bool) -> AsyncIterator[Finding]:
    """Whether jobs lie in as many shards as are configured. A user that only reads is looked at by themselves."""
    shards, layout = len(store.shards), StoreLayout(store, writes=writes)
    try:
        await layout.check()
    except StoreError as exc:
        text = str(exc)
        fix = text.partition("redis.shards is ")[2].partition(": ")[2] or "systemctl restart slurmjcd, where it ingests"
        yield problem("shards-wrong", text, fix)
    else:
        yield fine("shards", f"jobs lie in {shards} shards" if shards > 1 else "jobs lie in one part")
    finally:
        await layout.close()


def _of(finding: Finding, where: str, store: Store) -> Finding:
    """The finding as one of a store of several parts."""
    return finding if len(store.shards) == 1 else replace(finding, text=f"{where}: {finding.text}")


def _shards(shards: list[int], store: Store) -> str:
    count = len(store.shards)
    return f"shard{'s' if len(shards) > 1 else ''} {', '.join(map(str, shards))} of {count}"


def unreachable(text: str, config: Config) -> Finding:
    """Why Redis can't be asked anything."""
    if "lacks the module" in text:
        text, _, fix = text.partition(": ")
        return problem("module-missing", text, fix)
    if "install slurmjcd and slurm_jobcomp.so of one version" in text:
        return problem("module-version", text, "install both of one version and restart Redis")
    if any(word in text for word in _DENIED):
        user = config.redis.user or config.redis.reader_user or "default"
        fix = f"redis-cli ACL GETUSER {user}; [redis] user = and password_file = in slurmjcd.toml have to fit it"
        return problem("redis-login", text, fix)
    if "certificate has expired" in text:
        return problem("certificate-over", text, "a new certificate for Redis: tls-cert-file in redis.conf; restart it")
    if any(sign in text for sign in _BEHIND):
        fix = "redis-cli INFO replication there says why: master_host, master_link_status; or another [redis] address ="
        return problem("replica-behind", text, fix)
    server = "slurmjcd: it runs this Redis" if config.embedded_used else "redis-server, or [redis] address = is wrong"
    return problem("redis-down", text, f"systemctl start {server}")


def module(info: StoreInfo) -> Iterator[Finding]:
    """Daemon and module of one version."""
    version = info.text("module_version")
    if version == __version__:
        yield fine("module", f"slurm_jobcomp.so {version}")
    else:
        text = f"slurm_jobcomp.so is version {version}, slurmjcd {__version__}"
        yield problem("module-version", text, "install both of one version and restart Redis")


def settings(info: StoreInfo, config: Config) -> Iterator[Finding]:
    """Role, eviction, persistence, and what a replica does that can't follow."""
    if "ingest" in config.daemon.roles and info.text("role") == "slave":
        text = f"{config.redis_address} is a replica, which takes no records"
        yield problem("redis-replica", text, '[redis] address = "<the master\'s>" in slurmjcd.toml')
    elif info.text("role") == "slave":
        silent_s = info.fields.get("master_last_io_seconds_ago")
        yield fine("replica", f"a replica, which heard from its master {silent_s} s ago")
    policy = info.text("maxmemory_policy")
    if policy == "noeviction":
        yield fine("eviction", "maxmemory-policy noeviction")
    else:
        text = f"maxmemory-policy is {policy or 'unknown'}: under memory pressure Redis would delete whole days of jobs"
        fix = "maxmemory-policy noeviction in redis.conf; now: redis-cli CONFIG SET maxmemory-policy noeviction"
        yield problem("eviction", text, fix)
    yield from _persistence(info, config)
    yield from _replicas(info, config)


def _replicas(info: StoreInfo, config: Config) -> Iterator[Finding]:
    has = int(info.fields.get("replicas") or 0)
    if config.redis.durability == "replicas" and has < config.redis.replicas:
        text = f"redis.durability is 'replicas', and {has} of {config.redis.replicas} are connected: "
        text += "nothing counts as shipped"
        fix = "on each replica: redis-cli REPLICAOF <master> <port>; or [redis] replicas = and durability = as it is"
        yield problem("replicas-missing", text, fix)
    behavior = info.text("propagation-error-behavior")
    fix = "propagation-error-behavior panic-on-replicas in redis.conf, on every replica"
    if not behavior:
        text = "propagation-error-behavior is not told by this module"
        yield problem("propagation-unknown", text, "redis-cli CONFIG GET propagation-error-behavior")
    elif behavior == "ignore":
        text = "propagation-error-behavior is ignore: a replica without the module drops every record and counts as one"
        yield problem("propagation-loses" if has else "propagation-ignored", text, fix)
    else:
        yield fine("propagation", f"propagation-error-behavior {behavior}")


def _persistence(info: StoreInfo, config: Config) -> Iterator[Finding]:
    failed = [name for name in _SAVES if info.text(name) == "err"]
    if failed:
        text = f"Redis failed to write its files in {info.text('dir') or 'its directory'}: {', '.join(failed)}"
        fix = f"df {info.text('dir') or '/var/lib/redis'}; its log has why; then redis-cli BGREWRITEAOF"
        yield problem("save-failed", text, fix)
    if not info.flag("aof_enabled"):
        text = "the append-only file is off: a restart of Redis loses what the last snapshot lacks, or all"
        fix = "appendonly yes in redis.conf; now: redis-cli CONFIG SET appendonly yes, not a restart, which loses all"
        yield problem("aof-off", text, fix)
        return
    sync = info.text("appendfsync")
    if sync == "no":
        text = "appendfsync is no: a power failure loses what the kernel has not written yet"
        yield problem("appendfsync-no", text, "appendfsync everysec, or always, in redis.conf")
    elif not failed:
        yield fine("persistence", f"append-only file, appendfsync {sync}")
    if config.redis.durability == "aof" and not info.flag("waitaof"):
        text = "redis.durability is 'aof', and this server has no WAITAOF"
        fix = 'a Redis of 7.2 or later or a Valkey; or durability = "memory" and appendfsync always in redis.conf'
        yield problem("waitaof-missing", text, fix)


def clock(info: StoreInfo, now_s: float | None = None) -> Iterator[Finding]:
    """Whether Redis, which lets days of jobs expire, and this host agree on the time."""
    theirs_ms = info.fields.get("time_ms")
    if not isinstance(theirs_ms, int):
        return
    now = time.time() if now_s is None else now_s
    apart = theirs_ms / 1000 - now
    newest = info.fields.get("newest")
    if abs(apart) > _SKEW_S:
        text = f"Redis' clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this host's: "
        text += "jobs expire too early or too late"
        yield problem("clock-skew", text, "chronyc tracking, or timedatectl, on both hosts; set NTP up where it is off")
    elif isinstance(newest, int) and newest > now + 60:
        text = f"the newest job ended {newest - now:.0f} s in the future: slurmctld's clock is or was ahead"
        yield problem(
            "clock-future", text, "chronyc tracking, or timedatectl, on slurmctld's host; slurmjc jobs -S now"
        )
    else:
        yield fine("clock", f"Redis' clock is {abs(apart):.1f} s from this host's")


def transport(config: Config) -> Iterator[Finding]:
    """Passwords and jobs on the network only in TLS."""
    address = config.redis_address
    if address.startswith(("redis://", "redis+sentinel://", "redis+cluster://")) and not redis_is_here(config):
        text = f"{address} is not encrypted: passwords and jobs pass the network in clear"
        fix = f'tls-port 6379 in redis.conf; [redis] address = "rediss{address[5:]}" and tls_ca_file = in slurmjcd.toml'
        yield problem("plain-text", text, fix)
    else:
        yield fine("transport", "TLS" if config.redis.has_tls else "stays on this host")


async def _users(config: Config, shard: Shard, link: StoreLink) -> AsyncIterator[Finding]:
    """The users of redis.user and redis.reader_user may do what they must, and no more."""
    if config.embedded_used:
        yield fine(_ACL, "the daemon's own Redis, on a socket in its state directory")
        return
    name = (config.redis.user if "ingest" in config.daemon.roles else config.redis.reader_user) or "default"
    acl = "aclfile /etc/redis/slurmjcd.acl in redis.conf"
    if await _may(link, b"CONFIG", b"GET", b"maxmemory"):
        text = f"user '{name}' of Redis may do anything, CONFIG and FLUSHALL included"
        fix = f'{acl}; [redis] user = "slurmjcd-writer" and reader_user = "slurmjcd-reader" in slurmjcd.toml'
        yield problem("acl-all", text, fix)
    elif "ingest" in config.daemon.roles:
        yield fine(_ACL, f"user '{name}' writes records and does nothing else")
    if not config.redis.reader_user:
        text = f"questions are asked by user '{name}', who may write"
        yield problem("acl-no-reader", text, f'[redis] reader_user = "slurmjcd-reader" in slurmjcd.toml; {acl}')
        return
    reader = shard.asker()
    try:
        await reader.open()
        # deletes what ended before 1970: nothing, and yet it is a command that writes
        writes = await _may(reader, protocol.TRIM, shard.prefix, b"BEFORE", b"0")
    except StoreError as exc:
        text = f"user '{config.redis.reader_user}': {exc}"
        if any(sign in text for sign in _BEHIND):
            yield unreachable(text, config)
            return
        fix = "[redis] reader_password_file = in slurmjcd.toml has to hold the password of this user in slurmjcd.acl"
        if "NOPERM" in text:
            fix = f"the rights of slurmjcd-reader in slurmjcd.acl, for this user in its {acl}"
        yield problem("acl-reader-denied", text, fix)
        return
    finally:
        await reader.close()
    if writes:
        text = f"user '{config.redis.reader_user}', who only asks, may write"
        user = config.redis.reader_user
        writing = "-slurmjc.put -slurmjc.take -slurmjc.trim -slurmjc.index"
        fix = f"redis-cli ACL SETUSER {user} {writing}, and so in its {acl}"
        yield problem("acl-reader-writes", text, fix)
    else:
        yield fine(_ACL, f"user '{config.redis.reader_user}' only reads")


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
