# SPDX-License-Identifier: MIT
"""Every finding that is not good news: its name, which check it belongs to, how bad it is. docs/doctor.md has each."""

from __future__ import annotations

from typing import Final, Literal

Level = Literal["ok", "unknown", "warning", "error"]

CODES: Final[dict[str, tuple[str, Level]]] = {
    # the configuration
    "config-file": ("configuration", "error"),
    "config-denied": ("configuration", "error"),
    "config-user": ("configuration", "error"),
    "config-directory": ("configuration", "error"),
    "config-secret": ("configuration", "error"),
    # sockets
    "socket-missing": ("sockets", "error"),
    "socket-foreign": ("sockets", "error"),
    "socket-directory": ("sockets", "error"),
    "ingest-mode": ("sockets", "error"),
    "ingest-owner": ("sockets", "error"),
    "query-mode": ("sockets", "warning"),
    "redis-socket-mode": ("sockets", "error"),
    # who sees what
    "private-data-weaker": ("privacy", "warning"),
    "private-data-unknown": ("privacy", "warning"),
    "operator-unknown": ("privacy", "warning"),
    # slurm.conf and the plugin
    "slurm-conf-unreadable": ("slurm", "unknown"),
    "slurm-user": ("slurm", "error"),
    "slurm-unknown": ("slurm", "unknown"),
    "jobcomp-type": ("slurm", "error"),
    "jobcomp-loc": ("slurm", "error"),
    "jobcomp-params": ("slurm", "error"),
    "plugin-missing": ("slurm", "error"),
    "plugin-version": ("slurm", "error"),
    "plugin-damaged": ("slurm", "error"),
    "plugin-writable": ("slurm", "error"),
    # records on their way
    "spill-left": ("delivery", "warning"),
    "set-aside": ("delivery", "warning"),
    "ring-dropped": ("delivery", "warning"),
    "records-lost": ("delivery", "warning"),
    "records-unaccounted": ("delivery", "error"),
    "quarantined": ("delivery", "warning"),
    # the spool
    "spool-missing": ("spool", "error"),
    "spool-unreadable": ("spool", "error"),
    "spool-owner": ("spool", "error"),
    "spool-mode": ("spool", "error"),
    "spool-volatile": ("spool", "error"),
    "spool-network": ("spool", "warning"),
    "spool-space": ("spool", "warning"),
    # Redis
    "redis-down": ("redis", "error"),
    "redis-login": ("login", "error"),
    "redis-replica": ("redis", "error"),
    "shards-wrong": ("shards", "error"),
    "module-missing": ("module", "error"),
    "module-version": ("module", "warning"),
    "eviction": ("eviction", "error"),
    "aof-off": ("persistence", "error"),
    "appendfsync-no": ("persistence", "warning"),
    "waitaof-missing": ("persistence", "error"),
    "save-failed": ("persistence", "error"),
    "propagation-ignored": ("propagation", "warning"),
    "propagation-loses": ("propagation", "error"),
    "propagation-unknown": ("propagation", "unknown"),
    "replica-behind": ("replicas", "error"),
    "replicas-missing": ("replicas", "error"),
    "plain-text": ("transport", "error"),
    # its users
    "acl-all": ("ACL", "warning"),
    "acl-no-reader": ("ACL", "warning"),
    "acl-reader-writes": ("ACL", "warning"),
    "acl-reader-denied": ("ACL", "error"),
    # room
    "memory-short": ("capacity", "warning"),
    "memory-full": ("capacity", "error"),
    "disk-short": ("capacity", "warning"),
    "disk-full": ("capacity", "error"),
    # clocks
    "clock-skew": ("clock", "warning"),
    "clock-future": ("clock", "warning"),
    # certificates
    "certificate-ends": ("certificates", "warning"),
    "certificate-over": ("certificates", "error"),
    "certificate-unreadable": ("certificates", "unknown"),
    # the kernel
    "huge-pages": ("huge pages", "warning"),
    "huge-pages-unknown": ("huge pages", "unknown"),
    "overcommit": ("overcommit", "warning"),
    "overcommit-unknown": ("overcommit", "unknown"),
    # the daemon
    "daemon-down": ("daemon", "error"),
    "daemon-version": ("daemon", "warning"),
    "daemon-takes-nothing": ("daemon", "error"),
    "daemon-without-redis": ("daemon", "error"),
    "daemon-lag": ("daemon", "warning"),
    "not-allowed": ("rights", "unknown"),
}
