# SPDX-License-Identifier: MIT
"""A job as one row of plain values, for CSV and Parquet: the keys of `slurmjc.jobs/1`, flattened.

An exit code is two columns, a time limit is seconds and a kind, and what is in `extra` has a column each. What `extra`
holds beside the names that schema/record.json knows is in the last column, as a JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from slurmjcd.client.columns import Job
from slurmjcd.client.jsonform import job_object
from slurmjcd.record import decode

Kind = Literal["uint32", "uint64", "text", "time", "seconds"]

# extra's names as schema/record.json lists them, with their kinds there (a test holds the two together)
EXTRA: Final[dict[str, Kind]] = {
    "state_flags": "uint64", "state_reason_prev": "uint64", "std_in": "text", "std_out": "text", "std_err": "text",
    "comment": "text", "admin_comment": "text", "system_comment": "text", "container": "text", "licenses": "text",
    "dependency": "text", "alloc_node": "text", "failed_node": "text", "excluded_nodes": "text",
    "parent_accounts": "text", "submit_line": "text", "state_desc": "text", "mcs_label": "text", "ntasks": "uint64",
    "ntasks_per_node": "uint64", "cpus_per_task": "uint64", "orig_start": "time", "suspended": "uint64",
    "cancelled_by": "uint64", "script": "text", "truncated": "text",
}  # fmt: skip
_OWN: Final[dict[str, Kind]] = {
    "id": "text", "job_id": "uint32", "array_job_id": "uint32", "array_task_id": "uint32", "het_job_id": "uint32",
    "het_job_offset": "uint32", "sluid": "uint64", "uid": "uint32", "gid": "uint32", "user": "text", "group": "text",
    "name": "text", "cluster": "text", "partition": "text", "account": "text", "qos": "text", "qos_id": "uint32",
    "wckey": "text", "reservation": "text", "state": "text", "reason": "text", "state_reason": "uint32",
    "exit_code": "uint32", "exit_signal": "uint32", "derived_exit_code": "uint32", "derived_exit_signal": "uint32",
    "submit": "time", "eligible": "time", "start": "time", "end": "time", "elapsed_s": "seconds",
    "time_limit_s": "seconds", "time_limit_kind": "text", "node_count": "uint32", "cpu_count": "uint32",
    "nodes": "text", "tres_req": "text", "tres_alloc": "text", "work_dir": "text", "features": "text",
    "priority": "uint32", "restart_count": "uint32",
}  # fmt: skip
_TYPES: Final = {"text": str, "uint32": int, "uint64": int, "time": int, "seconds": int}


@dataclass(frozen=True, slots=True)
class Column:
    """A column. Values of kind `time` are epoch seconds, UTC."""

    name: str
    kind: Kind


COLUMNS: Final = [Column(*pair) for pair in (_OWN | EXTRA).items()] + [Column("extra", "text")]


def rows(records: Iterable[bytes]) -> Iterator[list[Any]]:
    """Values in the order of COLUMNS, None for what is unset."""
    return (row(decode(record)) for record in records)


def row(fields: Job) -> list[Any]:
    """One job's."""
    job = job_object(fields)
    extra = job.pop("extra")
    for name in ("exit_code", "derived_exit_code"):
        status = job[name]
        job[name] = status and status["code"]
        job[name.replace("code", "signal")] = status and status["signal"]
    values = [job[name] for name in _OWN]
    for name, kind in EXTRA.items():
        known = type(extra.get(name)) is _TYPES[kind]
        value = extra.pop(name) if known else None
        values.append(value or None if kind == "time" else value)
    values.append(json.dumps(extra) if extra else None)
    return values
