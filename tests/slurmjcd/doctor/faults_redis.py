# SPDX-License-Identifier: MIT
"""What can be wrong with Redis, its users, room and clock, and the daemon's way to it. Each is planted for real."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import __version__, protocol
from slurmjcd.doctor import daemon as judge
from tests.harness import MODULE, Daemon, Process, RedisServer, wait_until
from tests.harness.daemon import accepts
from tests.harness.ports import free_ports
from tests.slurmjcd.doctor.clinic import GOOD_REDIS, Clinic, fill
from tests.slurmjcd.doctor.faults_host import FAULTS, Found, plants
from tests.slurmjcd.jobs import job

__all__ = ["FAULTS"]

ALL_AT_DEFAULT = {"user": "", "password_file": "", "reader_user": "", "reader_password_file": ""}


@contextmanager
def server(site: Clinic, name: str, **kwargs: Any) -> Iterator[RedisServer]:
    """Another Redis, with the site's settings and users unless `options` says other."""
    options = GOOD_REDIS | {"aclfile": str(site.path / "acl")} | kwargs.pop("options", {})
    env = kwargs.pop("env", {})
    redis = RedisServer(site.path / name, options=options, ready_without_login=True, **kwargs)
    redis.process.env.update(env)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()


@contextmanager
def daemon(site: Clinic, name: str, **sections: dict[str, Any]) -> Iterator[Daemon]:
    """Another daemon, whose sockets lie beside the site's, so that slurm.conf is right for it, too."""
    run = site.daemon.run_dir
    settings = {key: dict(value) for key, value in site.settings.items()}
    for key, value in sections.items():
        settings.setdefault(key, {}).update(value)
    settings["daemon"] = {"run_dir": str(run), "drain_s": 0.1}
    settings["ingest"] = {"socket": str(run / f"{name}-i.sock")}
    settings["query"] = {"socket": str(run / f"{name}-q.sock")}
    settings["spool"] = {"path": str(site.spool_dir / f"{name}.db"), **sections.get("spool", {})}
    other = Daemon(site.path / name, redis_address=site.redis.address, settings=settings)
    other.process.start()
    wait_until(lambda: accepts(other.health_socket), what="the other daemon")  # the last that it opens
    conf, site.conf = site.conf, other.conf
    try:
        yield other
    finally:
        site.conf = conf
        other.stop()
        for left in site.spool_dir.glob(f"{name}.db*"):
            left.unlink()


# ---- reached, let in, of one version ---------------------------------------------------------------------------------


@plants("redis-down")
def _(site: Clinic) -> Found:
    with site.edited(redis={"address": f"redis://127.0.0.1:{free_ports(1)[0]}"}):
        yield ("systemctl start redis-server",)


@plants("redis-login")
def _(site: Clinic) -> Found:
    with site.edited(redis={"password_file": str(site.path / "wrong")}):
        yield ("redis-cli ACL GETUSER slurmjcd-writer",)


@plants("redis-replica")
def _(site: Clinic) -> Found:
    site.admin.replicaof("127.0.0.1", free_ports(1)[0])
    yield ("[redis] address =", "replica-behind")
    site.admin.replicaof("NO", "ONE")


@plants("shards-wrong")
def _(site: Clinic) -> Found:
    site.admin.set("job:shards", 6)
    yield ("set redis.shards = 6, or",)
    site.admin.delete("job:shards")


@plants("module-missing")
def _(site: Clinic) -> Found:
    redis = RedisServer(site.path / "bare", module=None)
    redis.start()
    try:
        with site.edited(redis={"address": redis.address, **ALL_AT_DEFAULT}):
            yield ("add 'loadmodule /usr/lib/redis/modules/slurm_jobcomp.so'",)
    finally:
        redis.stop()


@plants("module-version")
def _(site: Clinic) -> Found:
    other = site.path / "other.so"
    ours, theirs = (version.encode() + b"\0" for version in (__version__, "0.0.9"))
    assert len(ours) == len(theirs)
    other.write_bytes(MODULE.read_bytes().replace(ours, theirs))
    other.chmod(0o755)
    with server(site, "older", module=other) as redis, site.edited(redis={"address": redis.address}):
        yield ("install both of one version and restart Redis",)


# ---- settings --------------------------------------------------------------------------------------------------------


@plants("eviction")
def _(site: Clinic) -> Found:
    with site.redis_set(maxmemory_policy="allkeys-lru"):
        yield ("redis-cli CONFIG SET maxmemory-policy noeviction",)


@plants("aof-off")
def _(site: Clinic) -> Found:
    with site.redis_set(appendonly="no"):
        yield ("redis-cli CONFIG SET appendonly yes",)


@plants("appendfsync-no")
def _(site: Clinic) -> Found:
    with site.redis_set(appendfsync="no"):
        yield ("appendfsync everysec",)


