# SPDX-License-Identifier: MIT
"""Which source a word on the command line names, and of which format a file is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from slurmjcd.importing import filetxt
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Source, WrongFormat
from slurmjcd.importing.localtimes import LocalTimes

FORMATS: Final = ("filetxt",)
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a source.

    Attributes:
        zone, zone_id: of its local times, and what tells the zone from others.
        cluster: for sources, or lines of them, that don't name it.
    """

    zone: tzinfo
    zone_id: str
    cluster: str


def open_source(word: str, form: str, options: Options) -> Source:
    """The source that `word` names: a file, `-` or a URL.

    Raises:
        WrongFormat: it is none that can be imported; the text says what was expected.
        OSError: it can't be read.
    """
    file = InputFile(word, sys.stdin.buffer if word == "-" else None)
    if not file.lines:
        raise WrongFormat(f"{file.name} is empty")
    found = form if form != "auto" else _format_of(file)
    return _from_file(found, file, options)


def _from_file(form: str, file: InputFile, options: Options) -> Source:
    times = LocalTimes(options.zone)
    if not filetxt.looks_like(file.head):
        raise WrongFormat(f"{file.name} is no log of jobcomp/filetxt: {_begins(file)}, expected 'JobId=… UserId=…'")
    return filetxt.Filetxt(file, times, options.zone_id, options.cluster)


def _format_of(file: InputFile) -> str:
    if filetxt.looks_like(file.head):
        return "filetxt"
    raise WrongFormat(
        f"{file.name} is in no format that is known: {_begins(file)}, expected jobcomp/filetxt's log ('JobId=…')"
    )


def _begins(file: InputFile) -> str:
    line, text = next(
        ((number, line) for number, line in enumerate(file.head.splitlines(), 1) if line.strip()), (1, b"")
    )
    return f"line {line} begins with {text[:_SHOWN].decode('utf-8', 'backslashreplace')!r}"
