# SPDX-License-Identifier: MIT
"""Write schema/vectors.json: the same records as meaning and as bytes, for every language that reads or writes them.

Both sides are written by hand below: 'slurm' is what slurmctld holds when the job ends (names as in its job_record_t
and job_details; NO_VAL and INFINITE by name), 'record' is what must come out of it. Only the bytes are computed, by the
msgpack library, which shares no code with schema/c/.

    python schema/make_vectors.py            writes vectors.json
    python schema/make_vectors.py --check    exits 1 when it differs from what it would write

Strings in JSON hold bytes that are not UTF-8 as surrogate escapes (Python's surrogateescape): byte 0xff is "\\udcff".
{"repeat": [text, n]} stands for text repeated n times. Vectors over 4096 bytes carry sha256 and size instead of hex.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgpack

HERE = Path(__file__).parent
FIELDS = json.loads((HERE / "record.json").read_text())["fields"]
HEX_LIMIT = 4096

DAY = 1_700_006_400  # 2023-11-15T00:00:00Z
#: A job that ran: every vector below says only how it differs.
SLURM = {
    "job_id": 1001,
    "array_job_id": 0,
    "array_task_id": "NO_VAL",
    "het_job_id": 0,
    "het_job_offset": "NO_VAL",
    "user_id": 1000,
    "user_name": "ada",
    "group_id": 1000,
    "name": "solve",
    "partition": "batch",
    "account": "physics",
    "qos_id": 1,
    "qos_ptr": {"name": "normal"},
    "assoc_ptr": None,
    "wckey": None,
    "resv_name": None,
    "job_state": "JOB_COMPLETE",
    "state_reason": 0,
    "state_desc": None,
    "exit_code": 0,
    "derived_ec": 0,
    "start_time": DAY + 60,
    "end_time": DAY + 3660,
    "resize_time": 0,
    "time_limit": 120,
    "total_nodes": 2,
    "total_cpus": 8,
    "nodes": "n[1-2]",
    "tres_fmt_req_str": "cpu=8,mem=16G,node=2,billing=8",
    "tres_fmt_alloc_str": "cpu=8,mem=16G,node=2,billing=8",
    "priority": 4294901759,
    "restart_cnt": 0,
    "comment": None,
    "admin_comment": None,
    "system_comment": None,
    "container": None,
    "licenses": None,
    "alloc_node": None,
    "mcs_label": None,
    "details": {
        "submit_time": DAY,
        "begin_time": DAY + 1,
        "work_dir": "/home/ada/run",
        "features": None,
        "std_in": None,
        "std_out": None,
        "std_err": None,
        "orig_dependency": None,
        "exc_nodes": None,
        "submit_line": None,
        "num_tasks": "NO_VAL",
        "ntasks_per_node": "NO_VAL16",
        "cpus_per_task": "NO_VAL16",
    },
}
RECORD: dict[str, Any] = {
    "version": 1,
    "job_id": 1001,
    "array_job_id": None,
    "array_task_id": None,
    "het_job_id": None,
    "het_job_offset": None,
    "sluid": None,
    "uid": 1000,
    "gid": 1000,
    "user": "ada",
    "group": None,
    "name": "solve",
    "cluster": "c1",
    "partition": "batch",
    "account": "physics",
    "qos": "normal",
    "qos_id": 1,
    "wckey": None,
    "reservation": None,
    "state": 3,
    "state_reason": 0,
    "exit_code": 0,
    "derived_exit_code": 0,
    "submit": DAY,
    "eligible": DAY + 1,
    "start": DAY + 60,
    "end": DAY + 3660,
    "time_limit": 120,
    "node_count": 2,
    "cpu_count": 8,
    "nodes": "n[1-2]",
    "tres_req": "cpu=8,mem=16G,node=2,billing=8",
    "tres_alloc": "cpu=8,mem=16G,node=2,billing=8",
    "work_dir": "/home/ada/run",
    "features": None,
    "priority": 4294901759,
    "restart_count": 0,
    "extra": {},
}


def vector(
    name: str, about: str, *, slurm: dict | None = None, details: dict | None = None, record: dict | None = None
) -> dict:
    """One vector; slurm, details and record say how it differs from SLURM and RECORD. Without slurm: only bytes."""
    entry: dict[str, Any] = {"name": name, "about": about}
    if slurm is not None:
        entry["slurm"] = {**SLURM, **slurm, "details": {**SLURM["details"], **(details or {})}}
    entry["record"] = {**RECORD, **(record or {})}
    return entry


VECTORS = [
    vector("ordinary", "completed on two nodes", slurm={}),
    vector(
        "all_nil",
        "everything Slurm may leave out is left out",
        record={
            **{f["name"]: None for f in FIELDS if not f.get("required")},
            "uid": 0,
            "gid": 0,
            "submit": 0,
            "eligible": 0,
            "start": 0,
            "end": 1,
            "state": 0,
        },
    ),
    vector(
        "no_val",
        "NO_VAL wherever Slurm can put it; the partition's limit applied",
        slurm={
            "user_name": None,
            "name": None,
            "partition": None,
            "account": None,
            "qos_ptr": None,
            "qos_id": 0,
            "exit_code": "NO_VAL",
            "derived_ec": "NO_VAL",
            "time_limit": "NO_VAL",
            "priority": "NO_VAL",
            "het_job_id": "NO_VAL",
            "state_reason": "NO_VAL",
            "tres_fmt_req_str": None,
            "tres_fmt_alloc_str": None,
        },
        details={"work_dir": None},
        record={
            "user": None,
            "name": None,
            "partition": None,
            "account": None,
            "qos": None,
            "qos_id": None,
            "state_reason": None,
            "exit_code": None,
            "derived_exit_code": None,
            "time_limit": "Partition_Limit",
            "priority": None,
            "tres_req": None,
            "tres_alloc": None,
            "work_dir": None,
        },
    ),
    vector(
        "infinite",
        "INFINITE wherever Slurm can put it",
        slurm={"time_limit": "INFINITE", "priority": "INFINITE", "array_task_id": "INFINITE"},
        record={"time_limit": "UNLIMITED", "priority": None},
    ),
    vector(
        "failed_with_code_3",
        "exit 3 is wait status 768",
        slurm={"job_state": "JOB_FAILED", "exit_code": 768, "derived_ec": 768, "state_reason": "FAIL_EXIT_CODE"},
        record={"state": 5, "state_reason": 24, "exit_code": 768, "derived_exit_code": 768},
    ),
    vector(
        "killed_by_signal_9",
        "a signal is the low bits of the wait status",
        slurm={"job_state": "JOB_FAILED", "exit_code": 9},
        record={"state": 5, "exit_code": 9},
    ),
    vector(
        "cancelled_pending",
        "never started: Slurm's expected start lies behind the end",
        slurm={
            "job_state": "JOB_CANCELLED",
            "start_time": DAY + 90_000,
            "end_time": DAY + 30,
            "nodes": None,
            "total_nodes": 1,
            "total_cpus": 1,
            "tres_fmt_alloc_str": None,
        },
        record={
            "state": 4,
            "start": 0,
            "end": DAY + 30,
            "nodes": None,
            "node_count": 1,
            "cpu_count": 1,
            "tres_alloc": None,
        },
    ),
    vector(
        "never_eligible",
        "cancelled while held: begin_time was never set",
        slurm={
            "job_state": "JOB_CANCELLED",
            "start_time": 0,
            "end_time": DAY + 30,
            "nodes": None,
            "total_nodes": 1,
            "total_cpus": 1,
            "tres_fmt_alloc_str": None,
            "priority": 0,
        },
        details={"begin_time": 0},
        record={
            "state": 4,
            "start": 0,
            "eligible": 0,
            "end": DAY + 30,
            "nodes": None,
            "node_count": 1,
            "cpu_count": 1,
            "tres_alloc": None,
            "priority": 0,
        },
    ),
    vector(
        "array_task",
        "task 7 of array 1000, whose own job id is 1001",
        slurm={"array_job_id": 1000, "array_task_id": 7},
        record={"array_job_id": 1000, "array_task_id": 7},
    ),
    vector(
        "array_task_zero",
        "task 0 is a task, not the absence of one",
        slurm={"array_job_id": 1001, "array_task_id": 0},
        record={"array_job_id": 1001, "array_task_id": 0},
    ),
    vector(
        "het_part",
        "second component of a heterogeneous job",
        slurm={"het_job_id": 1000, "het_job_offset": 1},
        record={"het_job_id": 1000, "het_job_offset": 1},
    ),
    vector(
        "het_leader",
        "component 0 is a component",
        slurm={"het_job_id": 1001, "het_job_offset": 0},
        record={"het_job_id": 1001, "het_job_offset": 0},
    ),
    vector(
        "after_one_requeue",
        "the last run of a job that was requeued once",
        slurm={"restart_cnt": 1},
        record={"restart_count": 1},
    ),
    vector(
        "resized",
        "last record of a job that was resized: start is the resize, the first start is kept",
        slurm={"resize_time": DAY + 600},
        record={"eligible": DAY + 600, "start": DAY + 600, "extra": {"orig_start": DAY + 60}},
    ),
    vector(
        "invalid_utf8",
        "bytes are kept as they are",
        slurm={"name": "caf\udce9 \udcff|\n\x1b[31m"},
        record={"name": "caf\udce9 \udcff|\n\x1b[31m"},
    ),
    vector(
        "all_extra",
        "everything that has no column of its own",
        slurm={
            "comment": "c",
            "admin_comment": "a",
            "system_comment": "s",
            "container": "/oci",
            "licenses": "ansys:2",
            "alloc_node": "login1",
            "mcs_label": "m",
            "state_desc": "why",
        },
        details={
            "features": "gpu&fast",
            "std_in": "/dev/null",
            "std_out": "/home/ada/%j.out",
            "std_err": "/home/ada/%j.err",
            "orig_dependency": "afterok:1",
            "exc_nodes": "n9",
            "submit_line": "sbatch run.sh",
            "num_tasks": 4,
            "ntasks_per_node": 2,
            "cpus_per_task": 2,
        },
        record={
            "features": "gpu&fast",
            "extra": {
                "std_in": "/dev/null",
                "std_out": "/home/ada/%j.out",
                "std_err": "/home/ada/%j.err",
                "comment": "c",
                "admin_comment": "a",
                "system_comment": "s",
                "container": "/oci",
                "licenses": "ansys:2",
                "dependency": "afterok:1",
                "alloc_node": "login1",
                "excluded_nodes": "n9",
                "submit_line": "sbatch run.sh",
                "state_desc": "why",
                "mcs_label": "m",
                "ntasks": 4,
                "ntasks_per_node": 2,
                "cpus_per_task": 2,
            },
        },
    ),
    vector(
        "one_mebibyte_strings",
        "cut at their max_bytes, and flagged",
        slurm={"name": {"repeat": ["x", 1048576]}, "comment": {"repeat": ["y", 1048576]}},
        details={"work_dir": {"repeat": ["\u00e9", 524288]}},
        record={
            "name": {"repeat": ["x", 16384]},
            "work_dir": {"repeat": ["\u00e9", 8192]},
            "extra": {"comment": {"repeat": ["y", 65536]}, "truncated": "name,work_dir,comment"},
        },
    ),
    vector(
        "largest_numbers",
        "every number at its limit",
        record={
            **{f["name"]: f["max"] for f in FIELDS if "max" in f and f["name"] != "version"},
            "submit": 253402300799,
            "eligible": 253402300799,
            "start": 253402300799,
            "end": 253402300799,
        },
    ),
]


def expand(value: Any) -> Any:
    """value with {"repeat": [text, n]} written out."""
    if isinstance(value, dict) and set(value) == {"repeat"}:
        return value["repeat"][0] * value["repeat"][1]
    if isinstance(value, dict):
        return {key: expand(item) for key, item in value.items()}
    return value


def with_bytes(entry: dict) -> dict:
    """entry with the bytes of its record."""
    ordered = [expand(entry["record"][field["name"]]) for field in FIELDS]
    packed = msgpack.packb(ordered, unicode_errors="surrogateescape")
    if len(packed) > HEX_LIMIT:
        return {**entry, "size": len(packed), "sha256": hashlib.sha256(packed).hexdigest()}
    return {**entry, "hex": packed.hex()}


def main() -> int:
    text = json.dumps([with_bytes(entry) for entry in VECTORS], indent=1) + "\n"
    path = HERE / "vectors.json"
    if "--check" not in sys.argv[1:]:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        print(f"{path} is out of date: run python schema/make_vectors.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
