# SPDX-License-Identifier: MIT
"""The lines that Open XDMoD's slurm shredder takes (`xdmod-shredder -f slurm -i FILE`).

It wants the output of `TZ=UTC sacct --allusers --parsable2 --noheader --allocations --duplicates --format …`, see
FORMAT: 26 fields with | between them, of which the last, the job's name, may hold one. Times are UTC without an offset.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Final

from slurmjcd.client import columns
from slurmjcd.client.columns import Job
from slurmjcd.client.table import plain
from slurmjcd.exporting import write_lines
from slurmjcd.record import decode

# fields of Open XDMoD 11, in its order
FORMAT: Final = (
    "jobid,jobidraw,cluster,partition,qos,account,group,gid,user,uid,submit,eligible,start,end,elapsed,exitcode,state,"
    "nnodes,ncpus,reqcpus,reqmem,reqtres,alloctres,timelimit,nodelist,jobname"
)
_NO_NODES: Final = "None assigned"  # what the shredder leaves out: a job that never ran


def _time(epoch: int, never: str = "Unknown") -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch)) if epoch else never


def _asked(job: Job, what: str) -> str | None:
    parts = (part.partition("=") for part in (job["tres_req"] or "").split(","))
    return next((value for name, _, value in parts if name == what), None)


def _tres(text: str | None) -> str:
    return ",".join(sorted((text or "").split(",")))


_SAME: Final = ("cluster", "partition", "qos", "account", "group", "gid", "user", "uid")
_SACCT: Final = {
    column.title: column.value
    for column in columns.parse_format("jobid,jobidraw,exitcode,state,elapsed,timelimit,reqmem", "", lenient=False)[0]
}
_VALUES: Final[list[Callable[[Job], Any]]] = [
    _SACCT["JobID"], _SACCT["JobIDRaw"],
    *(lambda job, name=name: job[name] for name in _SAME),
    lambda job: _time(job["submit"]), lambda job: _time(job["eligible"]),
    lambda job: _time(columns.first_start(job), "None"), lambda job: _time(job["end"]),
    _SACCT["Elapsed"], _SACCT["ExitCode"], _SACCT["State"],
    lambda job: job["node_count"] or 0, lambda job: job["cpu_count"] or 0,
    lambda job: _asked(job, "cpu") or job["cpu_count"] or 0,
    _SACCT["ReqMem"], lambda job: _tres(job["tres_req"]), lambda job: _tres(job["tres_alloc"]),
    _SACCT["Timelimit"], lambda job: job["nodes"] or _NO_NODES,
]  # fmt: skip
assert len(_VALUES) + 1 == len(FORMAT.split(","))


def line(job: Job) -> str:
    """The line of a record's fields, without its end."""
    values = [plain(value(job)).replace("|", "\\x7c") for value in _VALUES]
    return "|".join([*values, plain(job["name"])])


def write(records: Iterable[bytes], out: BinaryIO) -> None:
    """Write them."""
    write_lines((line(decode(record)) for record in records), out)
