# SPDX-License-Identifier: MIT
"""Which run of one account is which of the other, and what is left over."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmjcd.verifying.pairing import Findings, Pairing, Run, missing


def run(job_id: int, start: int, end: int, **more: int) -> Run:
    return Run("c1", job_id, start, more.get("first", start), end, more.get("shift", 0), more.get("number", 0))


def compared(theirs: list[Run], ours: list[Run]) -> Findings:
    with closing(Pairing()) as pairing:
        pairing.add_theirs(theirs)
        pairing.add_ours(ours)
        return pairing.compare()


def test_the_same_on_both_sides_is_no_hole() -> None:
    runs = [run(number, 100, 7200 * number, number=number) for number in range(1, 50)]
    found = compared(runs, list(reversed(runs)))
    assert found.holes == []
    assert found.only_ours == 0
    assert found.theirs == found.ours


def test_what_is_missing_is_named_with_its_hour() -> None:
    runs = [run(number, 100, 3600 * number + 5, number=number) for number in range(1, 10)]
    found = compared(runs, [each for each in runs if each.number not in (3, 7)])
    assert found.holes == [3, 7]
    assert dict(found.missing) == {3 * 3600: 1, 7 * 3600: 1}
    assert (found.theirs[3 * 3600], found.ours[3 * 3600]) == (1, 0)


def test_what_only_the_store_has_is_no_hole() -> None:
    found = compared([run(2, 1, 2)], [run(1, 1, 2), run(2, 1, 2), run(2, 5, 6), run(3, 1, 2)])
    assert (found.holes, found.only_ours) == ([], 3)


def test_a_job_id_of_another_cluster_is_another_job() -> None:
    other = Run("c2", 1, 1, 1, 2, 0, 1)
    found = compared([other], [run(1, 1, 2)])
    assert (found.holes, found.only_ours) == ([1], 1)


def test_jobs_of_several_clusters_are_told_apart_in_any_order() -> None:
    here, there = Run("c1", 5, 1, 1, 2, 0, 1), Run("c2", 1, 1, 1, 2, 0, 2)
    found = compared([here, there], [here])
    assert (found.holes, found.only_ours) == ([2], 0)


@pytest.mark.parametrize(
    ("theirs", "ours", "lacking"),
    [
        ([run(1, 10, 20), run(1, 30, 40)], [run(1, 30, 40)], [run(1, 10, 20)]),  # a requeue
        ([run(1, 20, 20)], [run(1, 0, 20)], []),  # cancelled at once: slurmdbd takes the end for the start
        ([run(1, 10, 20)], [run(1, 10, 25)], []),  # slurmctld died and told a later end
        # resized: slurmdbd has the whole job's start in each part, the store the resize's
        ([run(1, 10, 20), run(1, 10, 30)], [run(1, 10, 20), run(1, 20, 30, first=10)], []),
        ([run(1, 10, 20), run(1, 10, 30)], [run(1, 20, 30, first=10)], [run(1, 10, 20)]),
        ([run(1, 10, 20), run(1, 10, 30)], [run(1, 10, 20)], [run(1, 10, 30)]),
        ([run(1, 10, 20), run(1, 15, 20)], [run(1, 15, 20)], [run(1, 10, 20)]),  # the one that agrees in more
        ([run(1, 0, 20)], [run(1, 0, 25)], [run(1, 0, 20)]),  # neither ran: they have nothing in common
        ([run(1, 10, 20, shift=3600)], [run(1, 3610, 3620)], []),
        ([run(1, 10, 20)], [run(1, 3610, 3620)], [run(1, 10, 20)]),
    ],
)
def test_runs_of_one_job(theirs: list[Run], ours: list[Run], lacking: list[Run]) -> None:
    assert missing(theirs, ours) == lacking


RUNS = st.lists(st.builds(run, st.integers(1, 3), st.integers(0, 3), st.integers(4, 6)), max_size=8)


@given(RUNS, RUNS)
def test_no_run_stands_for_two(theirs: list[Run], ours: list[Run]) -> None:
    found = compared(theirs, ours)
    assert len(theirs) - len(found.holes) == len(ours) - found.only_ours
    assert len(found.holes) == sum(found.missing.values())
