# SPDX-License-Identifier: MIT
"""This host: the configuration's own checks, sockets, and kernel settings that a Redis here depends on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slurmjcd.config.checks import check_machine, slurm_uid
from slurmjcd.config.settings import Config, cluster_nodes, sentinels
from slurmjcd.doctor import Finding, fine, problem
from slurmjcd.errors import ConfigError

_LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")
_LOCAL_NAMES: Final = ("127.0.0.1", "localhost", "::1")


def redis_is_here(config: Config) -> bool:
    """Whether Redis runs on this host, as far as its address tells; of sentinels or nodes of a cluster all of them."""
    address = config.redis_address
    if config.redis.has_sentinels:
        return all(host in _LOCAL_NAMES for host, _ in sentinels(address)[0])
    if config.redis.has_cluster:
        return all(host in _LOCAL_NAMES for host, _ in cluster_nodes(address))
    return address.startswith("unix:") or any(f"//{host}" in address for host in _LOCAL)


def configuration(config: Config) -> Iterator[Finding]:
    """Users, directories and secrets, as the daemon looks at them before it starts."""
    try:
        check_machine(config)
    except ConfigError as exc:
        for line in str(exc).splitlines():
            text, _, fix = line.rpartition(": ")
            key = line.split(":", 1)[0]
            secret = key.startswith("redis.")
            code = "config-user" if key == "daemon.slurm_user" else "config-secret" if secret else "config-directory"
            if not fix.startswith(("chmod ", "chown ", "mkdir ", "set it ")):
                text, fix = line, _fix_of(key)
            yield problem(code, text, fix)
    else:
        yield fine("configuration", "users, directories and secrets are as the daemon needs them")


def _fix_of(key: str) -> str:
    """What to do where the check says only what is wrong."""
    if key.startswith("redis.tls"):
        return f"chown slurmjcd <file>; or {key.replace('redis.', '[redis] ')} = in slurmjcd.toml"
    if key.startswith("redis."):
        return "install -m 600 -o slurmjcd /dev/stdin <file>, and type the password"
    section, _, name = key.split(",", maxsplit=1)[0].partition(".")
    return f"install -d -m 755 -o slurmjcd <directory>; or [{section}] {name} = in slurmjcd.toml"


def sockets(config: Config) -> Iterator[Finding]:
    """Who may reach the daemon's sockets, and who could replace them."""
    if "ingest" in config.daemon.roles:
        yield from _socket("ingest.sock", config.ingest_socket, config, forbidden=0o077)
    if "query" in config.daemon.roles:
        yield from _socket("query.sock", config.query_socket, config, wanted=0o666)
    if config.redis_address.startswith("unix:"):
        yield from _socket("Redis' socket", Path(config.redis_address.removeprefix("unix:")), config, forbidden=0o007)


def _socket(name: str, path: Path, config: Config, *, forbidden: int = 0, wanted: int = 0) -> Iterator[Finding]:
    try:
        status, directory = path.lstat(), path.parent.stat()
    except OSError as exc:
        server = "redis-server" if name == "Redis' socket" and config.redis.address else "slurmjcd"
        yield problem("socket-missing", f"{name}: {path}: {exc.strerror}", f"systemctl start {server}")
        return
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISSOCK(status.st_mode):
        fix = f"mv {path} {path}.old && systemctl restart slurmjcd-ingest.socket slurmjcd-query.socket slurmjcd"
        yield problem("socket-foreign", f"{name}: {path} is no socket", fix)
    elif name == "ingest.sock" and mode & forbidden and config.ingest.mode & forbidden != mode & forbidden:
        yield problem("ingest-mode", f"{name}: mode {mode:04o} lets others than SlurmUser in", f"chmod 600 {path}")
    elif name != "ingest.sock" and mode & forbidden:
        fix = f"set unixsocketperm 770 for Redis, or chmod o-rwx {path}"
        yield problem("redis-socket-mode", f"{name}: mode {mode:04o} lets every user of this host in", fix)
    elif mode & wanted != wanted and config.query.mode == wanted:
        yield problem("query-mode", f"{name}: mode {mode:04o} keeps users out", f"chmod {wanted:o} {path}")
    elif name == "ingest.sock" and status.st_uid not in (0, _slurm_uid(config)):
        fix = f"chown {config.daemon.slurm_user} {path}, or SocketUser= in slurmjcd-ingest.socket"
        yield problem("ingest-owner", f"{name}: belongs to uid {status.st_uid}, not to SlurmUser", fix)
    else:
        yield fine("sockets", f"{name}: mode {mode:04o}, uid {status.st_uid}")
    if directory.st_mode & stat.S_IWOTH:
        text = f"{name}: everyone may write to {path.parent}, so anyone could put a socket of theirs there"
        yield problem("socket-directory", text, f"chmod o-w {path.parent}")


def _slurm_uid(config: Config) -> int | None:
    """None when there is no such user, which is a finding of `configuration`."""
    try:
        return slurm_uid(config)
    except ConfigError:
        return None


def kernel(config: Config, *, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Iterator[Finding]:
    """What makes Redis' snapshots slow or fail; only where it runs on this host."""
    if not redis_is_here(config):
        return
    where = sys / "kernel/mm/transparent_hugepage/enabled"
    pages = _read(where)
    if "[always]" in pages:
        text = "transparent huge pages are always on: each snapshot of Redis copies 2 MiB for every page it touches"
        fix = f"echo madvise > {where}; at each boot: transparent_hugepage=madvise on the kernel's command line"
        yield problem("huge-pages", text, fix)
    elif pages:
        yield fine("huge pages", f"transparent huge pages: {pages}")
    else:
        yield problem("huge-pages-unknown", f"{where} can't be read", f"cat {where}: it should say madvise or never")
    where = proc / "sys/vm/overcommit_memory"
    overcommit = _read(where)
    if overcommit == "0":
        text = "vm.overcommit_memory is 0: Redis can't fork for a snapshot when it uses half of the memory"
        fix = "sysctl -w vm.overcommit_memory=1; echo vm.overcommit_memory=1 > /etc/sysctl.d/90-slurmjcd.conf"
        yield problem("overcommit", text, fix)
    elif overcommit:
        yield fine("overcommit", f"vm.overcommit_memory: {overcommit}")
    else:
        yield problem("overcommit-unknown", f"{where} can't be read", "sysctl vm.overcommit_memory: it should say 1")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def may_read(path: Path) -> bool:
    return os.access(path, os.R_OK)
