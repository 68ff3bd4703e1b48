# SPDX-License-Identifier: MIT
"""One question, both sides: the rows of `sacct -X` and of `sacct -c`, and how they differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .cluster import Cluster
from .questions import Question

# What a JOBCOMP row has anything to show for, of `sacct --helpformat` (print.c, case JOBCOMP).
COLUMNS = (
    "JobIDRaw", "JobID", "Account", "AllocCPUS", "AllocNodes", "BlockID", "Cluster", "DerivedExitCode", "Elapsed",
    "ElapsedRaw", "Eligible", "End", "ExitCode", "GID", "Group", "JobName", "NCPUS", "NNodes", "NodeList", "Partition",
    "QOS", "ReqNodes", "Reservation", "Start", "State", "Submit", "Timelimit", "TimelimitRaw", "UID", "User", "WCKey",
    "WorkDir",
)  # fmt: skip
_SEPARATOR = "\x1f"

Row = dict[str, str]


@dataclass(frozen=True)
class Difference:
    """A job only one side has (column "JobIDRaw"), or a column that differs for one job."""

    column: str
    job: str
    plain: str
    ours: str
    row: Row = field(compare=False, hash=False, default_factory=dict)


@dataclass
class Answer:
    """What both sides said to a question."""

    question: Question
    jobs: int
    differences: list[Difference]


def ask(cluster: Cluster, question: Question) -> Answer:
    """Put a question to both sides at the same frozen moment of their clock."""
    at = int(cluster.clock.now())
    plain_error, plain = _sacct(cluster, question, at, "-X")
    our_error, ours = _sacct(cluster, question, at, "-c")
    plain = [row for row in plain if row["End"] != "Unknown"]  # what hasn't ended is not a completed job
    if plain_error != our_error:
        return Answer(question, len(plain), [Difference("error", "-", plain_error, our_error)])
    differences = list(_compare(plain, ours))
    return Answer(question, len(plain), differences)


def _sacct(cluster: Cluster, question: Question, at: int, side: str) -> tuple[str, list[Row]]:
    command = ["sacct", side, "-n", "-P", f"--delimiter={_SEPARATOR}", "-o", ",".join(COLUMNS), *question.args]
    env = cluster.clock.frozen(at) | {"TZ": question.zone, "SLURM_TIME_FORMAT": "%s"}
    done = cluster.try_run(*command, user=question.user, env=env)
    rows = [dict(zip(COLUMNS, line.split(_SEPARATOR), strict=True)) for line in done.stdout.split("\n") if line]
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}", rows
    return (done.stderr.strip() or "exit 1") if done.returncode else "", rows


def _compare(plain: Sequence[Row], ours: Sequence[Row]) -> Iterable[Difference]:
    theirs, mine = _by_job(plain), _by_job(ours)
    for job in sorted(theirs.keys() | mine.keys(), key=int):
        left, right = theirs[job], mine[job]
        for x, c in _pairs(left, right):
            if x is None or c is None:
                row = x or c or {}
                yield Difference("JobIDRaw", job, _run(x), _run(c), row)
                continue
            for column in COLUMNS:
                if x[column] != c[column]:
                    yield Difference(column, job, x[column], c[column], x)


def _by_job(rows: Sequence[Row]) -> defaultdict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["JobIDRaw"]].append(row)
    return found


def _pairs(left: list[Row], right: list[Row]) -> Iterable[tuple[Row | None, Row | None]]:
    """Pair the runs of one job id: same start and end first, then in order."""
    ends = Counter(_key(row) for row in left) & Counter(_key(row) for row in right)
    rest: tuple[list[Row], list[Row]] = ([], [])
    matched: tuple[list[Row], list[Row]] = ([], [])
    for side, rows in enumerate((left, right)):
        left_over = Counter(ends)
        for row in sorted(rows, key=_key):
            if left_over[_key(row)]:
                left_over[_key(row)] -= 1
                matched[side].append(row)
            else:
                rest[side].append(row)
    yield from zip(*matched, strict=True)
    if len(rest[0]) == len(rest[1]):
        yield from zip(*rest, strict=True)
    else:
        yield from ((row, None) for row in rest[0])
        yield from ((None, row) for row in rest[1])


def _key(row: Row) -> tuple[str, str]:
    return row["Start"], row["End"]


def _run(row: Row | None) -> str:
    return f"{row['State']} {row['Start']}-{row['End']}" if row else "-"
