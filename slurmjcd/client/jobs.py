# SPDX-License-Identifier: MIT
"""`slurmjc jobs`: sacct's flags over completed jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click

from slurmjcd.client import columns, table
from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import MISSING, Failure
from slurmjcd.client.flags import FLAG, SELECTING, Option, add_options
from slurmjcd.client.selection import Selection, say_window, select
from slurmjcd.errors import ProtocolError
from slurmjcd.record import decode
from slurmjcd.slurm.states import NUMBERS

_SHOWING: list[Option] = [
    (("-D", "--duplicates"), FLAG | {"help": "Every run of a job, not only the latest."}),
    (("-X", "--allocations"), FLAG | {"help": "As in sacct; there are no steps here anyway."}),
    (("-T", "--truncate"), FLAG | {"help": "Cut start and end to the window."}),
    (("-o", "--format", "--fields"), {"metavar": "LIST", "help": "Columns, name%width, or +name for one more."}),
    (("-b", "--brief"), FLAG | {"help": f"Columns {columns.BRIEF}."}),
    (("-l", "--long"), FLAG | {"help": "Many columns."}),
    (("-e", "--helpformat", "--help-fields"), FLAG | {"help": "List the columns."}),
    (("-n", "--noheader"), FLAG | {"help": "No header."}),
    (("-p", "--parsable"), FLAG | {"help": "Fields end with |."}),
    (("-P", "--parsable2"), FLAG | {"help": "Fields are separated by |."}),
    (("--delimiter",), {"metavar": "TEXT", "help": "Instead of |."}),
    (("--json", "as_json"), FLAG | {"help": "One JSON document."}),
    (("--ndjson",), FLAG | {"help": "One JSON object per line."}),
    (("-c", "--completion"), FLAG | {"hidden": True}),
    (("-L", "--allclusters"), FLAG | {"hidden": True}),
    (("--federation",), FLAG | {"hidden": True}),
    (("--local",), FLAG | {"hidden": True}),
    (("--noconvert",), FLAG | {"hidden": True}),
    (("--use-local-uid",), FLAG | {"hidden": True}),
    (("--strict",), FLAG | {"help": "Exit with 5 when a job of -j isn't there."}),
    (("--lenient",), FLAG | {"help": "Skip unknown columns with a warning."}),
]


def _options(command: Any) -> Any:
    return add_options(command, SELECTING + _SHOWING)


@click.command("jobs")
@_options
@click.pass_obj
def jobs(connect: Any, /, **options: Any) -> None:
    """List completed jobs, oldest end first."""
    if options["helpformat"]:
        click.echo("\n".join(columns.names()))
        return
    _refuse_contradictions(options)
    chosen = chosen_columns(options)
    selection = select(options)
    connection: Connection = connect()
    rows = _rows(connection, selection, options)
    say_window(selection)
    if options["as_json"] or options["ndjson"]:
        from slurmjcd.client import jsonform

        meta = _meta(selection, connection)
        table.write(jsonform.document(rows, meta) if options["as_json"] else jsonform.stream(rows))
        return
    header = not options["noheader"]
    if options["parsable"] or options["parsable2"]:
        delimiter = options["delimiter"] or "|"
        lines = table.delimited(chosen, rows, header=header, delimiter=delimiter, trailing=not options["parsable2"])
    else:
        lines = table.aligned(chosen, rows, header=header)
    table.write(lines)


def _refuse_contradictions(options: dict[str, Any]) -> None:
    if options["as_json"] and options["ndjson"]:
        raise click.UsageError("--json and --ndjson exclude each other")
    if options["delimiter"] is not None and not (options["parsable"] or options["parsable2"]):
        raise click.UsageError("--delimiter needs -p or -P")
    if options["delimiter"] == "":
        raise click.UsageError("--delimiter must not be empty")
    if options["strict"] and not options["jobs"]:
        raise click.UsageError("--strict needs -j")


def chosen_columns(options: dict[str, Any]) -> list[columns.Column]:
    """The columns that -o, -l, -b or the environment name."""
    default = columns.LONG if options["long"] else columns.BRIEF if options["brief"] else columns.DEFAULT
    wanted = options["format"] or (None if options["long"] or options["brief"] else os.environ.get("SACCT_FORMAT"))
    try:
        chosen, unknown = columns.parse_format(wanted or default, default, lenient=options["lenient"])
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    for name in unknown:
        click.echo(f"slurmjc: unknown column '{name}' left out", err=True)
    if not chosen:
        raise click.UsageError("--format names no column")
    return chosen


def _rows(connection: Connection, selection: Selection, options: dict[str, Any]) -> Iterable[columns.Job]:
    found: Iterable[columns.Job] = _decoded(connection, selection)
    if options["strict"]:
        found = _all_there(found, options["jobs"])
    if options["truncate"]:
        found = _truncated(found, selection)
    return found if options["duplicates"] else latest(found)


def _decoded(connection: Connection, selection: Selection) -> Iterator[columns.Job]:
    for record in connection.records(selection.criteria):
        try:
            yield decode(record)
        except ProtocolError as exc:
            raise Failure(f"slurmjcd sent what is no record: {exc}") from exc


def latest(found: Iterable[columns.Job]) -> list[columns.Job]:
    """The latest run of each job, in order of completion, and none that another cluster of a federation ran."""
    latest: dict[tuple[Any, int], columns.Job] = {}
    for job in found:
        if (job["extra"].get("state_flags") or 0) & NUMBERS["REVOKED"]:
            continue
        key = (job["cluster"], job["job_id"])
        known = latest.pop(key, None)
        newer = known is None or _run(job) >= _run(known)
        latest[key] = job if newer or known is None else known
    return sorted(latest.values(), key=lambda job: (job["end"], job["job_id"]))


def _run(job: columns.Job) -> tuple[int, int, int]:
    return job["submit"], job["restart_count"], job["start"]


def _truncated(found: Iterable[columns.Job], selection: Selection) -> Iterator[columns.Job]:
    for job in found:
        if job["start"]:
            job["start"] = max(job["start"], selection.start)
        if selection.end is not None:
            job["end"] = min(job["end"], selection.end)
        yield job


def _all_there(found: Iterable[columns.Job], asked: str) -> list[columns.Job]:
    """All rows, or the failure that names the first plain job id without one."""
    rows = list(found)
    have = {str(job[key]) for job in rows for key in ("job_id", "array_job_id", "het_job_id") if job[key]}
    have |= {columns.job_id(job) for job in rows}
    for word in asked.split(","):
        if word.strip() and not set(word) & set("[]-") and word.strip() not in have:
            raise Failure(f"job {word.strip()} isn't there", MISSING)
    return rows


def _meta(selection: Selection, connection: Connection) -> dict[str, Any]:
    end = selection.end if selection.end is not None else int(time.time())
    hello = connection.hello
    return {
        "window": {"start": selection.start or None, "end": end},
        "server": hello["server"].decode(),
        "sees": hello["sees"].decode(),
        "truncated": False,
    }
