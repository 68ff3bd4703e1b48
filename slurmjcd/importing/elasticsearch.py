# SPDX-License-Identifier: MIT
"""A dump of the index that jobcomp/elasticsearch filled: a line of JSON each job.

A line is what the plugin posted, or a hit of a search that has it under _source, as elasticdump writes it. What the
fields mean is in intake/document.py, which reads the same documents when they are posted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from slurmjcd.errors import ProtocolError
from slurmjcd.importing import lines
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item, NoRecord
from slurmjcd.intake.document import fields_of
from slurmjcd.intake.resizes import Resizes

_LINE: Final = re.compile(rb'(?:#[^\n]*\n|\s)*\{[^\n]*"jobid"[^\n]*\}\s*?(?:\n|$)')


def looks_like(head: bytes) -> bool:
    """Whether a file with these first bytes is such a dump."""
    return bool(_LINE.match(head))


class Elasticsearch:
    """The lines as a source of items."""

    kind = "elasticsearch"
    heading = ""

    def __init__(self, file: InputFile, cluster: str) -> None:
        """`cluster` is for jobs that don't name theirs, as without slurmdbd."""
        self._file, self._cluster = file, cluster
        self._resizes = Resizes()
        self.total = file.lines
        self.identity = hashlib.sha256("\0".join([self.kind, file.digest, cluster]).encode()).hexdigest()

    def items(self, after: int) -> Iterator[Item]:
        return lines.items(lines.texts(self._file), after, self._parse)

    def _parse(self, item: Item) -> None:
        item.fields = self.parse(item.raw)

    def parse(self, text: str) -> dict[str, Any] | None:
        """The record's fields, None for a job that has only begun.

        Raises:
            NoRecord: the line is no such job.
        """
        try:
            found = json.loads(text, strict=False)
        except (ValueError, RecursionError) as exc:
            raise NoRecord(f"no JSON: {exc}") from exc
        job = found.get("_source", found) if isinstance(found, dict) else found
        named = job.get("cluster") if isinstance(job, dict) else None
        cluster = named if isinstance(named, str) and named else self._cluster
        try:
            return fields_of(job, cluster, self._resizes)[1]
        except ProtocolError as exc:
            raise NoRecord(str(exc)) from exc
