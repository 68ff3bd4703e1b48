# SPDX-License-Identifier: MIT
"""`slurmjc watch`: each job as it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from slurmjcd.client import columns, table
from slurmjcd.client.flags import FLAG, SELECTING, Option, Seconds, add_options
from slurmjcd.client.following import Follower
from slurmjcd.client.jobs import chosen_columns
from slurmjcd.client.selection import select
from slurmjcd.record import decode

_TIMES: Final = ("start", "end")  # criteria of a window
_SHOWING: list[Option] = [
    (("-o", "--format", "--fields"), {"metavar": "LIST", "help": "Columns, name%width, or +name for one more."}),
    (("-b", "--brief"), FLAG | {"help": f"Columns {columns.BRIEF}."}),
    (("-l", "--long"), FLAG | {"help": "Many columns."}),
    (("-n", "--noheader"), FLAG | {"help": "No header."}),
    (("-p", "--parsable"), FLAG | {"help": "Fields end with |."}),
    (("-P", "--parsable2"), FLAG | {"help": "Fields are separated by |."}),
    (("--json", "--ndjson", "as_json"), FLAG | {"help": "One JSON object per line."}),
    (("--lenient",), FLAG | {"help": "Skip unknown columns with a warning."}),
    (("--retry", "retry_s"), {"metavar": "SECONDS", "type": Seconds(0), "default": 600.0,
                              "show_default": True, "help": "How long slurmjcd may be away."}),
]  # fmt: skip
_SELECTING: Final = [option for option in SELECTING if option[0][0] not in ("-S", "-E")]


def _options(command: Any) -> Any:
    return add_options(command, _SELECTING + _SHOWING)


@click.command("watch")
@_options
@click.pass_obj
def watch(connect: Any, /, **options: Any) -> None:
    """Print each job as it is stored, until ^C. Your own, as far as no flag says other."""
    chosen = chosen_columns(options)
    selection = select(options | {"starttime": None, "endtime": None})
    criteria = [pair for pair in selection.criteria if pair[0] not in _TIMES]
    follower = Follower(connect, criteria, patience_s=options["retry_s"], for_reader=True)
    follower.start()
    jobs = _jobs(follower)
    header = not options["noheader"]
    lines: Iterator[str]
    if options["as_json"]:
        from slurmjcd.client import jsonform

        lines = jsonform.stream(jobs)
    elif options["parsable"] or options["parsable2"]:
        lines = table.delimited(chosen, jobs, header=header, delimiter="|", trailing=not options["parsable2"])
    else:
        lines = table.aligned(chosen, jobs, header=header)
    for line in lines:
        click.echo(line)


def _jobs(follower: Follower) -> Iterator[columns.Job]:
    while True:
        records = follower.next(None)
        if follower.lost:
            follower.lost = False
            click.echo("slurmjc: more jobs ended than redis.events keeps, some are missing here", err=True)
        yield from map(decode, records)
