# SPDX-License-Identifier: MIT
"""What `sacct --json` prints: one document, as Slurm 22.05 and 24.11 write it.

A number is plain there or {"set", "infinite", "number"}; a state is a word or a list. It names users and groups without
their ids, which this host's passwd and group tell. Slurm 22.05 prints 0 for each exit code that is no signal: of jobs
that did not complete it is taken as unknown. The document is read whole: some 10 kB of memory a job with its steps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from slurmjcd.importing import values
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item, NoRecord, WrongFormat
from slurmjcd.importing.names import Names

_BEGIN: Final = re.compile(rb"(?:#[^\n]*\n|\s)*\{")
_REMARKS: Final = re.compile(rb"^#[^\n]*\n", re.MULTILINE)
_COMPLETED: Final = 3
_NOT_ENDED: Final = 3  # states below have not
_TEXTS: Final = {
    "name": "name", "cluster": "cluster", "partition": "partition", "account": "account", "group": "group",
    "qos": "qos", "constraints": "features", "working_directory": "work_dir",
}  # fmt: skip
_EXTRAS: Final = {
    "container": "container", "licenses": "licenses", "failed_node": "failed_node", "submit_line": "submit_line",
    "stdin": "std_in", "stdout": "std_out", "stderr": "std_err", "script": "script",
}  # fmt: skip
_MEGABYTE_UNITS: Final = (("T", 1024 * 1024), ("G", 1024), ("M", 1))


def looks_like(head: bytes) -> bool:
    """Whether a file with these first bytes is a JSON object that may have jobs."""
    return bool(_BEGIN.match(head)) and (b'"jobs"' in head or b'"meta"' in head)


class SacctJson:
    """A document as a source of items."""

    kind = "sacct-json"
    heading = ""

    def __init__(self, file: InputFile, cluster: str, names: Names) -> None:
        """Read all of it.

        Raises:
            WrongFormat: it is no JSON, or not sacct's.
        """
        try:
            with file.open() as opened:
                text = _REMARKS.sub(b"", opened.read()).decode("utf-8", "surrogateescape")
            jobs = [job for document in _documents(text.lstrip()) for job in _jobs_of(document)]
        except (ValueError, RecursionError) as exc:
            raise WrongFormat(f"{file.name} is not what sacct --json prints: {exc}") from exc
        self._jobs, self._cluster, self._names = jobs, cluster, names
        self.total = len(jobs)
        self.identity = hashlib.sha256("\0".join([self.kind, file.digest, cluster]).encode()).hexdigest()

    def items(self, after: int) -> Iterator[Item]:
        for number, job in enumerate(self._jobs[after:], after + 1):
            item = Item(f"jobs[{number - 1}]", "")
            try:
                self._parse(item, job)
            except NoRecord as exc:
                item.fields, item.refused = None, str(exc)
                item.raw = json.dumps({"jobs": [job]})
            yield item

    def _parse(self, item: Item, job: Any) -> None:
        """Put the record's fields into the item; none for a job that has not ended.

        Raises:
            NoRecord: a field is missing, or not what sacct prints.
        """
        try:
            fields = self._fields(job)
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            if isinstance(exc, NoRecord):
                raise
            raise NoRecord(f"not a job of sacct --json: {type(exc).__name__} {exc}") from exc
        if fields is not None and 0 < fields["start"] < fields["submit"]:
            # a part of a resized job, see sacct.py
            fields["extra"]["orig_start"] = fields["start"]
            fields["submit"], fields["start"] = fields["start"], fields["submit"]
            item.knows_submit = False
        item.fields = fields

    def _fields(self, job: dict[str, Any]) -> dict[str, Any] | None:
        base, flags = _state(job["state"]["current"])
        times = {name: _number(job["time"].get(name)) or 0 for name in ("submission", "eligible", "start", "end")}
        if base < _NOT_ENDED and not times["end"]:
            return None
        fields: dict[str, Any] = {ours: values.text_or_none(job.get(name) or "") for name, ours in _TEXTS.items()}
        association = job.get("association") or {}
        user = job.get("user") or association.get("user") or ""
        ran = (job.get("nodes") or "") not in ("", "None assigned")
        exit_code = _exit_status(job.get("exit_code"))
        comment = job.get("comment") or {}
        fields |= {
            "job_id": values.number(str(_number(job["job_id"])), "job_id"), "user": user or None, "state": base,
            "cluster": fields["cluster"] or self._cluster, "uid": self._names.uid(user),
            "gid": self._names.gid(job.get("group") or ""), "submit": times["submission"],
            "eligible": times["eligible"], "start": times["start"] if ran else 0, "end": times["end"],
            "exit_code": 0 if base == _COMPLETED and exit_code is None else exit_code,
            "derived_exit_code": _exit_status(job.get("derived_exit_code")),
            "time_limit": _limit(job["time"].get("limit")),
            "node_count": _number(job.get("allocation_nodes")) or None, "nodes": job["nodes"] if ran else None,
            "cpu_count": _cpus(job), "tres_req": _tres(job, "requested"), "tres_alloc": _tres(job, "allocated"),
            "wckey": _wckey(job.get("wckey") or {}), "priority": _number(job.get("priority")),
            "reservation": _text((job.get("reservation") or {}).get("name")),
            "restart_count": _number(job.get("restart_cnt")) or 0,
        }  # fmt: skip
        extra = {ours: job[name] for name, ours in _EXTRAS.items() if job.get(name)}
        for name, ours in (("job", "comment"), ("administrator", "admin_comment"), ("system", "system_comment")):
            if comment.get(name):
                extra[ours] = comment[name]
        if flags:
            extra["state_flags"] = flags
        if suspended := _number(job["time"].get("suspended")):
            extra["suspended"] = suspended
        self._set_parts(fields, job)
        return fields | {"extra": extra}

    @staticmethod
    def _set_parts(fields: dict[str, Any], job: dict[str, Any]) -> None:
        array, het = job.get("array") or {}, job.get("het") or {}
        if job_id := _number(array.get("job_id")):
            fields["array_job_id"], fields["array_task_id"] = job_id, _number(array.get("task_id"))
        if job_id := _number(het.get("job_id")):
            fields["het_job_id"], fields["het_job_offset"] = job_id, _number(het.get("job_offset"))


def _documents(text: str) -> Iterator[Any]:
    """One document, or several behind each other as in a file of refused jobs."""
    decoder, at, end = json.JSONDecoder(), 0, len(text.rstrip())
    while at < end:
        document, at = decoder.raw_decode(text, at)
        yield document
        while at < end and text[at].isspace():
            at += 1


def _jobs_of(document: Any) -> list[Any]:
    jobs = document.get("jobs") if isinstance(document, dict) else None
    if not isinstance(jobs, list):
        raise ValueError("expected an object with a list 'jobs'")
    return jobs


def _number(value: Any) -> int | None:
    """A number of either form, None when it is not set or infinite."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    if value is None:
        return None
    if not isinstance(value, int) or value < 0:
        raise NoRecord(f"a number was expected, not {value!r}")
    return value


