# SPDX-License-Identifier: MIT
"""Records for tests."""

from __future__ import annotations

from typing import Any

from slurmjcd import record

# 2026-03-01T12:00:00Z
NOON = 1772366400


def fields(job_id: int, **changes: Any) -> dict[str, Any]:
    """An ordinary completed job."""
    return {
        "job_id": job_id, "uid": 1000, "gid": 100, "user": "ada", "group": "users", "name": f"job{job_id}",
        "cluster": "c1", "partition": "batch", "account": "physics", "qos": "normal", "qos_id": 1, "state": 3,
        "exit_code": 0, "submit": NOON - 100, "eligible": NOON - 100, "start": NOON - 60, "end": NOON,
        "time_limit": 60, "node_count": 1, "cpu_count": 4, "nodes": "n1", "tres_req": "cpu=4,mem=4G,node=1",
        "tres_alloc": "cpu=4,mem=4G,node=1", "work_dir": "/home/ada", "priority": 7, "restart_count": 0,
    } | changes  # fmt: skip


def job(job_id: int, **changes: Any) -> bytes:
    return record.encode(fields(job_id, **changes))
