# SPDX-License-Identifier: MIT
"""The record that a job should have, worked out from what `scontrol show job` says about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from tests.harness.fates import Fate

# enum job_states and enum job_state_reason of slurm.h, as far as these jobs meet them
STATES: Final = {"PENDING": 0, "RUNNING": 1, "COMPLETED": 3, "CANCELLED": 4, "FAILED": 5, "TIMEOUT": 6}
REASONS: Final = {
    "None": 0, "Priority": 1, "Resources": 3, "JobLaunchFailure": 23, "NonZeroExitCode": 24, "RaisedSignal": 33,
}  # fmt: skip


def epoch(text: str) -> int:
    """A time as scontrol prints it under TZ=UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def wait_status(text: str) -> int:
    """`code:signal` as waitpid reports it."""
    code, _, signal = text.partition(":")
    return int(code) << 8 | int(signal)


def minutes(text: str) -> int | str:
    """A time limit as scontrol prints it, [days-]hours:minutes:seconds."""
    if text == "UNLIMITED":
        return text
    days, _, clock = text.rpartition("-")
    hours, mins, _ = clock.split(":")
    return int(days or 0) * 1440 + int(hours) * 60 + int(mins)


def record(shown: dict[str, str], fate: Fate, *, cluster: str) -> dict[str, Any]:
    """Every field, absent ones left out, as SLURMJC.GET names them."""
    user, uid = _name_and_id(shown["UserId"])
    group, gid = _name_and_id(shown["GroupId"])
    started = bool(shown["NodeList"])
    # the reason of a job past its limit is set after its end was recorded
    reason = "None" if fate.state == "TIMEOUT" else shown["Reason"]
    fields: dict[str, Any] = {
        "version": 1,
        "job_id": int(shown["JobId"]),
        "array_job_id": _number(shown.get("ArrayJobId")),
        "array_task_id": _number(shown.get("ArrayTaskId")),
        "uid": uid,
        "gid": gid,
        "user": user,
        "group": group,
        "name": shown["JobName"],
        "cluster": cluster,
        "partition": shown["Partition"],
        "account": _text(shown["Account"]),
        "qos": _text(shown["QOS"]),
        "reservation": _text(shown.get("Reservation", "(null)")),
        "state": STATES[shown["JobState"]],
        # newer Slurm adds which signal: RaisedSignal:9(Killed)
        "state_reason": REASONS[reason.split(":")[0]],
        "exit_code": wait_status(fate.recorded_exit_code),
        "derived_exit_code": 0,
        "submit": epoch(shown["SubmitTime"]),
        "eligible": epoch(shown["EligibleTime"]),
        "start": epoch(shown["StartTime"]) if started else 0,
        "end": epoch(shown["EndTime"]),
        # a job that never started has not been given its partition's limit yet
        "time_limit": minutes(shown["TimeLimit"]) if started else "Partition_Limit",
        "node_count": int(shown["NumNodes"]),
        "cpu_count": int(shown["NumCPUs"]),
        "nodes": shown["NodeList"] or None,
        "tres_alloc": (shown.get("TRES") or shown["AllocTRES"]) if started else None,  # the name since 23.02
        "work_dir": shown["WorkDir"],
        "features": _text(shown["Features"]),
        "priority": int(shown["Priority"]),
        "restart_count": int(shown["Restarts"]),
        "std_in": shown["StdIn"],
        "alloc_node": shown["AllocNode:Sid"].split(":")[0],
        "state_desc": reason.replace("_", " ") if ":" in reason else None,
        "cpus_per_task": int(shown["CPUs/Task"]),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _name_and_id(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*)\((\d+)\)", text)
    assert found, text
    return found[1], int(found[2])


def _text(text: str) -> str | None:
    return None if text == "(null)" else text


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