@plants("waitaof-missing")
def _(site: Clinic) -> Found:
    if _info(site)[b"waitaof"]:
        pytest.skip("this server has WAITAOF")
    with site.edited(redis={"durability": "aof"}):
        yield ('durability = "memory"',)


@plants("save-failed")
def _(site: Clinic) -> Found:
    with server(site, "failing") as redis, redis.client(username="admin", password="a") as client:
        files = redis.directory / "appendonlydir"
        files.rename(redis.directory / "away")
        files.write_bytes(b"")  # where a directory should be
        with pytest.raises(Exception, match="AOF"):
            client.bgrewriteaof()
        with site.edited(redis={"address": redis.address}):
            yield (f"df {redis.directory}",)


@plants("propagation-ignored")
def _(site: Clinic) -> Found:
    with site.redis_set(propagation_error_behavior="ignore"):
        yield ("panic-on-replicas in redis.conf",)


@plants("propagation-loses")
def _(site: Clinic) -> Found:
    (port,) = free_ports(1)
    no_login = {"aclfile": "", "port": port, "bind": "127.0.0.1", "propagation-error-behavior": "ignore"}
    primary = RedisServer(site.path / "primary", options=GOOD_REDIS | {k: v for k, v in no_login.items() if v != ""})
    primary.start()
    replica = RedisServer(site.path / "replica", options={"replicaof": f"127.0.0.1 {port}"})
    replica.start()
    try:
        with primary.client() as client:
            wait_until(lambda: client.info("replication")["connected_slaves"] == 1, what="the replica to be connected")
        with site.edited(redis={"address": primary.address, **ALL_AT_DEFAULT}):
            yield ("panic-on-replicas in redis.conf", "acl-all", "acl-no-reader")
    finally:
        replica.stop()
        primary.stop()


@plants("replica-behind")
def _(site: Clinic) -> Found:
    """A host that only asks, of a replica that has lost its master."""
    site.admin.replicaof("127.0.0.1", free_ports(1)[0])
    with site.edited(daemon={"roles": ["query"]}):
        yield ("redis-cli INFO replication there",)
    site.admin.replicaof("NO", "ONE")


@plants("replicas-missing")
def _(site: Clinic) -> Found:
    with site.edited(redis={"durability": "replicas", "replicas": 2}):
        yield ("redis-cli REPLICAOF",)


# ---- users -----------------------------------------------------------------------------------------------------------


@plants("acl-all")
def _(site: Clinic) -> Found:
    with site.edited(redis={"user": "admin", "password_file": str(site.path / "a")}):
        yield ('[redis] user = "slurmjcd-writer"',)


@plants("acl-no-reader")
def _(site: Clinic) -> Found:
    with site.edited(redis={"reader_user": "", "reader_password_file": ""}):
        yield ('reader_user = "slurmjcd-reader"',)


@plants("acl-reader-writes")
def _(site: Clinic) -> Found:
    site.admin.execute_command("ACL", "SETUSER", "slurmjcd-reader", "+slurmjc.trim", "%RW~job")
    yield ("ACL SETUSER slurmjcd-reader -slurmjc.put",)
    site.admin.execute_command("ACL", "LOAD")


@plants("acl-reader-denied")
def _(site: Clinic) -> Found:
    with site.edited(redis={"reader_password_file": str(site.path / "wrong")}):
        yield ("reader_password_file =",)


# ---- room ------------------------------------------------------------------------------------------------------------


@plants("memory-short")
def _(site: Clinic) -> Found:
    with _room(site, days=20):
        yield ("redis-cli CONFIG SET maxmemory",)


@plants("memory-full")
def _(site: Clinic) -> Found:
    with _room(site, days=3):
        yield ("[redis] ttl_s = 31536000",)


def _info(site: Clinic) -> dict[bytes, Any]:
    flat = site.admin.execute_command("SLURMJC.INFO", "job")
    return dict(zip(flat[::2], flat[1::2], strict=True))


@contextmanager
def _room(site: Clinic, *, days: int) -> Iterator[None]:
    """maxmemory for so many days more; the rate is that of the days of `fill`."""
    fields = _info(site)
    with site.redis_set(maxmemory=fields[b"used_memory"] + days * fields[b"bytes"] // 8):
        yield


@plants("disk-short")
def _(site: Clinic) -> Found:
    with _small_disk(site, "short", "35m"):
        yield ("move ",)


@plants("disk-full")
def _(site: Clinic) -> Found:
    with _small_disk(site, "full", "10m"):
        yield ("(dir in redis.conf)",)


@contextmanager
def _small_disk(site: Clinic, name: str, size: str) -> Iterator[None]:
    """A Redis with two days of jobs on a disk of its own."""
    name = f"disk-{name}"
    where = site.path / name
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", where], check=False)
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        with server(site, name) as redis:
            fill(redis.client(username="admin", password="a"), days=2)
            with redis.client(username="admin", password="a") as client:
                client.bgrewriteaof()
                wait_until(lambda: not client.info()["aof_rewrite_in_progress"], what="the rewrite")
            with site.edited(redis={"address": redis.address}):
                yield
    finally:
        subprocess.run(["umount", where], check=True)


# ---- clocks and certificates -----------------------------------------------------------------------------------------


@plants("clock-skew")
def _(site: Clinic) -> Found:
    with (
        server(site, "ahead", env=_clock(site, ahead_s=3600)) as redis,
        site.edited(redis={"address": redis.address}),
    ):
        yield ("chronyc tracking",)


def _clock(site: Clinic, *, ahead_s: int) -> dict[str, str]:
    """The environment of a program whose clock is wrong."""
    shim = site.path / "clock.so"
    if not shim.exists():
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source], check=True)
    return {"LD_PRELOAD": str(shim), "CLOCK_AHEAD_S": str(ahead_s)}


