# SPDX-License-Identifier: MIT
"""What slurmctld knows of jobs now, asked once: slurmjcd knows only those that have ended."""

from __future__ import annotations

import subprocess
from typing import Final, NamedTuple

_FORMAT: Final = "%i|%t|%U"
_TIMEOUT_S: Final = 10.0
# what squeue(1) calls states in which no record was made yet, of this run
_ALIVE: Final = frozenset(("PD", "R", "S", "CF", "SO", "SI", "ST", "RD", "RF", "RH", "RQ", "RS"))


class Queued(NamedTuple):
    """A job of squeue's."""

    shown: str  # 100, 100_5, 100+1
    alive: bool  # it waits or runs
    uid: int


def queued(numbers: list[int]) -> list[Queued] | None:
    """These jobs, arrays and het jobs in their parts; None when squeue can't be asked."""
    command = ["squeue", "-h", "-r", "-t", "all", "-o", _FORMAT, "-j", ",".join(map(str, numbers))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    found = []
    for line in done.stdout.splitlines():
        shown, _, rest = line.partition("|")
        state, _, uid = rest.partition("|")
        if uid.isdigit():
            found.append(Queued(shown, state in _ALIVE, int(uid)))
    return found
