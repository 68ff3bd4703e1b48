# SPDX-License-Identifier: MIT
"""`slurmjc show JOBID`: every field of every run of a job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from slurmjcd.client import columns, table
from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import MISSING, Failure
from slurmjcd.client.selection import job_list
from slurmjcd.client.times import format_span, rfc3339
from slurmjcd.record import FIELDS, decode
from slurmjcd.slurm.states import exit_status, state_name

_TIMES = ("submit", "eligible", "start", "end", "orig_start")


@click.command("show")
@click.argument("jobid")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def show(connect: Any, jobid: str, as_json: bool) -> None:
    """Show everything known of job JOBID: 100, 100_5 or 100+1."""
    job_list(jobid)
    connection: Connection = connect()
    runs = [decode(record) for record in connection.records([("job", jobid)])]
    if not runs:
        raise Failure(f"job {jobid} isn't there, or isn't yours to see", MISSING)
    if as_json:
        from slurmjcd.client import jsonform

        table.write(jsonform.document(runs, {"job": jobid}))
        return
    for number, job in enumerate(runs):
        if number:
            click.echo()
        table.write(_lines(job))


def _lines(job: columns.Job) -> Iterator[str]:
    pairs = [("id", columns.job_id(job))]
    pairs += [(name, _shown(name, job[name], job)) for name in FIELDS if name != "extra" and job[name] is not None]
    pairs += [(str(name), _shown(str(name), value, job)) for name, value in sorted(job["extra"].items())]
    pairs.append(("elapsed", format_span(columns.elapsed_s(job))))
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        yield f"{table.plain(name):<{width}}  {value}"


def _shown(name: str, value: Any, job: columns.Job) -> str:
    if name == "state":
        return state_name(value, job["extra"].get("state_flags"))
    if name in ("exit_code", "derived_exit_code"):
        code, signal = exit_status(value) or (0, 0)
        return f"{code}:{signal}"
    if name in _TIMES:
        return f"{rfc3339(value)} ({value})" if value else "never"
    if name == "time_limit" and isinstance(value, int):
        return format_span(value * 60)
    return table.plain(value)
