# SPDX-License-Identifier: MIT
"""jobcomp/filetxt's log: a line a job, `JobId=17 UserId=ada(1000) …`, as Slurm 17.11 to 26.05 write it.

Values stand there unquoted, so a name may hold what looks like the next field. A line that can be read in two ways is
refused rather than guessed. Up to Slurm 24.05 a line has at most 1,023 bytes: what is longer is cut and has no line
end, so the next job follows on the same line. Times are local to slurmctld's host, see localtimes.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

from slurmjcd.importing import lines, values
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item, NoRecord
from slurmjcd.importing.localtimes import LocalTimes

_CUT_BYTES: Final = 1023
_START: Final = b"JobId="
_LINE: Final = re.compile(
    r"JobId=(?P<job>\d+) UserId=(?P<user>.*?)\((?P<uid>\d+)\) GroupId=(?P<group>.*?)\((?P<gid>\d+)\) "
    r"Name=(?P<name>.*?) JobState=(?P<state>\S+) Partition=(?P<partition>\S*) TimeLimit=(?P<limit>\S+) "
    r"StartTime=(?P<start>\S+) EndTime=(?P<end>\S+) NodeList=(?P<nodes>\S*) NodeCnt=(?P<node_count>\d+) "
    r"ProcCnt=(?P<cpu_count>\d+) WorkDir=(?P<work_dir>.*?) ReservationName=(?P<reservation>.*?) "
    r"(?:Tres=(?P<tres>\S*)|Gres=(?P<gres>\S*)) Account=(?P<account>\S*) QOS=(?P<qos>\S*) WcKey=(?P<wckey>\S*) "
    r"Cluster=(?P<cluster>\S*) SubmitTime=(?P<submit>\S+) EligibleTime=(?P<eligible>\S+)"
    r"(?: ArrayJobId=(?P<array>\d+) ArrayTaskId=(?P<task>\d+))?"
    r"(?: (?:Het|Pack)JobId=(?P<het>\d+) (?:Het|Pack)JobOffset=(?P<offset>\d+))?"
    r"(?: DerivedExitCode=(?P<derived>\d+:\d+))?(?: ExitCode=(?P<exit>\d+:\d+))?(?P<rest>.*)",
    re.DOTALL,
)
_KEYS: Final = (
    "JobId", "UserId", "GroupId", "Name", "JobState", "Partition", "TimeLimit", "StartTime", "EndTime", "NodeList",
    "NodeCnt", "ProcCnt", "WorkDir", "ReservationName", "(?:Tres|Gres)", "Account", "QOS", "WcKey", "Cluster",
    "SubmitTime", "EligibleTime",
)  # fmt: skip
_KEY: Final = re.compile(
    rf" (?:{'|'.join(_KEYS)}|ArrayJobId|ArrayTaskId|HetJobId|HetJobOffset|DerivedExitCode|ExitCode)="
)
_FREE: Final = ("user", "group", "name", "work_dir", "reservation", "rest")


def looks_like(head: bytes) -> bool:
    """Whether a file with these first bytes is such a log."""
    lines = [line for line in head.splitlines() if line.strip() and not line.startswith(b"#")]
    return bool(lines) and any(line.startswith(b"JobId=") and b" UserId=" in line for line in lines[:5])


class Filetxt:
    """A log as a source of items."""

    kind = "filetxt"
    heading = ""

    def __init__(self, file: InputFile, times: LocalTimes, zone: str, cluster: str) -> None:
        """`cluster` is for lines that say 'unknown', which is what Slurm writes without slurmdbd."""
        self._file, self._times, self._cluster = file, times, cluster
        self.total = file.lines
        self.identity = hashlib.sha256("\0".join([self.kind, file.digest, zone, cluster]).encode()).hexdigest()

    def items(self, after: int) -> Iterator[Item]:
        return lines.items(self._pieces(), after, self._parse)

    def _parse(self, item: Item) -> None:
        item.fields, item.shift_s = self.parse(item.raw)

    def _pieces(self) -> Iterator[lines.Piece]:
        """Line number and text of each job; lines without one are left out."""
        with self._file.open() as file:
            for number, line in enumerate(file, 1):
                rest = line.rstrip(b"\n")
                if not rest or rest.isspace() or rest.startswith(b"#"):
                    continue
                while rest[_CUT_BYTES:].startswith(_START):
                    yield str(number), rest[:_CUT_BYTES].decode("utf-8", "surrogateescape")
                    rest = rest[_CUT_BYTES:]
                yield str(number), rest.decode("utf-8", "surrogateescape")

    def parse(self, text: str) -> tuple[dict[str, Any], int]:
        """The record's fields, and the shift of its times.

        Raises:
            NoRecord: the line is none of these, or can be read in two ways.
        """
        match = _LINE.match(text)
        if match is None:
            raise NoRecord(_why(text))
        (job, user, uid, group, gid, name, state, partition, limit, start, end, nodes, node_count, cpu_count, work_dir,
         reservation, tres, gres, account, qos, wckey, cluster, submit, eligible, array, task, het, offset, derived,
         status, rest) = match.groups()  # fmt: skip
        if status is None and _size(text) < _CUT_BYTES:
            raise NoRecord("ExitCode= is missing at its end, the line is cut")
        if (" " in name or " " in work_dir or " " in reservation or (status and rest not in ("", " "))) and (
            found := next(
                (key for free in _FREE[: 6 if status else 5] if (key := _KEY.search(" " + match[free]))), None
            )
        ):
            raise NoRecord(f"a name or path holds '{found[0].strip()}', so the line can be read in two ways")
        ran = nodes not in ("", "(null)")
        times, shift = self._times.in_order(submit, eligible, start if ran else "", end)
        base, flags, _ = values.state(state)
        if flags and times[2] == times[3]:
            times[2] = 0  # Slurm writes the resize as start and end of the part before it: when that began is unknown
        fields: dict[str, Any] = {
            "job_id": values.number(job, "JobId"), "uid": values.number(uid, "UserId"),
            "gid": values.number(gid, "GroupId"), "user": None if user == uid else values.text_or_none(user),
            "group": None if group == gid else values.text_or_none(group),
            "name": None if name == "(null)" else name or None,
            "cluster": values.text_or_none(cluster) or self._cluster,
            "partition": values.text_or_none(partition), "account": values.text_or_none(account),
            "qos": values.text_or_none(qos), "wckey": values.text_or_none(wckey),
            "reservation": values.text_or_none(reservation), "state": base,
            "exit_code": values.exit_status(status or ""),
            "derived_exit_code": values.exit_status(derived or ""), "submit": times[0], "eligible": times[1],
            "start": times[2], "end": times[3], "time_limit": values.time_limit(limit),
            "node_count": values.number(node_count, "NodeCnt") or None,
            "cpu_count": values.number(cpu_count, "ProcCnt") or None, "nodes": nodes if ran else None,
            "tres_req": values.text_or_none(tres or ""), "work_dir": values.text_or_none(work_dir), "restart_count": 0,
        }  # fmt: skip
        extra: dict[str, Any] = {"state_flags": flags} if flags else {}
        if gres:  # up to 18.08, which had no TRES there
            extra["req_gres"] = gres
        fields["extra"] = extra
        if array is not None:
            fields["array_job_id"], fields["array_task_id"] = int(array), int(task)
        if het is not None:
            fields["het_job_id"], fields["het_job_offset"] = int(het), int(offset)
        if not fields["submit"]:
            raise NoRecord("its SubmitTime is unknown, so the run can't be told from others of its job id")
        return fields, shift


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _why(text: str) -> str:
    """Which field is the first that isn't there."""
    if not text.startswith("JobId="):
        return "it doesn't begin with JobId=, so it is no line of jobcomp/filetxt"
    at = 0
    for key in _KEYS[1:]:
        found = re.compile(rf" {key}=").search(text, at)
        if found is None:
            said = key.strip("(?:)").split("|")[0]
            cut = "; Slurm cut it at 1,023 bytes" if _size(text) == _CUT_BYTES else ""
            return f"{said}= is missing or in another place{cut}"
        at = found.start() + 1
    return "a field has a value that jobcomp/filetxt never writes"
