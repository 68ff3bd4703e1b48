# SPDX-License-Identifier: MIT
"""The hashes that slurm-redis 0.1.3 left in a Redis: one `<prefix>:<jobid>` a job, read with SCAN and HGETALL.

Where they lie in the Redis that slurmjcd uses, under its prefix, SLURMJC.INDEX takes them in one by one as well; this
takes those of any Redis, and all. Times are epoch seconds (_tmf 0) or UTC (_tmf 1). What such a hash can't say: a job
whose record came twice has fields of both, and only the last of its runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import redis

from slurmjcd.importing import values
from slurmjcd.importing.item import Item, NoRecord, WrongFormat
from slurmjcd.importing.localtimes import LocalTimes
from slurmjcd.slurm.states import NUMBERS

_SCAN: Final = 1000
_TIMEOUT_S: Final = 30
_USAGE: Final = "redis://[USER@]HOST[:PORT][/DB][?prefix=job], rediss://… or unix:/PATH[?prefix=job&db=0]"
_RUNNING, _RESIZING = NUMBERS["RUNNING"], NUMBERS["RESIZING"]  # of a job that is resized upstream has the flag alone
_TEXTS: Final = {
    "Partition": "partition", "User": "user", "Group": "group", "JobName": "name", "WorkDir": "work_dir",
    "ResvName": "reservation", "Account": "account", "QOS": "qos", "WCKey": "wckey", "Cluster": "cluster",
}  # fmt: skip


class Upstream:
    """The hashes as a source of items. SCAN has no order that could be gone on with."""

    kind = "upstream"
    identity = ""
    heading = ""
    total = 0

    def __init__(self, url: str, password: str | None, times: LocalTimes, cluster: str) -> None:
        """Connect.

        Raises:
            WrongFormat: the URL is none, or Redis there does not answer.
        """
        self._times, self._cluster = times, cluster
        where, self._prefix = _where(url)
        try:
            self._redis: Any = redis.Redis(**where, password=password, socket_timeout=_TIMEOUT_S, protocol=2)
            self._redis.ping()
        except (redis.RedisError, OSError) as exc:
            raise WrongFormat(f"{url}: {exc}") from exc

    def items(self, after: int) -> Iterator[Item]:
        assert not after
        seen: set[bytes] = set()  # SCAN may name a key twice
        try:
            for keys in self._pages():
                fresh = [key for key in keys if key not in seen]
                seen.update(fresh)
                with self._redis.pipeline(transaction=False) as pipeline:
                    for key in fresh:
                        pipeline.hgetall(key)
                    replies = pipeline.execute(raise_on_error=False)
                for key, reply in zip(fresh, replies, strict=True):
                    if isinstance(reply, dict) and reply:
                        yield self._item(key, {_text(name): _text(value) for name, value in reply.items()})
        except (redis.RedisError, OSError) as exc:
            raise WrongFormat(f"the Redis to import from can't be read on: {exc}") from exc

    def _pages(self) -> Iterator[list[bytes]]:
        """Keys of job hashes, as many at a time as SCAN gives."""
        start = f"{self._prefix}:".encode()
        pattern, cursor = f"{_literal(self._prefix)}:[0-9]*", 0
        while True:
            cursor, keys = self._redis.scan(cursor, match=pattern, count=_SCAN, _type="HASH")
            yield [key for key in keys if key[len(start) :].isdigit()]
            if not cursor:
                return

    def _item(self, key: bytes, fields: dict[str, str]) -> Item:
        item = Item(_text(key), json.dumps(fields))
        try:
            item.fields = self._fields(fields)
        except NoRecord as exc:
            item.refused = str(exc)
        except KeyError as exc:
            item.refused = f"the hash has no field {exc}"
        return item

    def _fields(self, row: dict[str, str]) -> dict[str, Any]:
        if row.get("_tmf", "0") not in ("0", "1"):
            raise NoRecord(f"_tmf must be 0 or 1, not '{row['_tmf']}'")
        nodes = values.text_or_none(row.get("NodeList", ""))
        state = values.number(row["State"], "State")
        resizing = state == _RESIZING
        at = {name: self._times.read(row[name])[0] for name in ("Start", "End", "Submit", "Eligible") if name in row}
        fields: dict[str, Any] = {ours: values.text_or_none(row.get(name, "")) for name, ours in _TEXTS.items()}
        fields |= {
            "job_id": values.number(row["JobID"], "JobID"), "uid": values.number(row["UID"], "UID"),
            "gid": values.number(row["GID"], "GID"), "state": _RUNNING if resizing else state,
            "cluster": fields["cluster"] or self._cluster, "nodes": nodes,
            # of a job that never ran it has the end there
            "start": at.get("Start", 0) if nodes else 0, "end": at["End"], "submit": at["Submit"],
            "eligible": at.get("Eligible", 0), "exit_code": values.exit_status(row.get("EC", "0:0")),
            "derived_exit_code": values.exit_status(row.get("DerivedEC", "0:0")),
            "time_limit": {"I": "UNLIMITED", "P": "Partition_Limit"}.get(row.get("TimeLimit", ""))
            or values.time_limit(row.get("TimeLimit", "")),
            "node_count": values.number(row.get("NNodes", "0"), "NNodes") or None,
            "cpu_count": values.number(row.get("NCPUs", "0"), "NCPUs") or None, "restart_count": 0,
        }  # fmt: skip
        extra = {"req_gres": row.get("ReqGRES", ""), "state_flags": _RESIZING if resizing else 0}
        fields["extra"] = {name: value for name, value in extra.items() if value}
        return fields


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _literal(prefix: str) -> str:
    """As SCAN's pattern takes it word for word."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in prefix)


def _where(url: str) -> tuple[dict[str, Any], str]:
    """redis-py's words for an address, and the prefix."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
        options = {name: found[-1] for name, found in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        db = int(options.pop("db", parts.path.removeprefix("/") or 0 if parts.scheme != "unix" else 0))
    except ValueError as exc:
        raise WrongFormat(f"'{url}' is no address: {exc}; expected {_USAGE}") from exc
    prefix = options.pop("prefix", "job")
    if parts.password is not None:
        raise WrongFormat("an address must not hold a password, everyone may see it: use --password-file")
    if options or not prefix or (parts.scheme == "unix" and not Path(parts.path).is_absolute()):
        raise WrongFormat(f"'{url}' is no address of a Redis, expected {_USAGE}")
    where: dict[str, Any] = {"db": db, "username": unquote(parts.username) if parts.username else None}
    if parts.scheme == "unix":
        return where | {"unix_socket_path": parts.path}, prefix
    where |= {"host": parts.hostname or "127.0.0.1", "port": port or 6379}
    return where | ({"ssl": True, "ssl_check_hostname": True} if parts.scheme == "rediss" else {}), prefix
