# SPDX-License-Identifier: MIT
"""Differences that come from Slurm's own code: one check for each row of the tables in docs/sacct.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.harness.slurm_conf import slurm_version

from .compare import Difference
from .questions import Question


@dataclass(frozen=True)
class Reason:
    """What it explains, and in which releases of Slurm: from `since` until before `until`."""

    check: Callable[[Question, Difference], bool]
    since: tuple[int, ...] = (22, 5)
    until: tuple[int, ...] = (99,)


def explain(question: Question, difference: Difference) -> str:
    """Name of the row in docs/sacct.md that explains it with the installed Slurm, "" if none does."""
    release = slurm_version()
    for name, reason in KNOWN.items():
        if reason.since <= release < reason.until and reason.check(question, difference):
            return name
    return ""


def _asks(question: Question, *options: str) -> bool:
    return any(option in question.args for option in options)


def _states(question: Question) -> set[str]:
    return {
        state
        for option, value in zip(question.args, question.args[1:], strict=False)
        if option == "-s"
        for state in value.split(",")
    }


def _told_at_the_end(_: Question, d: Difference) -> bool:
    """slurmdbd heard of the job only when it was over, and so took the moment of its end for its start."""
    never_ran = d.row.get("NodeList") == "None assigned" and d.row.get("Start") == d.row.get("End")
    return never_ran and (d.column in ("Start", "Partition") or (d.column == "JobIDRaw" and d.ours == "-"))


def _node_of_last_run(question: Question, d: Difference) -> bool:
    return d.column == "JobIDRaw" and d.plain == "-" and _asks(question, "-N") and not _asks(question, "-D")


def _requeued_by_exit_code(question: Question, d: Difference) -> bool:
    if d.column == "State":
        return d.plain == "REQUEUED"
    asked = _states(question)
    return d.column == "JobIDRaw" and (
        (d.plain.startswith("REQUEUED") and "RQ" in asked)
        or (d.plain == "-" and d.ours.startswith("FAILED") and bool(asked & {"F", "FAILED"}))
    )


def _size_of_last_run(question: Question, d: Difference) -> bool:
    """Requeued, and cancelled while it waited: slurmdbd still has the size of the run before."""
    return _asks(question, "-i", "-I") and d.row.get("NodeList") == "None assigned"


def _reason_when_told(question: Question, d: Difference) -> bool:
    """slurmdbd has the reason a waiting job had when it was first told of it."""
    return d.column == "JobIDRaw" and _asks(question, "--reason") and d.row.get("NodeList") == "None assigned"


def _suspended(question: Question, d: Difference) -> bool:
    return d.column == "JobIDRaw" and d.ours == "-" and "S" in _states(question)


def _back_in_the_queue(question: Question, d: Difference) -> bool:
    return d.column == "JobIDRaw" and d.plain == "-" and d.ours.startswith("REQUEUED") and not _asks(question, "-D")


def _resized(question: Question, d: Difference) -> bool:
    return (
        d.column == "JobIDRaw"
        and d.ours == "-"
        and bool(_states(question) & {"R", "RUNNING"})
        and d.row.get("JobName") == "resized"
    )


def _part_that_never_ran(question: Question, d: Difference) -> bool:
    """slurmdbd was told of the part before it had the number of its heterogeneous job, and never again."""
    asked = [value for option, value in zip(question.args, question.args[1:], strict=False) if option == "-j"]
    return (
        d.column == "JobIDRaw"
        and d.plain == "-"
        and d.row.get("NodeList") == "None assigned"
        and bool(asked)
        and d.job not in ",".join(asked).split(",")
    )


def _step_ended_after_its_job(_: Question, d: Difference) -> bool:
    return d.column == "DerivedExitCode" and d.ours == "0:0" and d.plain == d.row.get("ExitCode")


KNOWN: Final[dict[str, Reason]] = {
    "array and het ids": Reason(lambda q, d: d.column == "JobID" and d.ours == d.job),
    "Submit": Reason(lambda q, d: d.column == "Submit"),
    "AllocNodes": Reason(lambda q, d: d.column == "AllocNodes"),
    "TimelimitRaw": Reason(lambda q, d: d.column == "TimelimitRaw"),
    "-q crashes": Reason(lambda q, d: d.column == "error" and d.ours == "killed by signal 11" and _asks(q, "-q")),
    "cancelled at once": Reason(_told_at_the_end),
    "-N and requeued jobs": Reason(_node_of_last_run),
    "requeued by exit code": Reason(_requeued_by_exit_code),
    "-i, -I and requeued jobs": Reason(_size_of_last_run),
    "--reason and jobs that never ran": Reason(_reason_when_told),
    "-s SUSPENDED": Reason(_suspended),
    "back in the queue": Reason(_back_in_the_queue),
    "-s RUNNING and resized jobs": Reason(_resized, until=(24, 11)),
    "parts that never ran": Reason(_part_that_never_ran, since=(24, 11)),
    "a step that ends after its job": Reason(_step_ended_after_its_job, since=(24, 5)),
}
