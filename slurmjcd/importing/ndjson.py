# SPDX-License-Identifier: MIT
"""What `slurmjc export` wrote as NDJSON: whole records, so what comes in is what went out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from slurmjcd import record
from slurmjcd.errors import ProtocolError
from slurmjcd.exporting.ndjson import fields_of
from slurmjcd.importing import lines
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item, NoRecord

_BEGIN: Final = re.compile(rb'(?:#[^\n]*\n|\s)*\{"id": "[^"\n]*", "job_id": ')


def looks_like(head: bytes) -> bool:
    """Whether a file with these first bytes has objects of `slurmjc.jobs/1` on its lines."""
    return bool(_BEGIN.match(head))


class Ndjson:
    """Lines as a source of items."""

    kind = "ndjson"
    heading = ""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self.total = file.lines
        self.identity = hashlib.sha256("\0".join([self.kind, file.digest]).encode()).hexdigest()

    def items(self, after: int) -> Iterator[Item]:
        return lines.items(lines.texts(self._file), after, self._parse)

    def _parse(self, item: Item) -> None:
        item.fields = _fields(item.raw)


def _fields(line: str) -> dict[str, Any]:
    """The record's fields.

    Raises:
        NoRecord: the line holds no job.
    """
    try:
        job = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise NoRecord(f"this is no JSON: {exc}") from exc
    if not isinstance(job, dict):
        raise NoRecord("this is no JSON object")
    try:
        fields = fields_of(job)
        record.encode(fields)
    except (ProtocolError, TypeError, ValueError, OverflowError) as exc:
        raise NoRecord(str(exc)) from exc
    wrong = [name for name in ("job_id", "submit", "start", "end") if type(fields[name]) is not int]
    if wrong:
        raise NoRecord(f"{wrong[0]} must be a number")
    if not isinstance(fields["cluster"], str | None):
        raise NoRecord("cluster must be a name")
    return fields
