# SPDX-License-Identifier: MIT
"""The spool: where it lies, whose it is, whether it has room, and what its books say of records."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slurmjcd.config.settings import Config
from slurmjcd.doctor import Finding, fine, problem
from slurmjcd.errors import SpoolError
from slurmjcd.sizes import size
from slurmjcd.spool import ledger

_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "9p"})


def look(config: Config, *, mounts: Path = Path("/proc/self/mountinfo")) -> Iterator[Finding]:
    """All of it, where this daemon has a spool."""
    if "ingest" not in config.daemon.roles:
        return
    path = config.spool_path
    try:
        status, directory = path.stat(), path.parent.stat()
        disk = os.statvfs(path.parent)
    except FileNotFoundError:
        yield problem("spool-missing", f"there is no spool {path}", "systemctl start slurmjcd")
        return
    except OSError as exc:
        yield problem("not-allowed", f"{path}: {exc.strerror}", "run slurmjc doctor as root")
        return
    found = [*_file(path, status, directory), *_disk(config, status, disk, mounts)]
    yield from found
    if not found:
        yield fine("spool", f"{path}: mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}")
    if not os.access(path, os.R_OK):
        yield problem("not-allowed", f"{path}: not readable for uid {os.geteuid()}", "run slurmjc doctor as root")
        return
    yield from _set_aside(path)
    yield from _books(path)


def _file(path: Path, status: os.stat_result, directory: os.stat_result) -> Iterator[Finding]:
    if status.st_uid != directory.st_uid:
        text = (
            f"{path} belongs to uid {status.st_uid}, its directory to uid {directory.st_uid}: the daemon can't write it"
        )
        fix = f"systemctl stop slurmjcd; chown --reference={path.parent} {path}*; systemctl start slurmjcd"
        yield problem("spool-owner", text, fix)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        text = f"{path} has mode {mode:04o}: others may read everybody's jobs in it"
        yield problem("spool-mode", text, f"chmod 600 {path}*")


def _disk(config: Config, status: os.stat_result, disk: os.statvfs_result, mounts: Path) -> Iterator[Finding]:
    path = config.spool_path
    kind, point = filesystem(path.parent, mounts)
    if kind in _VOLATILE:
        text = f"{path} lies on {kind} ({point}): a reboot loses what Redis does not have yet"
        yield problem("spool-volatile", text, '[spool] path = "/var/lib/slurmjcd/spool.db" in slurmjcd.toml')
    elif kind in _NETWORK or kind.startswith("fuse."):
        text = f"{path} lies on {kind} ({point}): SQLite's log does not work there when two hosts have it open"
        yield problem("spool-network", text, '[spool] path = "/var/lib/slurmjcd/spool.db" in slurmjcd.toml')
    free, more = disk.f_bavail * disk.f_frsize, config.spool.max_bytes - status.st_size
    if free < more:
        text = f"{path} may grow by {size(more)} (spool.max_bytes), and {point} has {size(free)} left"
        fits = max(4096, (free + status.st_size) // 10 * 9)
        yield problem("spool-space", text, f"[spool] max_bytes = {fits} in slurmjcd.toml, or a larger disk")


def filesystem(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> tuple[str, str]:
    """Type and mount point of the file system that a path lies on (proc(5)); ("", "/") when that can't be told."""
    best, real = ("", "/"), os.path.realpath(path)
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return best
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode("latin-1", "replace").decode("unicode_escape")  # \040 is a blank
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[1]) and after:  # of two on one point the later one is seen
            best = (after.split()[0], point)
    return best


def _set_aside(path: Path) -> Iterator[Finding]:
    for aside in sorted(path.parent.glob(f"{path.name}.damaged-*")):
        if not aside.name.endswith(("-wal", "-shm")):
            text = f"{aside} was set aside as damaged; its records that could be read are in {path.name}"
            yield problem("set-aside", text, f"slurmjc audit says what is missing; then mv {aside}* elsewhere")


def _books(path: Path) -> Iterator[Finding]:
    try:
        books = ledger.read(path)
    except SpoolError as exc:
        fix = (
            f"systemctl restart slurmjcd: it sets a damaged file aside and saves what can be read; {path} stays beside"
        )
        yield problem("spool-unreadable", str(exc), fix)
        return
    missing, found = books.missing(), []
    if books.dropped:
        text = f"slurmctld's ring had no room for {books.dropped} records since it was made: slurmjcd was away too long"
        fix = "JobCompParams=ring_mib=256,spill_mib=4096 in slurm.conf; the jobs' ids are in slurmctld's log"
        found.append(problem("ring-dropped", text, fix))
    if books.lost:
        text = f"{books.lost} records are lost, with a damaged spool or in Redis after the replay window"
        fix = "slurmjc audit; sacct -X over slurmdbd, where there is one, has these jobs"
        found.append(problem("records-lost", text, fix))
    if missing:
        text = f"{abs(missing)} records were taken and are {'not' if missing > 0 else 'more than once'} in the spool"
        found.append(
            problem("records-unaccounted", text, "slurmjc audit --json, and send its output with a bug report")
        )
    if books.quarantined:
        text = f"{books.quarantined} records were refused for what they hold and are in quarantine"
        found.append(problem("quarantined", text, "slurmjc quarantine list; then slurmjc quarantine retry, or drop"))
    yield from found
    if not found:
        yield fine("delivery", f"{books.taken} records taken from slurmctld, none dropped, lost or refused")
