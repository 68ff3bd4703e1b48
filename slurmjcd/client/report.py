# SPDX-License-Identifier: MIT
"""`slurmjc report`: how many jobs ended and what they used, by user, account, state, day …, counted by the store."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import click

from slurmjcd.client import table
from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import Failure
from slurmjcd.client.flags import FLAG, SELECTING, Option, add_options
from slurmjcd.client.selection import Selection, say_window, select
from slurmjcd.slurm.states import state_name

SCHEMA: Final = "slurmjc.report/1"
FIELDS: Final = ("user", "account", "partition", "state", "qos", "name", "cluster", "day", "hour")
_SUMS: Final = ("jobs", "node_seconds", "cpu_seconds", "wait_seconds", "run_seconds")
_TIME_FORMS: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z"}
_BAR: Final = 30  # characters of the longest bar
_SHOWING: Final[list[Option]] = [
    (("--csv", "as_csv"), FLAG | {"help": "Comma-separated, seconds as integers."}),
    (("--json", "as_json"), FLAG | {"help": "One JSON document."}),
    (("--top",), {"type": click.IntRange(min=1), "metavar": "N", "help": "Only the N groups with most jobs."}),
    (("-n", "--noheader"), FLAG | {"help": "No header."}),
]


@dataclass(frozen=True, slots=True)
class Group:
    """One row: the values it was grouped by (None: the jobs have none), and its sums; all but the first in seconds."""

    key: tuple[str | int | None, ...]
    jobs: int
    node_seconds: int
    cpu_seconds: int
    wait_seconds: int
    run_seconds: int


def _options(command: Any) -> Any:
    return add_options(command, SELECTING + _SHOWING)


@click.command("report")
@click.argument("by", nargs=-1, type=click.Choice(FIELDS, case_sensitive=False))
@_options
@click.pass_obj
def report(connect: Any, /, by: tuple[str, ...], **options: Any) -> None:
    """Count jobs and what they used, by one or two of user (default), account, partition, state, qos, name, cluster,
    day and hour.

    Every run of a requeued job counts. Days and hours are UTC, and those in which a job ended.
    """
    fields = by or ("user",)
    if len(fields) > 2:
        raise click.UsageError(f"a report is by one or two fields, not by {len(fields)}")
    if options["as_csv"] and options["as_json"]:
        raise click.UsageError("--csv and --json exclude each other")
    selection = select(options)
    connection: Connection = connect()
    found = _ask(connection, fields, selection)
    in_order(fields, found)
    left_out = len(found) - len(found := most(found, options["top"]))
    say_window(selection)
    if left_out:
        click.echo(f"slurmjc: {left_out} smaller groups left out (--top)", err=True)
    if options["as_json"]:
        sees = connection.hello["sees"].decode()
        answer = document(fields, found, selection, sees=sees, left_out=left_out)
        click.echo(json.dumps(answer).encode("utf-8", "replace").decode())
    elif options["as_csv"]:
        _write_csv(fields, found, header=not options["noheader"])
    else:
        table.write(_lines(fields, found, header=not options["noheader"], bars=sys.stdout.isatty()))


def _ask(connection: Connection, fields: tuple[str, ...], selection: Selection) -> list[Group]:
    words = [word.encode("utf-8", "surrogateescape") for pair in selection.criteria for word in pair]
    rows = connection.call(b"SLURMJC.AGG", b"BY", *(field.encode() for field in fields), *words)
    try:
        return groups(fields, rows)
    except (TypeError, ValueError) as exc:
        raise Failure(f"slurmjcd sent what is no answer to SLURMJC.AGG: {exc}") from exc


def groups(fields: tuple[str, ...], rows: list[Any]) -> list[Group]:
    """The groups of an answer to SLURMJC.AGG, most jobs first.

    Raises:
        TypeError, ValueError: it is none.
    """
    return [_group(fields, row) for row in rows]


def in_order(fields: tuple[str, ...], found: list[Group]) -> None:
    """Sort them by time if there is one in their keys."""
    if set(fields) & set(_TIME_FORMS):
        found.sort(key=lambda group: [(value is None, value) for value in group.key])


def _group(fields: tuple[str, ...], row: list[Any]) -> Group:
    if len(row) != len(fields) + len(_SUMS):
        raise ValueError(f"a row of {len(row)} values")
    return Group(
        tuple(_value(field, value) for field, value in zip(fields, row, strict=False)),
        *(int(value) for value in row[len(fields) :]),
    )


def _value(field: str, raw: bytes | None) -> str | int | None:
    """A name; a state's name; epoch seconds of a day or an hour."""
    if raw is None:
        return None
    if field in _TIME_FORMS:
        return int(raw)
    return state_name(int(raw), None) if field == "state" else raw.decode("utf-8", "surrogateescape")


def most(found: list[Group], top: int | None) -> list[Group]:
    """The `top` groups with most jobs, in the order they have."""
    if top is None or len(found) <= top:
        return found
    kept = sorted(range(len(found)), key=lambda at: -found[at].jobs)[:top]
    return [found[at] for at in sorted(kept)]


def _shown(field: str, value: str | int | None) -> str:
    if value is None:
        return "(none)"
    form = _TIME_FORMS.get(field)
    return time.strftime(form, time.gmtime(int(value))) if form else table.plain(value)


def _lines(fields: tuple[str, ...], groups: list[Group], *, header: bool, bars: bool) -> Iterator[str]:
    """Names to the left, sums to the right, hours with one decimal; with a bar for the jobs on a terminal."""
    rows = [
        [_shown(field, value) for field, value in zip(fields, group.key, strict=True)]
        + [f"{group.jobs:,}", f"{group.node_seconds / 3600:,.1f}", f"{group.cpu_seconds / 3600:,.1f}"]
        + [_mean(group.wait_seconds, group.jobs), _mean(group.run_seconds, group.jobs)]
        for group in groups
    ]
    titles = [*fields, "jobs", "node_hours", "cpu_hours", "mean_wait_s", "mean_run_s"]
    widths = [max(len(cells[at]) for cells in [*rows, titles]) for at in range(len(titles))]
    most = max((group.jobs for group in groups), default=0)
    if header:
        yield _line(titles, widths, len(fields)).rstrip()
    for cells, group in zip(rows, groups, strict=True):
        bar = "  " + "#" * round(_BAR * group.jobs / most) if bars and most else ""
        yield (_line(cells, widths, len(fields)) + bar).rstrip()


def _mean(total: int, count: int) -> str:
    return f"{total / count:,.0f}" if count else "0"


def _line(cells: Iterable[str], widths: list[int], names: int) -> str:
    padded = (
        cell.ljust(width) if at < names else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded)


def _write_csv(fields: tuple[str, ...], groups: list[Group], *, header: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if header:
        writer.writerow([*fields, *_SUMS])
    for group in groups:
        names = ["" if value is None else _shown(field, value) for field, value in zip(fields, group.key, strict=True)]
        writer.writerow([*names, *(getattr(group, name) for name in _SUMS)])
    sys.stdout.flush()


def document(
    fields: tuple[str, ...], found: list[Group], selection: Selection, *, sees: str, left_out: int
) -> dict[str, Any]:
    """Add-only within /1: keys are as asked for, times epoch seconds."""
    return {
        "schema": SCHEMA,
        "meta": {
            "by": list(fields),
            "window": {"start": selection.start or None, "end": selection.end},
            "sees": sees,
            "groups_left_out": left_out,
        },
        "groups": [
            {**dict(zip(fields, group.key, strict=True)), **{name: getattr(group, name) for name in _SUMS}}
            for group in found
        ],
    }
