# SPDX-License-Identifier: MIT
"""What to do about what goes wrong, in one sentence each; commands stand in backquotes. No I/O."""

from __future__ import annotations

from typing import Final

LOST: Final = "`slurmjc audit` accounts for every record; docs/reliability.md says what can be got back."
QUARANTINE: Final = "`slurmjc quarantine list` says why; then `slurmjc quarantine retry` or `drop`."

_REDIS: Final = (
    # what its error says, what to do
    ("lacks the module", "Add that line to its configuration, restart it; `slurmjc doctor` checks it."),
    ("speaks protocol", "Install slurmjcd and slurm_jobcomp.so of one version on both hosts."),
    ("older than this slurmjcd", "Install slurm_jobcomp.so of this version and restart Redis."),
    ("OOM", "Redis is at its maxmemory: raise it, or keep jobs for less long (redis.ttl_s)."),
    ("LOADING", "It reads its data after a start: wait. Records are kept meanwhile."),
    ("READONLY", "This is a replica: set redis.address to the primary."),
    ("MASTERDOWN", "This replica has lost its primary: see why, or set redis.address to the primary."),
    ("is a replica ", "Look at its master: `redis-cli info replication` there; or set redis.address to another one."),
    ("MISCONF", "Redis can't write its files: look at its log, and at its disk with `df`."),
    ("NOREPLICAS", "Too few replicas are connected: `redis-cli info replication`."),
    ("NOAUTH", "Compare redis.user and redis.password_file with Redis' ACL; `slurmjc doctor` says more."),
    ("WRONGPASS", "Compare redis.user and redis.password_file with Redis' ACL; `slurmjc doctor` says more."),
    ("invalid username-password", "Compare redis.user and redis.password_file with Redis' ACL."),
    ("NOPERM", "Its ACL user may do too little: systemd/redis/slurmjcd.acl has the right lines."),
    ("password_file", "Put the password there, mode 0600; `slurmjc doctor` checks it."),
    ("needs WAITAOF", "Follow the text, then `systemctl restart slurmjcd`."),
    ("appendonly yes", "Set it in Redis' configuration, or redis.durability = 'memory'."),
    ("not yet durable", "Look at Redis' replicas and at its disk: `redis-cli info persistence`."),
    ("lost records", "Nothing: they are sent again. Look why Redis lost them: a failover, or an AOF that is off."),
    ("certificate", "Compare redis.tls_ca_file with the server's certificate and host name."),
)
_AWAY: Final = "Is it running? `systemctl status redis-server` on its host; `slurmjc doctor` looks for the cause."


def about_redis(why: str, *, log_file: str = "") -> str:
    """What to do when the shipper, or who asks, says `why`; `log_file` is that of the daemon's own server."""
    for sign, what in _REDIS:
        if sign in why:
            return what
    return f"It is started again by itself; its log says why it ended: {log_file}" if log_file else _AWAY


def about_spool(kind: str, path: str) -> str:
    """What to do when the spool takes no records, or soon won't."""
    if kind == "disk":
        return f"Look at its disk: `df -h {path}` and `dmesg`. Records wait on slurmctld's side."
    return "Get Redis to take records, or raise spool.max_bytes and `systemctl reload slurmjcd`."


def about_cold(why: str) -> str:
    """What to do when days can't be moved into files, or these can't be read."""
    if "its mark" in why or "no mark" in why:
        return "Mount the directory of cold.dir. Questions for older days fail until then, and these stay in Redis."
    if "can't be written" in why:
        return "Look at the disk of cold.dir: `df -h`, `dmesg`, its owner. Until then these days stay in Redis."
    if "can't be read" in why:
        return (
            "Put the file back from a copy, or move it away: then its jobs are gone. Questions for it fail until then."
        )
    return about_redis(why)
