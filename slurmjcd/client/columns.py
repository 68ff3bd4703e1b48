# SPDX-License-Identifier: MIT
"""The columns of `slurmjc jobs`: sacct's names and widths, and how each is got from a record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from slurmjcd.client.times import format_span, format_time
from slurmjcd.slurm.states import exit_status, state_name

Job = dict[str, Any]
Value = Callable[[Job], Any]

# sacct -c's own, and what it lacks: the exit code and how long it took
DEFAULT: Final = "jobid,uid,jobname,partition,nnodes,nodelist,state,end,exitcode,elapsed"
BRIEF: Final = "jobid,state,exitcode"
LONG: Final = (
    "jobid,jobidraw,user,group,account,jobname,partition,qos,nnodes,ncpus,nodelist,state,exitcode,derivedexitcode,"
    "submit,eligible,start,end,elapsed,timelimit,reqtres,alloctres,workdir"
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column as asked for. A negative width means left-aligned, as in sacct's format strings."""

    title: str
    width: int
    value: Value


def job_id(job: Job) -> str:
    """100, 100_5 for an array task, 100+1 for a het part."""
    if job["array_job_id"] and job["array_task_id"] is not None:
        return f"{job['array_job_id']}_{job['array_task_id']}"
    if job["het_job_id"] and job["het_job_offset"] is not None:
        return f"{job['het_job_id']}+{job['het_job_offset']}"
    return str(job["job_id"])


def first_start(job: Job) -> int:
    """When it started; the parts of a resized job are shown with the start of the whole, as sacct does."""
    return int(job["extra"].get("orig_start") or job["start"])


def elapsed_s(job: Job) -> int:
    """Seconds it ran, without the time it was suspended."""
    return max(0, job["end"] - first_start(job) - job["extra"].get("suspended", 0)) if job["start"] else 0


def _field(name: str) -> Value:
    return lambda job: job[name]


def _extra(name: str) -> Value:
    return lambda job: job["extra"].get(name)


def _time(name: str) -> Value:
    return lambda job: format_time(job[name], os.environ.get("SLURM_TIME_FORMAT"))


def _exit(name: str) -> Value:
    def value(job: Job) -> str:
        code, signal = exit_status(job[name]) or (0, 0)
        return f"{code}:{signal}"

    return value


def _time_limit(job: Job) -> str | None:
    limit = job["time_limit"]
    return format_span(limit * 60) if isinstance(limit, int) else limit


def _planned(job: Job) -> str:
    began = job["start"] or job["end"]
    return format_span(began - (job["eligible"] or job["submit"]))


def _reason(job: Job) -> str:
    """What it waited for last, which is sacct's Reason; it is imported for who asks."""
    from slurmjcd.client.reasons import reason_name

    return reason_name(job["extra"].get("state_reason_prev"))


def _requested_memory(job: Job) -> str | None:
    """mem of the TRES asked for, as sacct's ReqMem."""
    parts = (part.partition("=") for part in (job["tres_req"] or "").split(","))
    return next((value for name, _, value in parts if name == "mem"), None)


def _state(job: Job) -> str:
    name = state_name(job["state"], job["extra"].get("state_flags"))
    by = job["extra"].get("cancelled_by")
    return name if by is None or name != "CANCELLED" else f"{name} by {by}"


