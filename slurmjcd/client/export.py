# SPDX-License-Identifier: MIT
"""`slurmjc export`: completed jobs as NDJSON, CSV, Parquet or XDMoD's columns, streamed into a pipe or a file."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import ERROR, UNREACHABLE, Failure
from slurmjcd.client.flags import FLAG, SELECTING, Option, add_options
from slurmjcd.client.progress import Progress
from slurmjcd.client.selection import Selection, select
from slurmjcd.client.times import rfc3339
from slurmjcd.slurm.states import ENDED

_MODULES: Final = {"ndjson": "ndjson", "csv": "csvfile", "parquet": "parquet", "xdmod": "xdmod"}
_SUFFIXES: Final = {
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".xdmod": "xdmod",
}  # fmt: skip
_PACKED: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
_TICK: Final = 1000  # jobs between two steps of the progress bar
_OPTIONS: Final[list[Option]] = [
    (("-f", "--format", "form"), {
        "type": click.Choice(list(_MODULES), case_sensitive=False),
        "help": "Default: by the end of FILE's name, else ndjson.",
    }),
    (("-o", "--output"), {"metavar": "FILE", "help": "Replaced when all is written; default: stdout."}),
    (("-D", "--duplicates"), FLAG | {"hidden": True}),
    (("-X", "--allocations"), FLAG | {"hidden": True}),
]  # fmt: skip


def _options(command: Any) -> Any:
    return add_options(command, SELECTING + _OPTIONS)


@click.command("export")
@_options
@click.pass_obj
def export(connect: Any, /, **options: Any) -> None:
    """Write completed jobs for other programs, oldest end first, every run of a requeued job.

    The formats: ndjson, csv, parquet (needs pyarrow), and xdmod for Open XDMoD's slurm shredder.
    """
    path: str | None = options["output"]
    form = _format(options["form"], path)
    selection = select(options)
    module = importlib.import_module(f"slurmjcd.exporting.{_MODULES[form]}")
    if form == "parquet":
        _check_parquet(module, path)
    connection: Connection = connect()
    _of_ends(selection, options["state"])
    count = _write(module, connection, selection, path)
    if path not in (None, "-"):
        click.echo(f"slurmjc: {count:,} jobs in {path}", err=True)


def _of_ends(selection: Selection, states: str | None) -> None:
    """Make the window one of ends, so that a job is in one of two exports that follow each other; and say it."""
    if not selection.start and selection.end is None:
        return
    criteria = [(name, str(int(value) - 1) if name == "end" else value) for name, value in selection.criteria]
    selection.criteria = criteria if states else [*criteria, ("state", ENDED)]
    since = rfc3339(selection.start) if selection.start > 0 else "the beginning"
    until = f"before {rfc3339(selection.end)}" if selection.end is not None else "now"
    default = "" if selection.chosen else " (-S and -E change that)"
    click.echo(f"slurmjc: jobs that ended from {since} to {until}{default}", err=True)


def _format(wanted: str | None, path: str | None) -> str:
    suffix = os.path.splitext(path or "")[1].lower()
    if suffix in _PACKED:
        raise click.UsageError(f"export doesn't pack: leave -o out and say | gzip > {path} or the like")
    return (wanted or _SUFFIXES.get(suffix, "ndjson")).lower()


def _check_parquet(module: Any, path: str | None) -> None:
    if path in (None, "-") and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal: name a file with -o")
    try:
        module.check()
    except module.Missing as exc:
        raise Failure(str(exc), ERROR) from exc


def _write(module: Any, connection: Connection, selection: Selection, path: str | None) -> int:
    """How many jobs were written."""
    from slurmjcd.client.outfile import opened
    from slurmjcd.errors import ProtocolError

    shown = sys.stderr.isatty() and (path not in (None, "-") or not sys.stdout.isatty())
    total = _count(connection, selection) if shown else 0
    with Progress("exporting", total) as progress, opened(path) as out:
        counted = _Counted(connection.records(selection.criteria), progress if shown else None)
        try:
            module.write(counted, out)
        except ProtocolError as exc:
            raise Failure(f"slurmjcd sent what is no record: {exc}", UNREACHABLE) from exc
    return counted.number


def _count(connection: Connection, selection: Selection) -> int:
    words = [word.encode("utf-8", "surrogateescape") for pair in selection.criteria for word in pair]
    return sum(int(row[1]) for row in connection.call(b"SLURMJC.AGG", b"BY", b"state", *words))


class _Counted:
    """Records on their way through, counted."""

    def __init__(self, records: Iterable[bytes], progress: Progress | None) -> None:
        self._records, self._progress = records, progress
        self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        for record in self._records:
            yield record
            self.number += 1
            if self._progress is not None and self.number % _TICK == 0:
                self._progress.add(_TICK)
