# SPDX-License-Identifier: MIT
"""SLURMJC.INFO of several shards as of one store. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from slurmjcd.store.storeinfo import StoreInfo


def _first(values: list[Any]) -> Any:
    return values[0]


def _same(values: list[Any]) -> Any:
    """The value; where they differ all of them, as text."""
    if all(value == values[0] for value in values):
        return values[0]
    texts = {value if isinstance(value, bytes) else str(value).encode() for value in values}
    return b", ".join(sorted(texts))


def _joined(values: list[Any]) -> Any:
    """What goes on from each shard: ids of events, in the order of the shards."""
    return b",".join(values)


_OF_SHARDS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "jobs": sum, "bytes": sum, "segments": sum, "queries": sum, "events": sum, "events_added": sum,
    "oldest": min, "newest": max, "events_first": _joined, "events_last": _joined,
}  # fmt: skip
# of servers, each counted once however many shards it has
_OF_SERVERS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "used_memory": sum, "total_system_memory": sum, "aof_current_size": sum,
    "maxmemory": lambda values: sum(values) if all(values) else 0,
    "aof_enabled": min, "waitaof": min, "replicas": min, "master_last_io_seconds_ago": max, "time_ms": _first,
}  # fmt: skip


def sum_infos(infos: Sequence[StoreInfo]) -> StoreInfo:
    """One INFO for all shards, whose own are given in their order; of one shard its own.

    Counts and bytes are sums, a watermark is what every shard has reached, a setting that is not the same everywhere
    is each value that there is. `shards` is how many there are. A server of several shards counts once.
    """
    if len(infos) == 1:
        return infos[0]
    servers = list({info.text("run_id") or str(at): info for at, info in enumerate(infos)}.values())
    fields: dict[str, Any] = {}
    for name in dict.fromkeys(name for info in infos for name in info.fields):
        several = servers if name in _OF_SERVERS else infos
        values = [info.fields[name] for info in several if info.fields.get(name) is not None]
        rule = _OF_SHARDS.get(name) or _OF_SERVERS.get(name) or _same
        fields[name] = rule(values) if values else None
    fields["bytes_per_job"] = fields["bytes"] // fields["jobs"] if fields.get("jobs") else 0
    spools = sorted({spool for info in infos for spool in info.watermarks})
    watermarks = {spool: min(info.watermarks.get(spool, 0) for info in infos) for spool in spools}
    fields["watermarks"] = [part for spool, mark in watermarks.items() for part in (spool.encode(), mark)]
    if "segment_sizes" in fields:
        fields["segment_sizes"] = _sizes([info.fields.get("segment_sizes") or [] for info in infos])
    fields["shards"] = len(infos)
    return StoreInfo(fields, watermarks)


def _sizes(shards: list[list[Any]]) -> list[list[Any]]:
    """Day, jobs, bytes, when it expires and its stamps, of each day in any shard."""
    days: dict[int, list[Any]] = {}
    for day, jobs, size, expires, *stamp in (row for rows in shards for row in rows):
        so_far = days.get(day)
        if so_far is None:
            days[day] = [day, jobs, size, expires, *stamp]
            continue
        so_far[1] += jobs
        so_far[2] += size
        so_far[3] = max(so_far[3], expires) if None not in (so_far[3], expires) else None
        so_far[4:] = [b",".join([*so_far[4:], *stamp])] if stamp else []
    return [days[day] for day in sorted(days)]