@plants("clock-future")
def _(site: Clinic) -> Found:
    for user in ("slurmjcd-writer", "slurmjcd-reader"):
        site.admin.execute_command("ACL", "SETUSER", user, f"%{'RW' if 'writer' in user else 'R'}~later")
    site.admin.execute_command("SLURMJC.PUT", "later", "RECORDS", job(1, end=int(time.time()) + 7200))
    with site.edited(redis={"prefix": "later"}):
        yield ("chronyc tracking",)
    site.admin.execute_command("ACL", "LOAD")


@plants("certificate-ends")
def _(site: Clinic) -> Found:
    with site.edited(redis={"tls_ca_file": str(_certificate(site, "ends", ago_d=10))}):
        yield ("then systemctl restart slurmjcd",)


@plants("certificate-over")
def _(site: Clinic) -> Found:
    with site.edited(redis={"tls_ca_file": str(_certificate(site, "over", ago_d=40))}):
        yield ("then systemctl restart slurmjcd",)


def _certificate(site: Clinic, name: str, *, ago_d: int) -> Path:
    """One for 30 days, made so many days ago."""
    path = site.path / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ca",
         "-days", "30", "-keyout", site.path / "ca.key", "-out", path],
        check=True, capture_output=True, env={**os.environ, **_clock(site, ahead_s=-ago_d * 86400)},
    )  # fmt: skip
    return path


@plants("certificate-unreadable")
def _(site: Clinic) -> Found:
    with site.file(site.path / "noise.pem", mode=0o644) as path, site.edited(redis={"tls_ca_file": str(path)}):
        yield (f"openssl x509 -noout -enddate -in {path}",)


# ---- the daemon ------------------------------------------------------------------------------------------------------


@plants("daemon-version")
def _(site: Clinic) -> Found:
    """The daemon's own program, told to be of another version."""
    path = site.daemon.run_dir / "old.sock"
    with site.edited(query={"socket": str(path)}, daemon={"roles": ["query"]}, health={"listen": ""}):
        text = "import slurmjcd; slurmjcd.__version__ = '0.0.9'; from slurmjcd.cli import main; main()"
        old = Process([sys.executable, "-c", text, "run", "--config", site.conf], log=site.path / "old.log")
        old.start()
        try:
            wait_until(lambda: accepts(path), what="the older daemon")
            yield ("systemctl restart slurmjcd",)
        finally:
            old.stop()


@plants("daemon-without-redis")
def _(site: Clinic) -> Found:
    """The password was changed, and the daemon has the old one."""
    with daemon(site, "stale", redis={"password_file": str(site.path / "wrong")}) as other:
        wait_until(lambda: "invalid username" in other.get("/readyz")[1], what="the refusal")
        text = other.conf.read_text()
        other.conf.write_text(text.replace(str(site.path / "wrong"), str(site.path / "w")))
        yield ("systemctl restart slurmjcd",)


@plants("daemon-takes-nothing")
def _(site: Clinic) -> Found:
    """A spool that is full, as no replica ever confirms a record."""
    with daemon(site, "full", redis={"durability": "replicas"}, spool={"max_bytes": 4096}):
        assert _put(site, "full", 30).startswith(b"-")
        yield ("journalctl -u slurmjcd", "replicas-missing")


@plants("daemon-lag")
def _(site: Clinic) -> Found:
    with daemon(site, "slow", redis={"durability": "replicas"}), pytest.MonkeyPatch.context() as patch:
        assert _put(site, "slow", 3).startswith(b":3")
        patch.setattr(judge, "LAG_S", 0.0)
        yield ("redis-cli --latency", "replicas-missing")


def _put(site: Clinic, name: str, records: int) -> bytes:
    """The reply to a PUT on the other daemon's ingest.sock."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(20)
        wire.connect(str(site.daemon.run_dir / f"{name}-i.sock"))
        wire.sendall(protocol.command("SLURMJC.HELLO", 1, "test/1"))
        wire.recv(4096)
        jobs = [job(number) for number in range(1, records + 1)]
        wire.sendall(protocol.command("SLURMJC.PUT", "SPOOL", "ring", 1, "RECORDS", *jobs))
        return wire.recv(4096)
