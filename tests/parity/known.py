# SPDX-License-Identifier: MIT
"""Differences that come from Slurm's own code; docs/sacct.md gives the line for each."""

from __future__ import annotations

from .compare import Difference
from .questions import Question


def explain(question: Question, difference: Difference) -> str:
    """Name of the entry in docs/sacct.md that explains it, "" if none does."""
    for name, check in _KNOWN.items():
        if check(question, difference):
            return name
    return ""


_KNOWN = {
    "JobID": lambda q, d: d.column == "JobID" and d.ours == d.job,
    "Submit": lambda q, d: d.column == "Submit",
    "AllocNodes": lambda q, d: d.column == "AllocNodes",
    "TimelimitRaw": lambda q, d: d.column == "TimelimitRaw",
}
