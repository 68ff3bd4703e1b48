# SPDX-License-Identifier: MIT
"""Which source a word on the command line names, and of which format a file is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Final

from slurmjcd.importing import elasticsearch, filetxt, ndjson, sacct, sacctjson
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Source, WrongFormat
from slurmjcd.importing.localtimes import LocalTimes
from slurmjcd.importing.names import Names

_SHOWN: Final = 60
DATABASES: Final = {"mysql": "mysql", "redis": "upstream", "rediss": "upstream", "unix": "upstream"}  # scheme: format


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a source.

    Attributes:
        zone, zone_id: of its local times, and what tells the zone from others.
        cluster: for sources, or lines of them, that don't name it.
        password: for a database.
        unknown_id: uid and gid for names that this host doesn't know; None: those jobs are refused.
    """

    zone: tzinfo
    zone_id: str
    cluster: str
    unknown_id: int | None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class _Format:
    """One kind of file: what it is called, how it begins, how to know it, how to read it."""

    what: str
    begins: str
    looks_like: Callable[[bytes], bool]
    make: Callable[[InputFile, Options], Source]


def _filetxt(file: InputFile, options: Options) -> Source:
    return filetxt.Filetxt(file, LocalTimes(options.zone), options.zone_id, options.cluster)


def _sacct(file: InputFile, options: Options) -> Source:
    times, names = LocalTimes(options.zone), Names(options.unknown_id)
    return sacct.Sacct(file, times, options.zone_id, options.cluster, names)


def _sacct_json(file: InputFile, options: Options) -> Source:
    return sacctjson.SacctJson(file, options.cluster, Names(options.unknown_id))


def _elasticsearch(file: InputFile, options: Options) -> Source:
    return elasticsearch.Elasticsearch(file, options.cluster)


def _ndjson(file: InputFile, _options: Options) -> Source:
    return ndjson.Ndjson(file)


FORMATS: Final = {
    "ndjson": _Format("what slurmjc export writes", '{"id": …, "job_id": …', ndjson.looks_like, _ndjson),
    "filetxt": _Format("jobcomp/filetxt's log", "JobId=1 UserId=…", filetxt.looks_like, _filetxt),
    "sacct": _Format("what sacct -P prints", "JobIDRaw|State|…", sacct.looks_like, _sacct),
    "sacct-json": _Format("what sacct --json prints", '{"meta": …, "jobs": [', sacctjson.looks_like, _sacct_json),
    "elasticsearch": _Format(
        "a dump of jobcomp/elasticsearch's index", '{"jobid": …', elasticsearch.looks_like, _elasticsearch
    ),
}


def open_source(word: str, form: str, options: Options) -> Source:
    """The source that `word` names: a file, `-`, or the address of a database.

    Raises:
        WrongFormat: it is none that can be imported; the text says what was expected.
        OSError: it can't be read.
    """
    scheme = word.partition(":")[0]
    if scheme in DATABASES and ("://" in word or scheme == "unix"):
        kind = DATABASES[scheme]
        if form not in ("auto", kind):
            raise WrongFormat(f"{scheme}: is the address of a database, which --format {form} doesn't read")
        return _from_database(kind, word, options)
    file = InputFile(word, sys.stdin.buffer if word == "-" else None)
    if not file.lines:
        raise WrongFormat(f"{file.name} is empty")
    found = next((one for one in FORMATS.values() if one.looks_like(file.head)), None)
    if form in DATABASES.values():
        raise WrongFormat(f"--format {form} reads a database: give its address instead of {word}")
    wanted = FORMATS[form] if form != "auto" else found
    if wanted is None:
        known = ", ".join(f"{one.what} ({one.begins})" for one in FORMATS.values())
        raise WrongFormat(f"{file.name} is in no format that is known: {_begins(file)}, expected {known}")
    # sacct's says itself what its header lacks
    if wanted is not found and form != "sacct":
        raise WrongFormat(f"{file.name} is not {wanted.what}: {_begins(file)}, expected {wanted.begins}")
    return wanted.make(file, options)


def _from_database(kind: str, url: str, options: Options) -> Source:
    # their libraries take their time to import
    if kind == "mysql":
        from slurmjcd.importing.mysqltable import MysqlTable  # noqa: PLC0415

        return MysqlTable(url, options.password, options.cluster)
    from slurmjcd.importing.upstream import Upstream  # noqa: PLC0415

    return Upstream(url, options.password, LocalTimes(UTC), options.cluster)


def _begins(file: InputFile) -> str:
    lines = enumerate(file.head.splitlines(), 1)
    number, text = next(((number, line) for number, line in lines if line.strip()), (1, b""))
    return f"line {number} begins with {text[:_SHOWN].decode('utf-8', 'backslashreplace')!r}"
