# SPDX-License-Identifier: MIT
"""A job a line, as `slurmjc jobs --ndjson` has it, with all that is needed to make the record of it again.

The keys of `slurmjc.jobs/1` hold nearly every record whole: `fields_of` takes them back. Of those that they don't hold
(bytes that are no UTF-8, a state hidden behind a flag such as REQUEUED, a core dump in a wait status, elements of a
later version) the line has the record itself as well, in base64 under the key `record`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import msgpack

from slurmjcd.client.jsonform import job_object
from slurmjcd.errors import ProtocolError
from slurmjcd.exporting import write_lines
from slurmjcd.record import FIELDS, decode
from slurmjcd.slurm.states import FLAGS_MASK, NUMBERS, is_base_state

RECORD: Final = "record"
_TIMES: Final = ("submit", "eligible", "start", "end")
_LIMITS: Final[dict[Any, str | None]] = {None: None, "unlimited": "UNLIMITED", "partition_limit": "Partition_Limit"}
_STATUSES: Final = ("exit_code", "derived_exit_code")
_PLAIN: Final = (str, int, type(None))


def write(records: Iterable[bytes], out: BinaryIO) -> None:
    """Write them."""
    write_lines(lines(records), out)


def lines(records: Iterable[bytes]) -> Iterator[str]:
    """ASCII, without the line end."""
    for record in records:
        fields = decode(record)
        job = job_object(fields)
        if not _is_held(record, fields):
            job[RECORD] = base64.b64encode(record).decode("ascii")
        yield json.dumps(job)


def _is_held(record: bytes, fields: dict[str, Any]) -> bool:
    """Whether the object's other keys say all that is in the record."""
    try:
        row = msgpack.unpackb(record)  # in which strings must be UTF-8
    except (ValueError, msgpack.UnpackException):
        return False
    return (
        len(row) == len(FIELDS)
        and row[0] == 1
        and is_base_state(fields["state"])
        and not (fields["extra"].get("state_flags") or 0) & FLAGS_MASK
        and all(_is_code_or_signal(fields[name]) for name in _STATUSES)
        and all(type(key) is str and type(value) in _PLAIN for key, value in fields["extra"].items())
    )


def _is_code_or_signal(status: int | None) -> bool:
    return status is None or status in range(0x80) or (status & 0xFF == 0 and status >> 8 <= 0xFF)


def fields_of(job: dict[str, Any]) -> dict[str, Any]:
    """The record's fields (as record.encode takes them) of the object that stood on a line. Unknown keys are ignored.

    Raises:
        ProtocolError: it is no such object; the text says which key is missing or wrong.
    """
    if RECORD in job:
        try:
            return decode(base64.b64decode(job[RECORD], validate=True))
        except (ValueError, TypeError) as exc:
            raise ProtocolError(f"'{RECORD}' holds no record: {exc}") from exc
    try:
        fields = {name: job[name] for name in FIELDS if name in job}
        fields["state"] = NUMBERS[job["state"]]
        for name in _STATUSES:
            status = job[name]
            fields[name] = None if status is None else status["code"] << 8 | status["signal"]
        for name in _TIMES:
            fields[name] = job[name] or 0
        limit, kind = job["time_limit_s"], job["time_limit_kind"]
        fields["time_limit"] = limit // 60 if limit is not None else _LIMITS[kind]
        missing = [name for name in FIELDS[1:] if name not in fields]
        if missing:
            raise KeyError(missing[0])
    except KeyError as exc:
        raise ProtocolError(f"this is no job of slurmjc.jobs/1: {exc} is missing or unknown") from exc
    except (TypeError, ValueError) as exc:
        raise ProtocolError(f"this is no job of slurmjc.jobs/1: {exc}") from exc
    return fields
