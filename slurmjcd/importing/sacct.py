# SPDX-License-Identifier: MIT
"""What `sacct -P` (or -p) prints, with any list of fields, as long as its header says which.

Needed are JobIDRaw (or JobID, which doesn't tell the number of an array task), State, Submit, Start and End, and whose
the job is: UID or User, GID or Group. All other fields that a record has are taken where they are there. Steps are left
out, and so are jobs that have not ended. Times are local to where sacct ran, or what SLURM_TIME_FORMAT made of them,
%s and %FT%T%z being understood.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

from slurmjcd.importing import lines, values
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item, NoRecord, WrongFormat
from slurmjcd.importing.localtimes import LocalTimes
from slurmjcd.importing.names import Names

RECOMMENDED: Final = (
    "JobID,JobIDRaw,Cluster,Partition,Account,User,UID,Group,GID,JobName,State,ExitCode,DerivedExitCode,Submit,"
    "Eligible,Start,End,TimelimitRaw,NNodes,NCPUS,NodeList,ReqTRES,AllocTRES,WorkDir,Constraints,QOS,QOSRAW,WCKey,"
    "Reservation,Priority,Comment,AdminComment"
)
_NEEDED: Final = (
    ("jobidraw", "jobid"),
    ("state",),
    ("submit",),
    ("start",),
    ("end",),
    ("uid", "user"),
    ("gid", "group"),
)
_DELIMITERS: Final = "|\x1f\t;,^~"
_JOB_ID: Final = re.compile(r"(\d+)(?:_(\d+|\[[-\d,%.]*\])|\+(\d+))?")
_STEP: Final = re.compile(r"\d+(?:_\d+|\+\d+)?\.")
_TEXTS: Final = {
    "jobname": "name", "partition": "partition", "account": "account", "qos": "qos", "wckey": "wckey",
    "reservation": "reservation", "reqtres": "tres_req", "alloctres": "tres_alloc", "workdir": "work_dir",
    "constraints": "features", "user": "user", "group": "group",
}  # fmt: skip
_EXTRAS: Final = {
    "comment": "comment", "admincomment": "admin_comment", "systemcomment": "system_comment", "container": "container",
    "licenses": "licenses", "failednode": "failed_node", "submitline": "submit_line", "mcslabel": "mcs_label",
    "stdin": "std_in", "stdout": "std_out", "stderr": "std_err",
}  # fmt: skip
_NUMBERS: Final = {
    "qosraw": "qos_id", "nnodes": "node_count", "ncpus": "cpu_count", "alloccpus": "cpu_count", "priority": "priority",
    "restarts": "restart_count",
}  # fmt: skip
_NOT_ENDED: Final = frozenset({"PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING", "REQUEUE_HOLD"})


def looks_like(head: bytes) -> bool:
    """Whether a file with these first bytes has a header of sacct's."""
    return _columns(_first_line(head)) is not None


def _first_line(head: bytes) -> str:
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    return next((line for line in lines if line.strip() and not line.startswith("#")), "").rstrip("\r")


def _columns(header: str) -> tuple[str, list[str]] | None:
    """The delimiter and the fields, None when this is no header of sacct's."""
    for delimiter in _DELIMITERS:
        names = [name.strip().lower() for name in header.removesuffix(delimiter).split(delimiter)]
        if {"jobid", "jobidraw"} & set(names) and {"state", "submit", "start", "end", "jobname"} & set(names):
            return delimiter, names
    return None


