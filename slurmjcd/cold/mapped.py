# SPDX-License-Identifier: MIT
"""Records of files in the forms that the module gives records: names and values as in GET, upstream's array of 28."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from slurmjcd import protocol
from slurmjcd.errors import Refused
from slurmjcd.record import FIELDS, IDENTITY
from slurmjcd.slurm.states import NUMBERS

_INTEGER_MAX: Final = 2**63 - 1
_SHOWN: Final = (NUMBERS["RESIZING"], NUMBERS["REQUEUED"], NUMBERS["REVOKED"])  # instead of the base state
_ORDER: Final = [name.encode() for name in ("end", "job_id", "submit", "start", "restart_count", "cluster")]
_SAME: Final = [name.encode() for name in IDENTITY]

Run = list[Any]  # names and values in turn


def run_of(record: bytes) -> Run:
    """A record as GET has it: absent fields left out, extra's keys inlined."""
    values = msgpack.unpackb(record, raw=True, strict_map_key=False)
    run: Run = []
    for name, value in zip(FIELDS[:-1], values, strict=False):
        if value is not None:
            run += [name.encode(), _shown(value)]
    for key, value in values[len(FIELDS) - 1].items():
        run += [key, _shown(value)]
    return run


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if value <= _INTEGER_MAX else b"%d" % value
    if isinstance(value, float):
        return b"%.17g" % value
    if isinstance(value, msgpack.ExtType):
        return value.data
    if isinstance(value, dict):
        return [_shown(part) for pair in value.items() for part in pair]
    return [_shown(part) for part in value] if isinstance(value, list) else value


def latest_runs(hot: list[Run], records: list[bytes], most_bytes: int) -> list[Run]:
    """The runs of a job that are in Redis, in files, or in both, oldest first; of each the latest report.

    Raises:
        Refused: LIMIT, those in files have more than `most_bytes`.
    """
    if sum(map(len, records)) > most_bytes:
        raise Refused(f"the answer has more than {most_bytes} bytes, narrow the criteria", code="LIMIT")
    found: dict[tuple[Any, ...], tuple[tuple[Any, ...], Run]] = {}
    for run in [*map(run_of, records), *hot]:
        fields = dict(reversed(list(zip(run[::2], run[1::2], strict=True))))  # the first of a name is the column
        same, order = tuple(fields.get(name) for name in _SAME), _order(fields)
        if same not in found or found[same][0][0] <= order[0]:
            found[same] = order, run
    return [run for _, run in sorted(found.values(), key=lambda pair: pair[0])]


def _order(fields: dict[bytes, Any]) -> tuple[Any, ...]:
    *numbers, cluster = (fields.get(name) for name in _ORDER)
    return (*(number or 0 for number in numbers), cluster is not None, cluster or b"")


def upstream_row(record: bytes) -> bytes:
    """A record as upstream's array, as RESP2 has it; see redis_module/upstream_reply.c."""
    job = dict(zip(FIELDS, msgpack.unpackb(record, raw=True, strict_map_key=False), strict=False))
    start, end, gres = job["start"] or 0, job["end"], job["extra"].get(b"req_gres")
    limit = {b"UNLIMITED": b"I", b"Partition_Limit": b"P"}.get(job["time_limit"], job["time_limit"])
    row = [
        0, 0, job["job_id"], job["partition"], start, end, end - start if start and end > start else 0, job["uid"],
        job["user"], job["gid"], job["group"], job["node_count"] or 0, job["cpu_count"] or 0, job["nodes"],
        job["name"] or b"allocation", _state(job), b"" if limit is None else limit, job["work_dir"], job["reservation"],
        gres if isinstance(gres, bytes) else None, job["account"], job["qos"], job["wckey"], job["cluster"],
        job["submit"] or 0, job["eligible"] or 0, _status(job["derived_exit_code"]), _status(job["exit_code"]),
    ]  # fmt: skip
    return bytes(protocol.reply([b"%d" % value if isinstance(value, int) else value for value in row]))


def _state(job: dict[str, Any]) -> int:
    flags = job["extra"].get(b"state_flags") or 0
    return next((flag for flag in _SHOWN if flags & flag), job["state"])


def _status(status: int | None) -> bytes | None:
    code, signal = ((status or 0) >> 8) & 0xFF, (status or 0) & 0x7F
    return b"%d:%d" % (code, signal) if code or signal else None
