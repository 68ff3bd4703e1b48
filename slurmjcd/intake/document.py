# SPDX-License-Identifier: MIT
"""The JSON that Slurm's jobcomp/elasticsearch posts for a job, as a record. No I/O.

The names are those of `jobcomp_p_log_record` in jobcomp_elasticsearch.c (22.05) and of
`jobcomp_common_job_record_to_data` (25.05 and later). Its times are UTC without saying so, its time limits seconds,
its exit codes `code:signal`; what it has no value for is left out, null, or Slurm's own mark for nothing. It tells
neither how often a job was requeued nor why it waited, so records from here have 0 and nothing there. What it leaves
out and can be worked out from the rest is: flags of the state, the parts of a resized job, what a job had asked for.
The record is to be the one that cplugin/job_record.c makes of the same job (tests/e2e/test_intake_parity.py).
"""

from __future__ import annotations

import calendar
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from slurmjcd.errors import ProtocolError
from slurmjcd.intake.resizes import Resizes
from slurmjcd.record import encode
from slurmjcd.slurm.states import NUMBERS, is_base_state

_UINT_MAX: Final = 2**32 - 1
_NO_VAL: Final = 0xFFFFFFFE
# NO_VAL minutes as seconds in 32 bits: a job whose partition was gone has that as its limit
_NO_LIMIT_S: Final = _NO_VAL * 60 % 2**32
_UINT16_MAX: Final = 2**16 - 1
_STRING_MAX: Final = 16_384
_STRINGS_MAX: Final = {"nodes": 131_072, "comment": 65_536, "admin_comment": 65_536}  # the others; bytes
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_EXIT_CODE: Final = re.compile(r"(\d{1,3}):(\d{1,3})", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,9}", re.ASCII)
_SLUID: Final = re.compile(r"s[0-9A-HJKMNP-TV-Z]{13}", re.ASCII)
_SLUID_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
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
    "excluded_nodes": "excluded_nodes", "parent_accounts": "parent_accounts", "comment": "comment",
    "admin_comment": "admin_comment",
}  # fmt: skip
_NO_NODES: Final = frozenset({"(null)", "None assigned"})
# what a job that is resized may be called instead, and nothing else is called: job_state_string() asks for those first
_RESIZING_TOO: Final = frozenset({"COMPLETING", "STAGE_OUT", "CONFIGURING", "EXPEDITING"})
_NOBODY: Final = frozenset({99, 65_534})  # ids that have that name; Slurm before 23.02 gives it to all without one


@dataclass(frozen=True, slots=True)
class Document:
    """What became of a document: `record` is None for a job that has only begun."""

    job_id: int
    record: bytes | None


def read(body: bytes, cluster: str, resizes: Resizes, *, now: int) -> Document:
    """The job in a POST's body, of that cluster.

    Args:
        resizes: what was told of resizes before.
        now: epoch seconds; the end of a job that tells none.

    Raises:
        ProtocolError: it is no job, or one of another cluster; the text says what is wrong with which field.
    """
    job_id, fields = fields_of(_parsed(body), cluster, resizes, now=now)
    return Document(job_id, encode(fields) if fields is not None else None)


def fields_of(document: object, cluster: str, resizes: Resizes, *, now: int = 0) -> tuple[int, dict[str, Any] | None]:
    """The job's id and, unless it has only begun, its record's fields as record.encode takes them.

    Args:
        document: what the JSON says.
        now: as `read` has it; 0: a job must tell its end.

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
    if named and named.lower() != cluster.lower():
        raise ProtocolError(
            f"field 'cluster': the job is of cluster {_shown(named)}, but the address names '{cluster}': "
            "let JobCompLoc end with /intake/ and the job's cluster"
        )
    if "@end" not in job.values and "exit_code" not in job.values:
        return job_id, None  # a job that begins, as jobcomp/kafka's enable_job_start has it: it will come again
    return job_id, _fields(job, job_id, cluster, resizes, now)


def _parsed(body: bytes) -> object:
    try:
        # names of jobs and files need not be UTF-8, and Slurm writes them as they are
        return json.loads(body.decode("utf-8", "surrogateescape"), strict=False, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"the body is no JSON: {str(exc)[:200] or type(exc).__name__}") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _fields(job: _Job, job_id: int, cluster: str, resizes: Resizes, now: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"job_id": job_id, "cluster": cluster, "restart_count": 0}
    fields |= {ours: job.number(theirs) for theirs, ours in _NUMBERS.items()}
    for name, theirs, whose in (("uid", "user_id", "username"), ("gid", "group_id", "groupname")):
        if fields[name] is None:
            raise ProtocolError(f"field '{theirs}': missing")
        if job.values.get(whose) == "nobody" and fields[name] not in _NOBODY:
            job.values[whose] = None
    fields |= {ours: job.string(theirs, ours) for theirs, ours in _STRINGS.items()}
    extra: dict[str, Any] = {ours: job.string(theirs, ours) for theirs, ours in _EXTRA_STRINGS.items()}
    extra |= {name: _some(job.number(name), _UINT16_MAX - 2) for name in ("ntasks_per_node", "cpus_per_task")}
    extra["ntasks"] = _some(job.number("ntasks"), _UINT_MAX)
    ran = _set_resources(fields)
    fields["state"], extra["state_flags"] = job.state(ran)
    fields |= {name: job.time(f"@{name}") for name in ("submit", "eligible", "start", "end")}
    if fields["end"] == 0:
        if not now:
            raise ProtocolError("field '@end': the time at which the job ended was expected, there is none")
        fields["end"] = now
    if ran and fields["start"]:
        extra["orig_start"] = _set_part(fields, job, resizes, extra["state_flags"] == NUMBERS["RESIZING"])
    else:
        fields["start"] = 0
    fields["exit_code"], fields["derived_exit_code"] = job.status("exit_code"), job.status("derived_ec")
    if fields["exit_code"] == 1:
        fields["exit_code"] = 256  # Slurm sets 1 for a failure of its own; it is no signal, says slurmdbd
    fields["time_limit"] = job.limit()
    fields["sluid"] = job.sluid("original_sluid")
    if job.number("array_job_id"):
        fields |= {name: job.number(name) for name in ("array_job_id", "array_task_id")}
    if job.number("het_job_id"):  # 0 where the job is no part of one
        fields |= {name: job.number(name) for name in ("het_job_id", "het_job_offset")}
    extra["truncated"] = ",".join(job.truncated) or None
    fields["extra"] = {name: value for name, value in extra.items() if value}
    return fields


def _some(number: int | None, most: int) -> int | None:
    """Nothing for Slurm's marks for nothing in 16 bits, which are the highest numbers, and for 0."""
    return number if number and number <= most else None


