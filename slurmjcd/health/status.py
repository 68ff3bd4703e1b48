# SPDX-License-Identifier: MIT
"""What SLURMJC.STATUS answers: each stage as it is now, counters, and for operators what was wrong lately.

A dict for JSON, add-only. No jobs and no users, and for who is no operator no addresses either.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from slurmjcd import __version__
from slurmjcd.health.history import COLUMNS, STEP_S
from slurmjcd.health.stages import Stage, overall, total

if TYPE_CHECKING:
    from slurmjcd.daemon import Daemon

_COUNTERS: Final = (
    "records_received", "records_repeated", "records_spooled", "records_shipped", "records_stored",
    "records_duplicate", "records_rejected", "record_gaps", "replays", "commit_failures", "queries", "queries_refused",
)  # fmt: skip
_TROUBLES: Final = 20
_RATES: Final = ("received_s", "stored_s", "answered_s", "waiting")
_COURSE: Final = 60  # rows


def report(daemon: Daemon, *, operator: bool) -> dict[str, Any]:
    """The answer. Unlike /readyz it asks no disk: anybody may ask this, and often."""
    observer, metrics = daemon.observer, daemon.metrics
    observer.look()
    stages = observer.stages.now()
    level, text = overall(stages)
    answer: dict[str, Any] = {
        "time": round(time.time(), 3),
        "started": round(observer.started, 3),
        "version": __version__,
        "level": level,
        "text": text,
        "stages": [_stage(stage, operator=operator) for stage in stages],
        "counters": {name: int(total(getattr(metrics, name))) for name in _COUNTERS},
        "rates": _rates(observer.history.rows()),
        "redis_local": daemon.config.redis_address.startswith("unix:"),
        "retention_s": daemon.config.redis.ttl_s,
        "jobs": metrics.jobs.by_state(),
    }
    if daemon.spool is not None:
        answer["spool"] = _spool(daemon)
    if daemon.cold is not None:
        cold = daemon.cold
        answer["cold"] = {
            "days": cold.days, "bytes": cold.bytes, "oldest": cold.oldest, "due_days": cold.due_days,
            "after_days": daemon.config.cold.after_days, "keep_days": daemon.config.cold.keep_days,
        }  # fmt: skip
    if operator:
        answer["troubles"] = [
            {"start": round(trouble.start, 3), "end": trouble.end, **_stage(trouble.stage, operator=True)}
            for trouble in observer.troubles.latest()[:_TROUBLES]
        ]
    return answer


def _rates(rows: list[list[float | None]]) -> dict[str, Any]:
    """A second's records and questions, on average of the last minute and hour (or since the start), and their course.

    Before the first row, ten seconds after the start, averages are None.
    """
    out: dict[str, Any] = {"step_s": STEP_S}
    for name in _RATES:
        column = [row[COLUMNS.index(name)] or 0.0 for row in rows]
        minute = column[-round(60 / STEP_S) :]
        out[name] = {
            "minute": round(sum(minute) / len(minute), 3) if minute else None,
            "hour": round(sum(column) / len(column), 3) if column else None,
            "course": column[-_COURSE:],
        }
    return out


def _stage(stage: Stage, *, operator: bool) -> dict[str, Any]:
    told = ("key", "name", "level", "text", "kind", "advice", "facts") if operator else ("key", "name", "level")
    return {name: value for name, value in asdict(stage).items() if name in told}


def _spool(daemon: Daemon) -> dict[str, Any]:
    spool = daemon.spool
    assert spool is not None
    state, rings = spool.state, spool.state.rings.values()
    try:
        disk = os.statvfs(spool.path.parent)
        free = disk.f_bavail * disk.f_frsize
    except OSError:
        free = None
    return {
        "backlog_records": state.backlog,
        "oldest_s": round(spool.ages.oldest_s, 3),
        "bytes": state.bytes,
        "max_bytes": spool.max_bytes,
        "free_bytes": free,
        "quarantined_records": state.quarantined,
        "lost_records": state.lost,
        "handed_over": sum(ring.attempted for ring in rings),
        "dropped": sum(ring.dropped for ring in rings),
        "spilled": sum(ring.spilled for ring in rings),
    }
