# SPDX-License-Identifier: MIT
"""The JSON that Slurm's jobcomp/elasticsearch posts for a job, as a record. No I/O.

The names are those of `jobcomp_p_log_record` in jobcomp_elasticsearch.c (22.05) and of
`jobcomp_common_job_record_to_data` (25.05 and later). Its times are UTC without saying so, its time limits seconds,
its exit codes `code:signal`; what it has no value for is left out, null, or Slurm's own mark for nothing. It tells
neither how often a job was requeued nor why it waited, so records from here have 0 and nothing there.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from slurmjcd.errors import ProtocolError
from slurmjcd.record import encode
from slurmjcd.slurm.states import NUMBERS

_UINT_MAX: Final = 2**32 - 1
_NO_VAL: Final = 0xFFFFFFFE
# NO_VAL minutes as seconds in 32 bits: a job whose partition was gone has that as its limit
_NO_LIMIT_S: Final = _NO_VAL * 60 % 2**32
_STATE_BASE_MAX: Final = 255
_STRING_MAX: Final = 16_384
_NODES_MAX: Final = 131_072
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_EXIT_CODE: Final = re.compile(r"(\d{1,3}):(\d{1,3})", re.ASCII)
_SHOWN: Final = 60  # characters of a foreign value in an error

_NUMBERS: Final = {  # of the document: of the record
    "user_id": "uid", "group_id": "gid", "total_nodes": "node_count", "total_cpus": "cpu_count", "priority": "priority",
}  # fmt: skip
_STRINGS: Final = {
    "username": "user", "groupname": "group", "job_name": "name", "partition": "partition", "account": "account",
    "qos": "qos", "wc_key": "wckey", "reservation_name": "reservation", "nodes": "nodes", "tres_req": "tres_req",
    "tres_alloc": "tres_alloc", "work_dir": "work_dir", "features": "features",
}  # fmt: skip
_EXTRA_STRINGS: Final = {
    "std_in": "std_in", "std_out": "std_out", "std_err": "std_err", "container": "container", "licenses": "licenses",
    "orig_dependency": "dependency", "alloc_node": "alloc_node", "failed_node": "failed_node",
    "excluded_nodes": "excluded_nodes", "parent_accounts": "parent_accounts",
}  # fmt: skip
_EXTRA_NUMBERS: Final = ("ntasks", "ntasks_per_node", "cpus_per_task")
_NO_NODES: Final = frozenset({"(null)", "None assigned"})


@dataclass(frozen=True, slots=True)
class Document:
    """What became of a document: `record` is None for a job that has only begun."""

    job_id: int
    record: bytes | None


def read(body: bytes, cluster: str) -> Document:
    """The job in a POST's body, of that cluster.

    Raises:
        ProtocolError: it is no job, or one of another cluster; the text says what is wrong with which field.
    """
    job_id, fields = fields_of(_parsed(body), cluster)
    return Document(job_id, encode(fields) if fields is not None else None)


def fields_of(document: object, cluster: str) -> tuple[int, dict[str, Any] | None]:
    """The job's id and, unless it has only begun, its record's fields as record.encode takes them.

    Args:
        document: what the JSON says.

    Raises:
        ProtocolError: as `read` has it.
    """
    if not isinstance(document, dict):
        raise ProtocolError("JSON, but no object with a job's fields")
    job = _Job(document)
    job_id = job.number("jobid")
    if not job_id:
        raise ProtocolError("field 'jobid': a job's id was expected, there is none")
    named = job.string("cluster")
    if named and named != cluster:
        raise ProtocolError(
            f"field 'cluster': the job is of cluster {_shown(named)}, but the address names '{cluster}': "
            "let JobCompLoc end with /intake/ and the job's cluster"
        )
    if "@end" not in job.values and "exit_code" not in job.values:
        return job_id, None  # JobCompParams=job_start: the job will come again
    return job_id, _fields(job, job_id, cluster)


def _parsed(body: bytes) -> object:
    try:
        # names of jobs and files need not be UTF-8, and Slurm writes them as they are
        return json.loads(body.decode("utf-8", "surrogateescape"), strict=False, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"the body is no JSON: {str(exc)[:200] or type(exc).__name__}") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _fields(job: _Job, job_id: int, cluster: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"job_id": job_id, "cluster": cluster, "restart_count": 0}
    extra: dict[str, Any] = {}
    fields |= {ours: job.number(theirs) for theirs, ours in _NUMBERS.items()}
    for name in ("uid", "gid"):
        if fields[name] is None:
            raise ProtocolError(f"field '{'user_id' if name == 'uid' else 'group_id'}': missing")
    fields |= {ours: job.string(theirs, ours) for theirs, ours in _STRINGS.items()}
    fields |= {name: job.time(f"@{name}") for name in ("submit", "eligible", "start", "end")}
    if not fields["end"]:
        raise ProtocolError("field '@end': the time at which the job ended was expected, there is none")
    if fields["nodes"] is None:
        # it never ran: slurmctld says that it began when it ended, and had nothing
        fields["start"] = 0
        fields |= {name: fields[name] or None for name in ("node_count", "cpu_count")}
    fields["state"], flags = job.state()
    fields["exit_code"], fields["derived_exit_code"] = job.status("exit_code"), job.status("derived_ec")
    fields["time_limit"] = job.limit()
    if job.number("array_job_id"):
        fields |= {name: job.number(name) for name in ("array_job_id", "array_task_id")}
    if job.number("het_job_id"):  # 0 where the job is no part of one
        fields |= {name: job.number(name) for name in ("het_job_id", "het_job_offset")}
    extra |= {ours: job.string(theirs, ours) for theirs, ours in _EXTRA_STRINGS.items()}
    extra |= {name: job.number(name) for name in _EXTRA_NUMBERS}
    extra |= {"state_flags": flags or None, "truncated": ",".join(job.truncated) or None}
    fields["extra"] = {name: value for name, value in extra.items() if value is not None}
    return fields


class _Job:
    """The values of one document; each is checked as it is read."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.truncated: list[str] = []  # the record's names of strings that were longer than they may be

    def number(self, name: str) -> int | None:
        """0 to 2^32-1; None where there is none."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _UINT_MAX:
            raise _wrong(name, value, f"a number from 0 to {_UINT_MAX}")
        return value if value < _NO_VAL else None

    def string(self, name: str, ours: str = "") -> str | None:
        """None where there is nothing; cut at what the record's field may have (schema/record.json)."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or "\0" in value:
            raise _wrong(name, value, "a string without NUL")
        if not value or (ours == "nodes" and value in _NO_NODES):
            return None
        limit = _NODES_MAX if ours == "nodes" else _STRING_MAX
        try:
            raw = value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise _wrong(name, value, "a string of whole characters") from None
        if len(raw) <= limit:
            return value
        self.truncated.append(ours)
        while limit and raw[limit] & 0xC0 == 0x80:
            limit -= 1
        return raw[:limit].decode("utf-8", "surrogateescape")

    def time(self, name: str) -> int:
        """Epoch seconds; 0 for never."""
        value = self.values.get(name)
        if value is None or value == "Unknown":
            return 0
        try:
            if not isinstance(value, str) or not _TIME.fullmatch(value):
                raise ValueError
            return max(calendar.timegm(time.strptime(value, "%Y-%m-%dT%H:%M:%S")), 0)
        except ValueError:
            raise _wrong(name, value, "a time as 2026-03-01T12:00:00, in UTC") from None

    def state(self) -> tuple[int, int]:
        """The base state, and the flag that was shown in its place: a job that is resized goes on as another run."""
        value = self.values.get("state")
        number = NUMBERS.get(value) if isinstance(value, str) else None
        if number is None:
            raise _wrong("state", value, "the name of a job's state, as COMPLETED")
        return (number, 0) if number <= _STATE_BASE_MAX else (NUMBERS["RUNNING"], number)

    def status(self, name: str) -> int | None:
        """A wait status out of code:signal."""
        value = self.values.get(name)
        if value is None:
            return None
        found = _EXIT_CODE.fullmatch(value) if isinstance(value, str) else None
        if found is None or int(found[1]) > 255 or int(found[2]) > 127:
            raise _wrong(name, value, "an exit code and a signal, as 1:0")
        return int(found[1]) << 8 | int(found[2])

    def limit(self) -> int | str | None:
        """Minutes."""
        seconds = self.number("time_limit")
        if seconds is None:
            return "UNLIMITED"
        return seconds // 60 if seconds != _NO_LIMIT_S else None


def _wrong(name: str, value: object, expected: str) -> ProtocolError:
    return ProtocolError(f"field '{name}': {expected} was expected, not {_shown(value)}")


def _shown(value: object) -> str:
    """A foreign value as it may stand in a log line."""
    return json.dumps(value)[:_SHOWN]
