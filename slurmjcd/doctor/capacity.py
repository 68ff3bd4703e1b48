# SPDX-License-Identifier: MIT
"""For how many days there is room, in Redis' memory and on its disk, at the rate of the last week."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from slurmjcd.config.settings import Config
from slurmjcd.doctor import Finding, fine, problem
from slurmjcd.doctor.machine import redis_is_here
from slurmjcd.errors import StoreError
from slurmjcd.sizes import size
from slurmjcd.store.growth import Growth, days_left, disk_room, growth, parse_segments
from slurmjcd.store.infosum import sum_infos
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink

_ERROR_DAYS: Final = 7.0
_WARN_DAYS: Final = 30.0
_WARN_SHARE: Final = 0.9  # of maxmemory


async def look(config: Config, links: Sequence[StoreLink], info: StoreInfo) -> AsyncIterator[Finding]:
    """Memory, and the disk when Redis runs on this host and says where its files are.

    Args:
        links: to each part of the store that one server has, whose INFO together is `info`.
    """
    try:
        infos = [await link.info(segments=True) for link in links]
        segments = parse_segments(sum_infos(infos).fields.get("segment_sizes"))
    except (StoreError, ValueError):
        return  # a module of another version, which is a finding of its own
    rate = growth(segments, time.time())
    for finding in (*memory(config, info, rate), *disk(config, info, rate)):
        yield finding


def memory(config: Config, info: StoreInfo, rate: Growth | None) -> Iterator[Finding]:
    """Against maxmemory; without one, against the memory of Redis' host."""
    used, limit = _number(info, "used_memory"), _number(info, "maxmemory")
    name = "maxmemory" if limit else "the memory of its host"
    limit = limit or _number(info, "total_system_memory")
    if not limit or not used:
        return
    days = days_left(rate, _number(info, "bytes"), limit - used, config.redis.ttl_s)
    text = f"Redis uses {size(used)} of {size(limit)}, {name}{_rate(rate, days)}"
    more = f"redis-cli CONFIG SET maxmemory {limit * 2}, and in redis.conf" if name == "maxmemory" else "more memory"
    if days is not None and days < _ERROR_DAYS:
        yield problem("memory-full", text, f"{more}; or {_shorter(config)}")
    elif (days is not None and days < _WARN_DAYS) or used > limit * _WARN_SHARE:
        yield problem("memory-short", text, f"{more}; or {_shorter(config)}")
    else:
        yield fine("capacity", text)


def disk(config: Config, info: StoreInfo, rate: Growth | None) -> Iterator[Finding]:
    """The file system of Redis' directory, for its append-only file."""
    where = info.text("dir")
    if not where or not redis_is_here(config):
        return
    try:
        status = os.statvfs(where)
    except OSError as exc:
        yield problem("not-allowed", f"Redis' directory {where}: {exc.strerror}", "run slurmjc doctor as root")
        return
    free, kept = status.f_bavail * status.f_frsize, _number(info, "bytes")
    days = days_left(rate, kept, disk_room(kept, _number(info, "aof_current_size"), free), config.redis.ttl_s)
    text = f"{where} has {size(free)} left{_rate(rate, days)}"
    if days is not None and days < _WARN_DAYS:
        code = "disk-full" if days < _ERROR_DAYS else "disk-short"
        yield problem(code, text, f"move {where} to a larger disk (dir in redis.conf); or {_shorter(config)}")
    else:
        yield fine("capacity", text)


def _rate(rate: Growth | None, days: float | None) -> str:
    if rate is None:
        return "; how fast jobs come is known after the first day"
    pace = f"{rate.jobs_per_day:.0f} jobs and {size(rate.bytes_per_day)} a day"
    return f"; at {pace} that is enough" if days is None else f"; at {pace} that is {days:.0f} days"


def _shorter(config: Config) -> str:
    """A retention that is shorter than what there is; months, as sites think."""
    days = max(30, config.redis.ttl_s // 86_400 // 2) if config.redis.ttl_s else 365
    return f"[redis] ttl_s = {days * 86_400} in slurmjcd.toml ({days} days)"


def _number(info: StoreInfo, name: str) -> int:
    value = info.fields.get(name)
    return value if isinstance(value, int) else 0