def _set_resources(fields: dict[str, Any]) -> bool:
    """Whether the job ran. One that did not has no nodes, and what it asked for is told in tres_req only."""
    asked = dict(item.partition("=")[::2] for item in (fields["tres_req"] or "").split(","))
    if fields["nodes"] is not None or (fields["tres_req"] and "node" not in asked):  # only who asks for none runs so
        return True
    for name, tres in (("node_count", "node"), ("cpu_count", "cpu")):
        count = asked.get(tres, "")
        fields[name] = fields[name] or (int(count) if _COUNT.fullmatch(count) else None) or None
    return False


def _set_part(fields: dict[str, Any], job: _Job, resizes: Resizes, resizing: bool) -> int | None:
    """Set the times of one part of a job that was resized; gives when the job itself began, where that is another time.

    A resize ends one record and begins the next, and is told as the start of both. When the job began is told by how
    long it had waited.
    """
    waited = job.values.get("@queue_wait")
    if type(waited) is not int or not fields["eligible"]:
        return None
    resized: int = fields["start"]
    started: int = fields["eligible"] + waited
    if not 0 < started <= max(resized, fields["end"]):
        return None
    begun = resized
    if resizing:
        fields["end"] = resized
        begun = resizes.part_begins(fields["cluster"], fields["job_id"], started=started, resized=resized)
    if begun <= started:  # the first part; or it was resized in a run before this one, which Slurm does not forget
        fields["start"] = started
        return None
    # as slurmdbd has it, a part becomes eligible when it begins
    fields["eligible"] = fields["start"] = begun
    return started


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
        limit = _STRINGS_MAX.get(ours, _STRING_MAX)
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

    def state(self, ran: bool) -> tuple[int, int | None]:
        """The base state and flags.

        Only for a job that is resized, and goes on as another run, the name is that of a flag. Other flags are left
        out; without them a job that is requeued seems to wait, and one that was revoked because a sibling of its
        federation ran seems to wait or to have run.
        """
        value = self.values.get("state")
        name = value if isinstance(value, str) else ""
        number = NUMBERS.get("RESIZING" if name in _RESIZING_TOO else name)
        if number is None:
            raise _wrong("state", value, "the name of a job's state, as COMPLETED")
        if not is_base_state(number):
            return NUMBERS["RUNNING"], number
        if name == "PENDING":
            return number, NUMBERS["REQUEUED" if ran else "REVOKED"]
        return number, NUMBERS["REVOKED"] if name == "COMPLETED" and not ran else None

    def status(self, name: str) -> int | None:
        """A wait status out of code:signal."""
        value = self.values.get(name)
        if value is None:
            return None
        found = _EXIT_CODE.fullmatch(value) if isinstance(value, str) else None
        if found is None or int(found[1]) > 255 or int(found[2]) > 127:
            raise _wrong(name, value, "an exit code and a signal, as 1:0")
        return int(found[1]) << 8 | int(found[2])

    def sluid(self, name: str) -> int | None:
        """13 digits of 5 bits, most significant first, behind an s."""
        value = self.string(name)
        if value is None:
            return None
        if not _SLUID.fullmatch(value):
            raise _wrong(name, value, "a SLUID, as s0123456789ABC")
        number = 0
        for digit in value[1:]:
            number = number << 5 | _SLUID_DIGITS.index(digit)
        if number >= 2**64:
            raise _wrong(name, value, "a SLUID of 64 bits")
        return number or None

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
