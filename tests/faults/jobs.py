# SPDX-License-Identifier: MIT
"""Jobs whose every field follows from the job id: what a fault test sends, and what it must find again."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from slurmjcd import record

START: Final = 1_767_571_200  # 2026-01-05T00:00:00Z
_NAME_BYTES: Final = (4, 40, 400)


def fields(job_id: int, *, cluster: str = "faults") -> dict[str, Any]:
    """The job of that id."""
    digest = hashlib.sha256(str(job_id).encode()).hexdigest()
    start = START + job_id % 600_000
    return {
        "job_id": job_id,
        "uid": 20_000 + job_id % 500,
        "gid": 5_000 + job_id % 40,
        "user": f"user{job_id % 500}",
        "group": f"group{job_id % 40}",
        "name": (digest * 7)[: _NAME_BYTES[job_id % len(_NAME_BYTES)]],
        "cluster": cluster,
        "partition": "main",
        "state": 3,
        "exit_code": 0,
        "submit": start - 60,
        "eligible": start - 60,
        "start": start,
        "end": start + 100 + job_id % 1000,
        "node_count": 1,
        "cpu_count": 1 + job_id % 64,
        "work_dir": f"/home/{digest}",
        "restart_count": 0,
    }


def encoded(job_id: int, *, cluster: str = "faults") -> bytes:
    return record.encode(fields(job_id, cluster=cluster))


def differences(found: bytes) -> dict[str, tuple[Any, Any]]:
    """Fields of a record that came back whose values are not those of its job: name to (expected, found)."""
    got = record.decode(found)
    expected = fields(got["job_id"], cluster=got["cluster"])
    return {name: (value, got[name]) for name, value in expected.items() if got[name] != value}
