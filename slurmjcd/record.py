# SPDX-License-Identifier: MIT
"""The record of one run of a job, as schema/record.json describes it (a test holds the two together). No I/O."""

from __future__ import annotations

from typing import Any, Final, cast

import msgpack

from slurmjcd.errors import ProtocolError

FIELDS: Final = [
    "version",
    "job_id",
    "array_job_id",
    "array_task_id",
    "het_job_id",
    "het_job_offset",
    "sluid",
    "uid",
    "gid",
    "user",
    "group",
    "name",
    "cluster",
    "partition",
    "account",
    "qos",
    "qos_id",
    "wckey",
    "reservation",
    "state",
    "state_reason",
    "exit_code",
    "derived_exit_code",
    "submit",
    "eligible",
    "start",
    "end",
    "time_limit",
    "node_count",
    "cpu_count",
    "nodes",
    "tres_req",
    "tres_alloc",
    "work_dir",
    "features",
    "priority",
    "restart_count",
    "extra",
]
POSITION: Final = {name: position for position, name in enumerate(FIELDS)}
IDENTITY: Final = ("cluster", "job_id", "submit", "start", "restart_count")

_ARRAY_16: Final = 0xDC
_FIXINT_MAX: Final = 0x7F
_UINT_BYTES: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}

_UNPACK_OPTIONS: Final[dict[str, Any]] = {
    "raw": False,
    "unicode_errors": "surrogateescape",  # strings of a record need not be UTF-8
    "strict_map_key": True,
}


def decode_row(record: bytes) -> list[Any]:
    """The record's values by position.

    Raises:
        ProtocolError: it is no record.
    """
    try:
        row = msgpack.unpackb(record, **_UNPACK_OPTIONS)
    except (ValueError, msgpack.UnpackException) as exc:
        raise ProtocolError(f"not a record: {exc or type(exc).__name__}") from exc
    if not isinstance(row, list) or len(row) < len(FIELDS):
        raise ProtocolError(f"not a record: an array of at least {len(FIELDS)} values was expected")
    return row


def peek_job_id(data: bytes, start: int, end: int) -> int | None:
    """The job id of the record in data[start:end], of which nothing else is read; None where there is none."""
    try:
        # the array's head takes three bytes, the version one
        if data[start] == _ARRAY_16 and data[start + 3] <= _FIXINT_MAX:
            kind = data[start + 4]
            if kind <= _FIXINT_MAX:
                return kind
            if kind in _UINT_BYTES:
                return int.from_bytes(data[start + 5 : start + 5 + _UINT_BYTES[kind]], "big")
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(data[start:end])
        unpacker.read_array_header()
        unpacker.skip()
        value = unpacker.unpack()
    except (ValueError, IndexError, msgpack.UnpackException):
        return None
    return value if isinstance(value, int) and value >= 0 else None


def decode(record: bytes) -> dict[str, Any]:
    """The record as field name to value; `extra` is a dict. Elements of later versions are left out."""
    fields = dict(zip(FIELDS, decode_row(record), strict=False))
    if not isinstance(fields["extra"], dict):
        raise ProtocolError("not a record: its last value must be a map")
    return fields


def encode(fields: dict[str, Any]) -> bytes:
    """The record of these fields; those not named are absent (`extra`: empty, `version`: 1)."""
    row = [fields.get(name) for name in FIELDS]
    row[0] = 1 if row[0] is None else row[0]
    row[-1] = row[-1] or {}
    return cast(bytes, msgpack.packb(row, unicode_errors="surrogateescape"))