class Sacct:
    """Lines with a header as a source of items."""

    kind = "sacct"

    def __init__(self, file: InputFile, times: LocalTimes, zone: str, cluster: str, names: Names) -> None:
        """`cluster` is for lines that don't name theirs.

        Raises:
            WrongFormat: there is no header, or it lacks a field that is needed.
        """
        self._file, self._times, self._cluster, self._names = file, times, cluster, names
        self.heading = _first_line(file.head)
        found = _columns(self.heading)
        if found is None:
            raise WrongFormat(
                f"{file.name} has no header of sacct's: its first line is {self.heading[:60]!r}, expected field names "
                "such as JobIDRaw|State|Submit (sacct -P without -n)"
            )
        self._delimiter, self._fields = found
        self._trailing = self.heading.endswith(self._delimiter)
        missing = [" or ".join(either) for either in _NEEDED if not set(either) & set(self._fields)]
        if missing:
            raise WrongFormat(
                f"{file.name} lacks {', '.join(missing)} in its header: ask for more, as in sacct -P -o {RECOMMENDED}"
            )
        self.total = file.lines - 1
        self.identity = hashlib.sha256("\0".join([self.kind, file.digest, zone, cluster]).encode()).hexdigest()

    def items(self, after: int) -> Iterator[Item]:
        rows = (piece for piece in lines.texts(self._file) if piece[1] != self.heading)
        return lines.items(rows, after, self._parse)

    def _parse(self, item: Item) -> None:
        item.fields, item.shift_s, item.knows_submit = self.parse(item.raw)

    def parse(self, text: str) -> tuple[dict[str, Any] | None, int, bool]:
        """The record's fields (None for a step and a job that has not ended), its shift, whether its submit is known.

        Raises:
            NoRecord: it has another number of fields than the header, or one of them is not what sacct prints.
        """
        # sacct -p ends each line with a delimiter, -P leaves the last field empty
        parts = (text.removesuffix(self._delimiter) if self._trailing else text).split(self._delimiter)
        if len(parts) != len(self._fields):
            raise NoRecord(
                f"{len(parts)} fields, the header has {len(self._fields)}: a name may hold a delimiter or line end; "
                "names don't hold that of sacct --delimiter=$'\\x1f'"
            )
        row = dict(zip(self._fields, parts, strict=True))
        if _STEP.match(row.get("jobidraw") or row["jobid"]) or _STEP.match(row.get("jobid", "")):
            return None, 0, False
        base, flags, cancelled_by = values.state(row["state"])
        if row["end"] in ("Unknown", "None", "", "0") and row["state"].partition(" ")[0] in _NOT_ENDED:
            return None, 0, False
        fields: dict[str, Any] = {"restart_count": 0, "state": base, "cluster": row.get("cluster") or self._cluster}
        fields |= {ours: values.text_or_none(row[name]) for name, ours in _TEXTS.items() if name in row}
        for name, ours in _NUMBERS.items():
            if row.get(name):
                fields[ours] = values.number(row[name], name)
        for ours in ("node_count", "cpu_count"):
            fields[ours] = fields.get(ours) or None
        self._set_ids(fields, row)
        ran = row.get("nodelist", "?") not in ("", "None assigned", "(null)")
        fields["nodes"] = row["nodelist"] if ran and "nodelist" in row else None
        texts = (row["submit"], row.get("eligible", ""), row["start"] if ran else "", row["end"])
        times, shift = self._times.in_order(*texts)
        fields["submit"], fields["eligible"], fields["start"], fields["end"] = times
        if "eligible" not in row:
            fields["eligible"] = fields["submit"]
        fields["exit_code"] = values.exit_status(row.get("exitcode", ""))
        fields["derived_exit_code"] = values.exit_status(row.get("derivedexitcode", ""))
        fields["time_limit"] = values.time_limit(row.get("timelimitraw") or row.get("timelimit", ""))
        extra: dict[str, Any] = {ours: row[name] for name, ours in _EXTRAS.items() if row.get(name)}
        if flags:
            extra["state_flags"] = flags
        if cancelled_by is not None:
            extra["cancelled_by"] = cancelled_by
        fields["extra"] = extra
        # the parts of a resized job: slurmdbd takes the resize for their submit, and keeps the job's start
        resized = 0 < fields["start"] < fields["submit"]
        if resized:
            extra["orig_start"] = fields["start"]
            fields["submit"], fields["start"] = fields["start"], fields["submit"]
        return fields, shift, not resized

    def _set_ids(self, fields: dict[str, Any], row: dict[str, str]) -> None:
        shown = _JOB_ID.fullmatch(row.get("jobid") or row["jobidraw"])
        raw = row.get("jobidraw", "")
        if shown is None or (raw and not raw.isdigit()):
            raise NoRecord(f"'{row.get('jobid') or raw}' is no job id of one job")
        _, task, part = shown.groups()
        if not raw and (task or part):
            raise NoRecord(f"{row['jobid']} is a job of which only JobIDRaw tells the id: add that field")
        fields["job_id"] = values.number(raw or shown[1], "JobIDRaw")
        if task:
            fields["array_job_id"] = int(shown[1])
            # 39_[0-3]: cancelled before the tasks became jobs of their own
            fields["array_task_id"] = None if task.startswith("[") else values.number(task, "JobID")
        if part:
            fields["het_job_id"], fields["het_job_offset"] = int(shown[1]), values.number(part, "JobID")
        fields["uid"] = values.number(row["uid"], "UID") if row.get("uid") else self._names.uid(row.get("user", ""))
        fields["gid"] = values.number(row["gid"], "GID") if row.get("gid") else self._names.gid(row.get("group", ""))
