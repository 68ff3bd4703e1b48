# SPDX-License-Identifier: MIT
"""`slurmjc stats`: what the store holds, what it costs, how fast it grows, and for how long there is room."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import Failure
from slurmjcd.client.table import plain, write
from slurmjcd.client.times import rfc3339
from slurmjcd.sizes import size, span
from slurmjcd.store.growth import DAY_S, Growth, Segment, days_left, disk_room, growth, parse_segments

SCHEMA: Final = "slurmjc.stats/1"
_LONG_DAYS: Final = 3650


@click.command("stats")
@click.option("--days", default=14, type=click.IntRange(0, 1_000_000), metavar="N", help="Days listed; default 14.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with every day.")
@click.pass_obj
def stats(connect: Any, days: int, as_json: bool) -> None:
    """Say how many jobs are stored in how many bytes, day by day, how fast that grows and how long the room lasts.

    Only operators are told of the store; others are told of the daemon. Rates are those of the daemon on this host.
    """
    connection: Connection = connect()
    with connection:
        status = json.loads(connection.call(b"SLURMJC.STATUS"))
        flat = connection.call(b"SLURMJC.INFO", b"SEGMENTS")
    info = {key.decode(): value for key, value in zip(flat[::2], flat[1::2], strict=True)}
    told = document(info, status, time.time())
    if as_json:
        click.echo(json.dumps(told))
        return
    write(lines(told, days))
    if told["store"] is None:
        click.echo("slurmjc: what is stored is told to operators only (access.operators)", err=True)


def document(info: dict[str, Any], status: dict[str, Any], now_s: float) -> dict[str, Any]:
    """The answer as JSON, add-only; `store` and what follows from it is None for who may not know."""
    segments = None
    if "bytes" in info:
        try:
            segments = parse_segments(info.get("segment_sizes"))
        except ValueError as exc:
            raise Failure(f"the module in Redis lists no segments ({exc}): install one of this version") from exc
    return {
        "schema": SCHEMA,
        "meta": {"time": int(now_s), "server": f"slurmjcd/{status['version']}"},
        "store": None if segments is None else _store(info, segments),
        "growth": None if segments is None else _growth(info, segments, status, now_s),
        "retention_s": status["retention_s"] or None,
        "rates": {name: value for name, value in status["rates"].items() if name != "step_s"},
        "counters": status["counters"],
        "spool": status.get("spool"),
        "cold": status.get("cold"),
        "segments": None if segments is None else [_segment(segment) for segment in segments],
    }


def _store(info: dict[str, Any], segments: list[Segment]) -> dict[str, Any]:
    return {
        "server": f"{_text(info, 'server')} {_text(info, 'server_version')}",
        "jobs": info["jobs"],
        "bytes": info["bytes"],
        "bytes_per_job": info["bytes"] / info["jobs"] if info["jobs"] else None,
        "oldest": info.get("oldest"),
        "newest": info.get("newest"),
        "segments": len(segments),
    }


def _growth(
    info: dict[str, Any], segments: list[Segment], status: dict[str, Any], now_s: float
) -> dict[str, Any] | None:
    rate = growth(segments, now_s)
    used, limit = info.get("used_memory"), info.get("maxmemory") or info.get("total_system_memory")
    memory = {
        "used_bytes": used,
        "limit_bytes": limit,
        "limit": "maxmemory" if info.get("maxmemory") else "host",
        "days_left": _left(rate, info, limit - used, status) if used and limit else None,
    }
    free, file = _free(info) if status["redis_local"] else None, info.get("aof_current_size")
    room = disk_room(info["bytes"], file, free) if free is not None and file is not None else None
    return {
        "days": rate.days if rate else None,
        "jobs_per_day": rate.jobs_per_day if rate else None,
        "bytes_per_day": rate.bytes_per_day if rate else None,
        "memory": memory,
        "disk": {
            "free_bytes": free,
            "append_only_bytes": file,
            "days_left": _left(rate, info, room, status) if room is not None else None,
        },
    }


def _free(info: dict[str, Any]) -> int | None:
    """Bytes left on the disk of Redis' directory, None where that can't be told."""
    try:
        disk = os.statvfs(info.get("dir") or b"")
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _left(rate: Growth | None, info: dict[str, Any], room: float, status: dict[str, Any]) -> float | None:
    left = days_left(rate, info["bytes"], room, status["retention_s"])
    return None if left is None else round(left, 1)


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "day": _day(segment.day),
        "jobs": segment.jobs,
        "bytes": segment.bytes,
        "bytes_per_job": round(segment.bytes / segment.jobs, 1) if segment.jobs else None,
        "expires": segment.expires,
    }


def _day(number: float) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(number * DAY_S))
    except (OverflowError, ValueError, OSError):
        return f"day {number}"  # a record with a clock that makes no sense


def _text(info: dict[str, Any], name: str) -> str:
    value = info.get(name, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# ---- for people ------------------------------------------------------------------------------------------------------


def lines(told: dict[str, Any], days: int) -> Iterator[str]:
    """Each at most 40 characters, for every terminal."""
    store = told["store"]
    if store is not None:
        yield from _of_store(store, told["growth"], told["retention_s"])
    if told["cold"] is not None:
        yield from _of_files(told["cold"])
    yield from _of_daemon(told)
    if store is not None and days and told["segments"]:
        yield ""
        yield "day              jobs     bytes    a job"
        yield "---------- ---------- --------- --------"
        for one in told["segments"][-days:]:
            yield f"{one['day']:<10} {one['jobs']:>10} {size(one['bytes']):>9} {one['bytes_per_job'] or 0:>6.0f} B"
        hidden = len(told["segments"]) - days
        if hidden > 0:
            yield f"and {hidden} earlier (--days)"


def _of_store(store: dict[str, Any], grows: dict[str, Any], retention_s: int | None) -> Iterator[str]:
    yield _row("jobs", f"{store['jobs']:,}")
    yield _row("oldest end", _moment(store["oldest"]))
    yield _row("newest end", _moment(store["newest"]))
    yield _row("size", size(store["bytes"]))
    each = store["bytes_per_job"]
    yield _row("a job", "-" if each is None else f"{each:.0f} B")
    memory, disk = grows["memory"], grows["disk"]
    yield _row("retention", "for ever" if retention_s is None else span(retention_s))
    if grows["days"] is None:
        yield _row("growth", "known after a day")
    else:
        yield _row("jobs a day", f"{grows['jobs_per_day']:,.0f}")
        yield _row("bytes a day", size(grows["bytes_per_day"]))
    if memory["used_bytes"] and memory["limit_bytes"]:
        yield _row("Redis", f"{size(memory['used_bytes'])} of {size(memory['limit_bytes'])}")
        yield _row("memory lasts", _lasts(grows, memory["days_left"]))
    if disk["free_bytes"] is not None:
        yield _row("disk free", size(disk["free_bytes"]))
        if disk["append_only_bytes"] is not None:
            yield _row("disk lasts", _lasts(grows, disk["days_left"]))


def _of_files(cold: dict[str, Any]) -> Iterator[str]:
    yield _row("in files", f"{cold['days']:,} days, {size(cold['bytes'])}")
    yield _row("since", cold["oldest"] or "-")
    if cold["due_days"]:
        yield _row("to be moved", f"{cold['due_days']:,} days")


def _lasts(grows: dict[str, Any], days: float | None) -> str:
    if grows["days"] is None:
        return "-"
    if days is None:
        return "for the retention"
    return f"{days:,.0f} days" if days < _LONG_DAYS else "more than 10 years"


def _of_daemon(told: dict[str, Any]) -> Iterator[str]:
    rates, spool = told["rates"], told["spool"]
    for name, title in (("received_s", "received"), ("stored_s", "to Redis"), ("answered_s", "questions")):
        if spool is None and name != "answered_s":
            continue  # a login node takes none
        minute = rates[name]["minute"]
        yield _row(title, "-" if minute is None else f"{minute:,.1f} a second")
    if spool is not None:
        yield _row("waiting", f"{spool['backlog_records']:,} records")
        yield _row("spool", f"{size(spool['bytes'])} of {size(spool['max_bytes'])}")
        if spool["quarantined_records"]:
            yield _row("quarantine", f"{spool['quarantined_records']:,} records")
        if spool["dropped"] or spool["lost_records"]:
            yield _row("dropped, lost", f"{spool['dropped']:,}, {spool['lost_records']:,} records")


def _row(name: str, value: str) -> str:
    return f"{name:<14}{plain(value)}"


def _moment(epoch: int | None) -> str:
    return "-" if epoch is None else rfc3339(epoch) or "-"
