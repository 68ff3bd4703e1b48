# SPDX-License-Identifier: MIT
"""The table, the list of differences, and the verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from .compare import Answer, Difference
from .known import explain


def write(answers: Sequence[Answer], details: Path) -> int:
    """Print the table and write every unexplained difference to `details`; the exit status.

    Beside it, explained.txt has one line for each reason and job.
    """
    groups: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.question.group].append(answer)
    explained: Counter[str] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    open_ones: list[tuple[Answer, Difference]] = []
    print(f"{'questions':<14} {'asked':>5} {'with jobs':>9} {'jobs':>7} {'same ids':>9} {'same columns':>12}")
    for name, members in groups.items():
        ids = columns = 0
        for answer in members:
            left = []
            for d in answer.differences:
                if reason := explain(answer.question, d):
                    explained[reason] += 1
                    examples.setdefault((reason, d.column, d.job), f"{reason}: {_line(answer, d)}")
                else:
                    left.append(d)
            open_ones += [(answer, difference) for difference in left]
            ids += not any(d.column in ("JobIDRaw", "error") for d in left)
            columns += not any(d.column not in ("JobIDRaw", "error") for d in left)
        asked = len(members)
        with_jobs = sum(1 for answer in members if answer.jobs)
        jobs = sum(answer.jobs for answer in members)
        print(f"{name:<14} {asked:>5} {with_jobs:>9} {jobs:>7} {ids:>5}/{asked:<4} {columns:>6}/{asked:<4}")
    for reason, times in sorted(explained.items()):
        print(f"explained in docs/sacct.md: {reason} ({times} times)")
    details.with_name("explained.txt").write_text("".join(sorted(examples.values())))
    details.write_text("".join(_line(answer, difference) for answer, difference in open_ones))
    if not open_ones:
        return 0
    distinct: Counter[Difference] = Counter(difference for _, difference in open_ones)
    example = {difference: answer for answer, difference in reversed(open_ones)}
    print(f"{len(distinct)} differences without a reason, every time they show is in {details}:")
    for difference, times in sorted(distinct.items(), key=lambda item: (item[0].column, item[0].job)):
        print(f"{times:>5} x {_line(example[difference], difference)}", end="")
    return 1


def _line(answer: Answer, d: Difference) -> str:
    return f"{d.column:<12} job {d.job:<6} -X {d.plain!r} -c {d.ours!r}   sacct {answer.question.text}\n"
