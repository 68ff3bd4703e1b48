# SPDX-License-Identifier: MIT
"""What the jobs of each day add up to: the same on both sides of a move that is complete.

SLURMJC.AGG BY day counts jobs and sums their node-, cpu-, wait- and run-seconds. Two sides that agree in all five, for
each day, hold the same runs: a later report of a run, which takes the place of an earlier one, changes its run time.
"""

from __future__ import annotations

from typing import Final

from slurmjcd import protocol
from slurmjcd.errors import Unavailable
from slurmjcd.resharding.sides import Side

DAY_S: Final = 86_400
# a store of 100 million jobs is gone through in slices, and others are served in between
_COUNT_S: Final = 600.0

Sums = tuple[int, ...]  # jobs, node-seconds, cpu-seconds, wait-seconds, run-seconds
Days = dict[int, Sums]  # by day since 1970-01-01


async def days_of(side: Side) -> Days:
    """The sums over all shards.

    Raises:
        StoreError: one doesn't say.
    """
    found: Days = {}
    async with side.use() as links:
        for link, prefix in zip(links, side.prefixes, strict=True):
            rows = await link.call(protocol.AGG, prefix, b"BY", b"day", timeout_s=_COUNT_S)
            for key, *sums in rows:
                if key is None or not all(isinstance(number, int) for number in sums):
                    raise Unavailable(f"a row of SLURMJC.AGG from {side.name(links.index(link))} can't be read")
                day, before = int(key) // DAY_S, found.get(int(key) // DAY_S)
                found[day] = tuple(map(sum, zip(before, sums, strict=True))) if before else tuple(sums)
    return found


def jobs_in(days: Days) -> int:
    return sum(sums[0] for sums in days.values())


def differing(one: Days, other: Days) -> list[int]:
    """The days that are not the same, in order."""
    return sorted(day for day in one.keys() | other.keys() if one.get(day) != other.get(day))
