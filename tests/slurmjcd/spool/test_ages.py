# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from slurmjcd.spool.ages import _MARKS_MAX, Ages


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_the_age_is_that_of_the_oldest_that_waits(clock: list[float]) -> None:
    ages = Ages()
    assert ages.oldest_s == 0
    ages.came(10)
    clock[0] = 101
    ages.came(20)
    clock[0] = 105
    assert ages.oldest_s == 5
    ages.went(9)
    assert ages.oldest_s == 5
    ages.went(10)
    assert ages.oldest_s == 4
    ages.went(20)
    assert ages.oldest_s == 0


def test_what_is_remembered_is_bounded_and_the_oldest_stays_exact(clock: list[float]) -> None:
    ages = Ages()
    for number in range(1, 3 * _MARKS_MAX):
        ages.came(number)
        clock[0] += 1
    assert len(ages._marks) == _MARKS_MAX
    assert ages.oldest_s == 3 * _MARKS_MAX - 1
    ages.went(3 * _MARKS_MAX)
    assert ages.oldest_s == 0


def test_records_that_come_close_together_share_a_mark(clock: list[float]) -> None:
    ages = Ages()
    for number in range(1, 1000):
        ages.came(number)
        clock[0] += 0.0001
    assert len(ages._marks) == 1