def _text(value: Any) -> str | None:
    """22.05 prints an absent name as 0."""
    return value if isinstance(value, str) and value else None


def _state(value: Any) -> tuple[int, int]:
    """Base state and flags, of one word or a list of words."""
    words = [value] if isinstance(value, str) else value
    found = [values.state(word)[:2] for word in words]
    if not found:
        raise NoRecord("a job without a state")
    flags = 0
    for _, more in found:
        flags |= more
    base = next((base for base, more in found if not more), found[0][0])
    return base, flags


def _exit_status(value: Any) -> int | None:
    if not isinstance(value, dict):
        return None
    signal = value.get("signal") or {}
    number = _number(signal.get("signal_id", signal.get("id")))
    if number:
        return number & 0x7F
    code = _number(value.get("return_code"))
    if code is None or value["return_code"] == 0:  # a plain one is 22.05's, see above
        return None
    return (code & 0xFF) << 8


def _wckey(value: dict[str, Any]) -> str | None:
    """sacct marks a default one with an asterisk, and so does Slurm in the job."""
    mark = "*" if "ASSIGNED_DEFAULT" in (value.get("flags") or ()) else ""
    return mark + (value.get("wckey") or "") or None


def _limit(value: Any) -> int | str | None:
    if value == "UNLIMITED" or (isinstance(value, dict) and value.get("infinite")):
        return "UNLIMITED"
    return values.time_limit(value) if isinstance(value, str) else _number(value)


def _cpus(job: dict[str, Any]) -> int | None:
    allocated = (job.get("tres") or {}).get("allocated") or []
    found = next((_number(one.get("count")) for one in allocated if one.get("type") == "cpu"), None)
    return found or _number((job.get("required") or {}).get("CPUs")) or None


def _tres(job: dict[str, Any], which: str) -> str | None:
    """As Slurm formats them: cpu=8,mem=4G,node=2,gres/gpu=1."""
    parts = []
    for one in (job.get("tres") or {}).get(which) or []:
        count = _number(one.get("count")) if one.get("count") != -2 else None
        if count:
            name = one["type"] + (f"/{one['name']}" if one.get("name") else "")
            parts.append(f"{name}={_megabytes(count) if one['type'] == 'mem' else count}")
    return ",".join(parts) or None


def _megabytes(count: int) -> str:
    unit, size = next((unit, size) for unit, size in _MEGABYTE_UNITS if count % size == 0)
    return f"{count // size}{unit}"
