# SPDX-License-Identifier: MIT
"""This host: the configuration's own checks, sockets, directories, kernel settings that a Redis here depends on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slurmjcd.checks import check_machine, slurm_uid
from slurmjcd.config import Config
from slurmjcd.doctor import Finding
from slurmjcd.errors import ConfigError
from slurmjcd.slurmconf import private_jobs

_LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")


def redis_is_here(config: Config) -> bool:
    """Whether Redis runs on this host, as far as its address tells."""
    address = config.redis_address
    return address.startswith("unix:") or any(f"//{host}" in address for host in _LOCAL)


def configuration(config: Config) -> Iterator[Finding]:
    """Users, directories and secrets, as the daemon looks at them before it starts."""
    try:
        check_machine(config)
    except ConfigError as exc:
        for line in str(exc).splitlines():
            text, _, fix = line.rpartition(": ")
            yield Finding("configuration", "error", text or line, fix if text else "")
    else:
        yield Finding("configuration", "ok", "users, directories and secrets are as the daemon needs them")


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
        yield Finding("sockets", "error", f"{name}: {path}: {exc.strerror}", "systemctl start slurmjcd")
        return
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISSOCK(status.st_mode):
        yield Finding(
            "sockets", "error", f"{name}: {path} is no socket", f"move {path} away and restart what serves it"
        )
    elif name == "ingest.sock" and mode & forbidden and config.ingest.mode & forbidden != mode & forbidden:
        yield Finding("sockets", "error", f"{name}: mode {mode:04o} lets others than SlurmUser in", f"chmod 600 {path}")
    elif name != "ingest.sock" and mode & forbidden:
        fix = f"set unixsocketperm 770 for Redis, or chmod o-rwx {path}"
        yield Finding("sockets", "error", f"{name}: mode {mode:04o} lets every user of this host in", fix)
    elif mode & wanted != wanted and config.query.mode == wanted:
        yield Finding("sockets", "warning", f"{name}: mode {mode:04o} keeps users out", f"chmod {wanted:o} {path}")
    elif name == "ingest.sock" and status.st_uid not in (0, slurm_uid(config)):
        fix = f"chown {config.daemon.slurm_user} {path}, or SocketUser= in slurmjcd-ingest.socket"
        yield Finding("sockets", "error", f"{name}: belongs to uid {status.st_uid}, not to SlurmUser", fix)
    else:
        yield Finding("sockets", "ok", f"{name}: mode {mode:04o}, uid {status.st_uid}")
    if directory.st_mode & stat.S_IWOTH:
        text = f"{name}: everyone may write to {path.parent}, so anyone could put a socket of theirs there"
        yield Finding("sockets", "error", text, f"chmod o-w {path.parent}")


def privacy(config: Config) -> Iterator[Finding]:
    """Who sees whose jobs."""
    setting = config.access.private_data
    if setting != "slurm":
        yield Finding("privacy", "ok", f"users see {'their own' if setting else 'all'} jobs: access.private_data")
        return
    conf = config.access.slurm_conf
    if not os.access(conf, os.R_OK):
        text = f"{conf} can't be read, so users see their own jobs only, whatever PrivateData says"
        yield Finding("privacy", "warning", text, "set access.slurm_conf to this cluster's slurm.conf")
        return
    yield Finding(
        "privacy", "ok", f"users see {'their own' if private_jobs(conf) else 'all'} jobs: PrivateData of {conf}"
    )


def kernel(config: Config, *, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Iterator[Finding]:
    """What makes Redis' snapshots slow or fail; only where it runs on this host."""
    if not redis_is_here(config):
        return
    pages = _read(sys / "kernel/mm/transparent_hugepage/enabled")
    if "[always]" in pages:
        text = "transparent huge pages are always on: each snapshot of Redis copies 2 MiB for every page it touches"
        fix = f"echo madvise > {sys}/kernel/mm/transparent_hugepage/enabled, at each boot"
        yield Finding("huge pages", "warning", text, fix)
    else:
        yield Finding("huge pages", "ok" if pages else "unknown", f"transparent huge pages: {pages or 'not known'}")
    overcommit = _read(proc / "sys/vm/overcommit_memory")
    if overcommit == "0":
        text = "vm.overcommit_memory is 0: Redis can't fork for a snapshot when it uses half of the memory"
        fix = "sysctl vm.overcommit_memory=1, and a line vm.overcommit_memory=1 in /etc/sysctl.d"
        yield Finding("overcommit", "warning", text, fix)
    else:
        level: str = "ok" if overcommit else "unknown"
        yield Finding("overcommit", "ok" if level == "ok" else "unknown", f"vm.overcommit_memory: {overcommit or '?'}")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
