# SPDX-License-Identifier: MIT
"""`slurmjc wait JOBID…`: until jobs have ended, then their own exit status."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

import click

from slurmjcd.client import clusters, columns, table
from slurmjcd.client.failure import DENIED, MISSING, TIMED_OUT, Failure
from slurmjcd.client.flags import Seconds
from slurmjcd.client.following import Criteria, Follower
from slurmjcd.client.squeue import queued
from slurmjcd.record import decode
from slurmjcd.slurm.states import NUMBERS, exit_status, state_name

NO_STATUS: Final = 125  # a job ended, and its record doesn't say how
_UNKNOWN_S: Final = 10.0  # for so long a job that Slurm has forgotten may still be on its way here
_JOBS_MAX: Final = 100_000
_WORD: Final = re.compile(r"(\d{1,10})(?:_(\d{1,10})|_\[([\d,-]+)\]|\+(\d{1,10}))?")
# after a report with one of these the job goes on
_GOES_ON: Final = (
    NUMBERS["REQUEUED"] | NUMBERS["REQUEUE_HOLD"] | NUMBERS["SPECIAL_EXIT"] | NUMBERS["RESIZING"]
    | NUMBERS["REVOKED"] | NUMBERS["REQUEUE_FED"]
)  # fmt: skip


class Waiting:
    """Which jobs are still to end, and how the others did. Jobs by what sacct calls them: 100, 100_5, 100+1."""

    def __init__(self, words: Iterable[str]) -> None:
        self.pending: dict[str, None] = {}
        self.alive: set[str] = set()  # known to wait or run: what is stored of them is of an earlier run
        self.statuses: dict[str, int] = {}
        for word in words:
            self.pending |= dict.fromkeys(_parts(word))
        self.whole = {shown for shown in self.pending if shown.isdigit()}  # with all their tasks or parts
        if len(self.pending) > _JOBS_MAX:
            raise click.UsageError(f"{len(self.pending)} jobs are too many to wait for, {_JOBS_MAX} at a time")

    @property
    def numbers(self) -> list[int]:
        return sorted({int(number_of(shown)) for shown in self.pending})

    def expand(self, number: str, parts: Iterable[str]) -> None:
        """A number is an array's or a het job's: wait for these of it."""
        del self.pending[number]
        self.pending |= dict.fromkeys(parts)

    def take(self, job: columns.Job) -> bool:
        """Whether this run ends one of the jobs that are waited for; then its status is noted."""
        shown = columns.job_id(job)
        if (job["extra"].get("state_flags") or 0) & _GOES_ON or shown in self.statuses:
            return False
        named = shown in self.pending or not self.whole.isdisjoint((number_of(shown), str(job["job_id"])))
        if not named:
            return False
        self.pending.pop(shown, None)
        self.pending.pop(str(job["job_id"]), None)  # an array's last task to start has the array's number
        self.statuses[shown] = status_of(job)
        return True


def number_of(shown: str) -> str:
    """100 of 100_5 and 100+1."""
    return re.split(r"[_+]", shown)[0]


def status_of(job: columns.Job) -> int:
    """What a shell would have as `$?`: 128 + N for signal N; never 0 for a job that didn't complete."""
    status, completed = exit_status(job["exit_code"]), job["state"] == NUMBERS["COMPLETED"]
    if status is None:
        return 0 if completed else NO_STATUS
    code, number = status
    return 128 + number if number else code or (0 if completed else 1)


def _parts(word: str) -> list[str]:
    match = _WORD.fullmatch(word)
    if match is None:
        raise click.UsageError(f"a job is 100, 100_5, 100_[1-3,7] or 100+1, not '{word}'")
    number, task, tasks, _ = match.groups()
    if task is not None or tasks is None:
        return [word]
    shown = []
    for piece in tasks.split(","):
        low, dash, high = piece.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or int(high or low) - int(low) > _JOBS_MAX:
            raise click.UsageError(f"'{piece}' in '{word}' is no task and no range of tasks")
        shown += [f"{number}_{task}" for task in range(int(low), int(high or low) + 1)]
    return shown


@click.command("wait")
@click.argument("jobids", nargs=-1, required=True, metavar="JOBID...")
@click.option("--timeout", metavar="SECONDS", type=Seconds(0), help="Give up after so long; then 124.")
@click.option("-M", "--cluster", metavar="NAME", help="The cluster of these jobs; default: this host's.")
@click.option("-q", "--quiet", is_flag=True, help="No line for each job.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line instead.")
@click.option("--retry", "retry_s", metavar="SECONDS", type=Seconds(0), default=600.0, show_default=True,
              help="How long slurmjcd may be away.")  # fmt: skip