_COLUMNS: Final[dict[str, tuple[int, Value]]] = {
    "Account": (10, _field("account")),
    "AdminComment": (15, _extra("admin_comment")),
    "AllocCPUS": (10, _field("cpu_count")),
    "AllocNodes": (10, _field("node_count")),
    "AllocTRES": (10, _field("tres_alloc")),
    "ArrayJobID": (-12, _field("array_job_id")),
    "ArrayTaskID": (11, _field("array_task_id")),
    "Cluster": (10, _field("cluster")),
    "Comment": (14, _extra("comment")),
    "Constraints": (19, _field("features")),
    "Container": (19, _extra("container")),
    "CPUTime": (10, lambda job: format_span(elapsed_s(job) * (job["cpu_count"] or 0))),
    "CPUTimeRAW": (10, lambda job: elapsed_s(job) * (job["cpu_count"] or 0)),
    "DerivedExitCode": (15, _exit("derived_exit_code")),
    "Elapsed": (10, lambda job: format_span(elapsed_s(job))),
    "ElapsedRaw": (10, elapsed_s),
    "Eligible": (19, _time("eligible")),
    "End": (19, _time("end")),
    "ExitCode": (8, _exit("exit_code")),
    "FailedNode": (10, _extra("failed_node")),
    "GID": (6, _field("gid")),
    "Group": (9, _field("group")),
    "HetJobID": (-12, _field("het_job_id")),
    "HetJobOffset": (12, _field("het_job_offset")),
    "JobID": (-12, job_id),
    "JobIDRaw": (-12, _field("job_id")),
    "JobName": (10, _field("name")),
    "Licenses": (10, _extra("licenses")),
    "McsLabel": (12, _extra("mcs_label")),
    "NCPUS": (10, _field("cpu_count")),
    "NNodes": (8, _field("node_count")),
    "NodeList": (15, _field("nodes")),
    "NTasks": (8, _extra("ntasks")),
    "Partition": (10, _field("partition")),
    "Planned": (10, _planned),
    "Priority": (10, _field("priority")),
    "QOS": (10, _field("qos")),
    "QOSRAW": (6, _field("qos_id")),
    "Reason": (22, _reason),
    "ReqCPUS": (8, _field("cpu_count")),
    "ReqMem": (10, _requested_memory),
    "ReqNodes": (8, _field("node_count")),
    "ReqTRES": (10, _field("tres_req")),
    "Reservation": (20, _field("reservation")),
    "Reserved": (10, _planned),
    "Restarts": (8, _field("restart_count")),
    "Start": (19, lambda job: format_time(first_start(job), os.environ.get("SLURM_TIME_FORMAT"))),
    "State": (10, _state),
    "StdErr": (20, _extra("std_err")),
    "StdIn": (20, _extra("std_in")),
    "StdOut": (20, _extra("std_out")),
    "Submit": (19, _time("submit")),
    "SubmitLine": (20, _extra("submit_line")),
    "Suspended": (10, lambda job: format_span(job["extra"].get("suspended", 0))),
    "SystemComment": (15, _extra("system_comment")),
    "Timelimit": (10, _time_limit),
    "TimelimitRaw": (10, _field("time_limit")),
    "UID": (6, _field("uid")),
    "User": (9, _field("user")),
    "WCKey": (10, _field("wckey")),
    "WorkDir": (20, _field("work_dir")),
}
_BY_NAME: Final = {name.lower(): name for name in _COLUMNS}


def names() -> list[str]:
    return list(_COLUMNS)


def parse_format(text: str, default: str, *, lenient: bool) -> tuple[list[Column], list[str]]:
    """The columns of a format: names with optional %width, or +name to add to the default. And those left out.

    Raises:
        ValueError: an unknown column, unless lenient; a width that is no number.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words and all(word.startswith("+") for word in words[:1]):
        words = default.split(",") + [word.removeprefix("+") for word in words]
    columns, unknown = [], []
    for word in words:
        name, percent, width_text = word.partition("%")
        title = _BY_NAME.get(name.lower())
        if title is None and name.lower() == "all":
            columns += [Column(each, width, value) for each, (width, value) in _COLUMNS.items()]
            continue
        if title is None:
            if not lenient:
                raise ValueError(f"unknown column '{name}': `slurmjc jobs --helpformat` lists them, --lenient skips it")
            unknown.append(name)
            continue
        width, value = _COLUMNS[title]
        if percent:
            width = _width(width_text, word)
        columns.append(Column(title, width, value))
    return columns, unknown


def _width(text: str, word: str) -> int:
    number = text.removeprefix("-")
    if not number.isdigit() or not 0 < int(number) <= 100_000:
        raise ValueError(f"the width in '{word}' must be a number from 1, or with - in front for left-aligned")
    return int(text)
