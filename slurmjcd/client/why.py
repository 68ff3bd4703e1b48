# SPDX-License-Identifier: MIT
"""`slurmjc why JOBID`: how each run of a job ended, in words, and what else died on its nodes at that time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import click

from slurmjcd.client import columns, table
from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import MISSING, Failure
from slurmjcd.client.selection import job_list
from slurmjcd.client.times import format_span, rfc3339
from slurmjcd.record import decode
from slurmjcd.slurm.states import exit_status, state_name, state_number

_AROUND_S: Final = 600  # how long before and after its end others count as having died with it
_OTHERS: Final = 1000  # of these at most are looked at
_SHOWN: Final = 10
_DEATHS: Final = ("FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")
# https://www.gnu.org/software/bash/manual/html_node/Exit-Status.html
_SHELL: Final = {
    126: "a command was found but couldn't be executed: look at its permissions and its first line",
    127: "a command was not found: look at PATH and at the modules that were loaded",
}
_SIGNALS: Final = {
    "SIGKILL": "killed from outside; the kernel does so when memory runs out, Slurm after a time limit",
    "SIGTERM": "asked to end: cancelled, preempted or out of time",
    "SIGSEGV": "it touched memory that isn't its own: a bug in the program, or a stack too small",
    "SIGBUS": "a file it had mapped became shorter, or a disk failed",
    "SIGFPE": "an arithmetic error, such as a division of integers by zero",
    "SIGILL": "an instruction this processor doesn't have: built for another kind of node?",
    "SIGABRT": "the program gave up by itself; its error output says why",
    "SIGXCPU": "past its limit of processor time",
    "SIGXFSZ": "past its limit of file size",
    "SIGPIPE": "it wrote to a program that was gone",
}


@click.command("why")
@click.argument("jobid")
@click.pass_obj
def why(connect: Any, jobid: str) -> None:
    """Say how job JOBID (100, 100_5 or 100+1) ended, and why as far as its record tells."""
    job_list(jobid)
    connection: Connection = connect()
    runs = [decode(record) for record in connection.records([("job", jobid)])]
    if not runs:
        raise Failure(f"job {jobid} isn't there, or isn't yours to see", MISSING)
    for number, job in enumerate(runs):
        if number:
            click.echo()
        table.write(told(job))
        table.write(_others(connection, job))


def told(job: columns.Job) -> Iterator[str]:
    """Lines about one run, most important first."""
    state = state_name(job["state"], job["extra"].get("state_flags"))
    by = job["extra"].get("cancelled_by")
    cancelled = f" by uid {by}" if by is not None and state == "CANCELLED" else ""
    owner = job["user"] or f"uid {job['uid']}"
    yield table.plain(f'job {columns.job_id(job)} "{job["name"] or ""}" of {owner}: {state}{cancelled}')
    for line in (*_ending(job), *_state(job, state), *_use(job)):
        yield "  " + table.plain(line)


def _ending(job: columns.Job) -> Iterator[str]:
    status = exit_status(job["exit_code"])
    if status is None or status == (0, 0):
        return
    code, number = status
    if not number and code > 128 and (name := _signal_name(code - 128)):  # a shell reports its command's signal so
        yield f"exit code {code}: its last command ended by signal {code - 128}, {name}{_meaning(name)}"
    elif number:
        name = _signal_name(number) or "unknown"
        yield f"ended by signal {number}, {name}{_meaning(name)}"
    else:
        yield f"exit code {code}" + (f": {_SHELL[code]}" if code in _SHELL else ", which the job itself chose")


def _signal_name(number: int) -> str | None:
    try:
        return signal.Signals(number).name
    except ValueError:
        return None


def _meaning(name: str) -> str:
    return f": {_SIGNALS[name]}" if name in _SIGNALS else ""


def _state(job: columns.Job, state: str) -> Iterator[str]:
    if not job["start"]:
        yield f"it never started; it had waited {_waited(job)}"
    elif state == "NODE_FAIL":
        yield f"a node failed: {job['extra'].get('failed_node') or job['nodes'] or 'unknown'}"
    elif state == "OUT_OF_MEMORY":
        yield "the kernel ended a process of it because its memory was used up: ask for more (--mem, --mem-per-cpu)"
    elif state == "PREEMPTED":
        yield "a job of higher priority took its place"
    elif state == "DEADLINE":
        yield "its deadline (--deadline) had come"
    elif state == "BOOT_FAIL":
        yield "a node didn't boot for it"
    elif state == "TIMEOUT":
        yield "it reached its time limit: ask for more (--time)"


def _waited(job: columns.Job) -> str:
    return format_span((job["start"] or job["end"]) - (job["eligible"] or job["submit"]))


def _use(job: columns.Job) -> Iterator[str]:
    limit = job["time_limit"]
    of_limit = f" of {format_span(limit * 60)}" if isinstance(limit, int) else ""
    if job["start"]:
        yield f"ran {format_span(columns.elapsed_s(job))}{of_limit}, after waiting {_waited(job)}"
        yield f"on {job['nodes'] or 'no node'}: {job['node_count'] or 0} nodes, {job['cpu_count'] or 0} CPUs"
    yield f"ended {rfc3339(job['end'])}"
    if job["tres_req"]:
        yield f"asked for {job['tres_req']}"
    if error := job["extra"].get("std_err"):
        yield f"its error output went to {error}"


def _others(connection: Connection, job: columns.Job) -> Iterator[str]:
    """Jobs that died on the same nodes about when this one ended, as far as the caller may see them."""
    if not job["nodes"] or not job["start"]:
        return
    states = ",".join(str(state_number(name)) for name in _DEATHS)
    criteria = [
        ("node", job["nodes"]), ("state", states), ("start", str(max(1, job["end"] - _AROUND_S))),
        ("end", str(job["end"] + _AROUND_S)),
    ]  # fmt: skip
    if job["cluster"]:
        criteria.append(("cluster", job["cluster"]))
    found = [decode(record) for record in islice(connection.records(criteria), _OTHERS)]
    died = [
        other for other in found
        if other["job_id"] != job["job_id"] and abs(other["end"] - job["end"]) <= _AROUND_S
    ]  # fmt: skip
    sees = connection.hello["sees"].decode()
    among = "" if sees == "all" else " among the jobs you may see"
    if not died:
        yield f"  no other job died on its nodes within {_AROUND_S // 60} minutes{among}"
        return
    yield f"  {len(died)} other job{'s' * (len(died) > 1)} died on its nodes within {_AROUND_S // 60} minutes{among}:"
    for other in died[:_SHOWN]:
        state = state_name(other["state"], other["extra"].get("state_flags"))
        yield table.plain(f"    {columns.job_id(other)} {state} on {other['nodes']} {rfc3339(other['end'])}")
    if len(died) > _SHOWN:
        yield f"    and {len(died) - _SHOWN} more"