@click.option("--no-squeue", is_flag=True, help="Don't ask squeue once which jobs there are.")
@click.pass_obj
def wait(connect: Any, /, jobids: tuple[str, ...], **options: Any) -> None:
    """Wait until jobs have ended, and end as they did: 100, 100_5, 100_[1-3] or 100+1; 100 for a whole array.

    Of several jobs the highest status counts. 128+N: ended by signal N. 1: failed with 0 (TIMEOUT, NODE_FAIL...).
    124: --timeout. 125: the record has no status. 3: slurmjcd can't be reached. 4: not yours to see. 5: no such job.
    """
    deadline = None if options["timeout"] is None else time.monotonic() + options["timeout"]
    waiting = Waiting(word for jobid in jobids for word in _split(jobid))
    named = options["cluster"] or clusters.own(waiting.numbers)
    criteria: Criteria = [("job", ",".join(map(str, waiting.numbers)))]
    criteria += [("cluster", name) for name in clusters.chosen(named)]
    follower = Follower(connect, criteria, patience_s=options["retry_s"])
    follower.start(deadline)  # before anything is asked, so that no end falls in between
    unknown = None if options["no_squeue"] or options["cluster"] else _ask_squeue(waiting, follower)
    tell = _silent if options["quiet"] else _tell_json if options["as_json"] else _tell
    unknown_until = time.monotonic() + _UNKNOWN_S
    _look(waiting, follower, criteria, deadline, tell)
    while waiting.pending:
        missing = sorted(unknown & waiting.pending.keys()) if unknown else []
        until = deadline
        if missing:
            until = unknown_until if deadline is None else min(deadline, unknown_until)
        records = follower.next(until)
        if follower.lost:
            follower.lost = False
            _look(waiting, follower, criteria, deadline, tell)
        for record in records:
            job = decode(record)
            if waiting.take(job):
                tell(job)
        if not records and until is not None and time.monotonic() >= until:
            if missing and until != deadline:
                raise Failure(f"job {missing[0]}: Slurm doesn't know it, and it isn't stored", MISSING)
            left = ", ".join(list(waiting.pending)[:5]) + (", …" if len(waiting.pending) > 5 else "")
            raise Failure(f"not ended within {options['timeout']:g} s: {left}", TIMED_OUT)
    sys.exit(max(waiting.statuses.values(), default=0))


def _split(text: str) -> list[str]:
    return [word for word in re.split(r",(?![^\[]*\])", text) if word] or [text]


def _ask_squeue(waiting: Waiting, follower: Follower) -> set[str] | None:
    """Which jobs are arrays, which live; those that Slurm doesn't know."""
    jobs = queued(waiting.numbers)
    if jobs is None:
        return None
    if follower.connection.hello["sees"] == b"own":
        others = next((job for job in jobs if job.uid != os.geteuid()), None)
        if others is not None:
            raise Failure(f"job {others.shown} isn't yours to see", DENIED)
    parts: dict[str, list[str]] = {}
    for job in jobs:
        parts.setdefault(number_of(job.shown), []).append(job.shown)
        if job.alive:
            waiting.alive.add(job.shown)
    for number in [shown for shown in waiting.pending if shown.isdigit()]:
        if parts.get(number, [number]) != [number]:
            waiting.expand(number, parts[number])
    known = {job.shown for job in jobs}
    return {shown for shown in waiting.pending if shown not in known}


def _look(waiting: Waiting, follower: Follower, criteria: Criteria, deadline: float | None, tell: Any) -> None:
    """Those that have ended already."""
    latest: dict[str, columns.Job] = {}
    for record in follower.stored(criteria, deadline):
        job = decode(record)
        shown = columns.job_id(job)
        known = latest.get(shown)
        if known is None or _run(job) >= _run(known):
            latest[shown] = job
    for shown, job in latest.items():
        if shown not in waiting.alive and waiting.take(job):
            tell(job)


def _run(job: columns.Job) -> tuple[int, int, int]:
    return job["submit"] or 0, job["restart_count"] or 0, job["start"] or 0


def _silent(_job: columns.Job) -> None:
    pass


def _tell(job: columns.Job) -> None:
    code, number = exit_status(job["exit_code"]) or (0, 0)
    state = state_name(job["state"], job["extra"].get("state_flags"))
    table.write([f"{columns.job_id(job)} {state} {code}:{number}"])


def _tell_json(job: columns.Job) -> None:
    from slurmjcd.client import jsonform

    table.write(jsonform.stream([job]))
