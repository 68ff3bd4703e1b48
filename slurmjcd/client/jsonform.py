# SPDX-License-Identifier: MIT
"""Jobs as JSON, schema slurmjc.jobs/1: snake_case, integers for ids, epochs and seconds, null for what is unset."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from slurmjcd.client.columns import Job, elapsed_s, job_id
from slurmjcd.client.reasons import reason_name
from slurmjcd.slurm.states import exit_status, state_name

SCHEMA: Final = "slurmjc.jobs/1"
_SAME: Final = (
    "job_id array_job_id array_task_id het_job_id het_job_offset sluid uid gid user group name cluster partition"
    " account qos qos_id wckey reservation state_reason node_count cpu_count nodes tres_req tres_alloc work_dir"
    " features priority restart_count"
)
_TIMES: Final = ("submit", "eligible", "start", "end")


def job_object(job: Job) -> dict[str, Any]:
    """One job."""
    out: dict[str, Any] = {"id": job_id(job)}
    out.update((name, _text(job[name])) for name in _SAME.split())
    out["reason"] = reason_name(job["extra"].get("state_reason_prev"))
    out["state"] = state_name(job["state"], job["extra"].get("state_flags"))
    for name in ("exit_code", "derived_exit_code"):
        status = exit_status(job[name])
        out[name] = {"code": status[0], "signal": status[1]} if status else None
    out.update((name, job[name] or None) for name in _TIMES)
    out["elapsed_s"] = elapsed_s(job)
    limit = job["time_limit"]
    out["time_limit_s"] = limit * 60 if isinstance(limit, int) else None
    out["time_limit_kind"] = limit.lower() if isinstance(limit, str) else None
    out["extra"] = {_text(name): _value(value) for name, value in job["extra"].items()}
    return out


def _text(value: Any) -> Any:
    """Text as JSON can hold it: bytes that were no UTF-8 become the replacement character."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value


def _value(value: Any) -> Any:
    """What no plugin of ours has put into `extra`, but somebody may have: anything that MessagePack can hold."""
    if value is None or isinstance(value, str | int):
        return _text(value)
    if isinstance(value, list):
        return [_value(each) for each in value]
    if isinstance(value, dict):
        return {_text(str(name)): _value(each) for name, each in value.items()}
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def document(jobs: Iterable[Job], meta: dict[str, Any]) -> Iterator[str]:
    """Lines of one JSON document; jobs are written as they come."""
    yield f'{{"schema": {json.dumps(SCHEMA)}, "meta": {json.dumps(meta)}, "jobs": ['
    previous: str | None = None
    for job in jobs:
        if previous is not None:
            yield f"{previous},"
        previous = json.dumps(job_object(job))
    if previous is not None:
        yield previous
    yield "]}"


def stream(jobs: Iterable[Job]) -> Iterator[str]:
    """One JSON object per line."""
    return (json.dumps(job_object(job)) for job in jobs)
