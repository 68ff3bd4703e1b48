# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from slurmjcd.backoff import Backoff, Quiet


def test_waits_grow_to_a_bound_and_start_over_after_reset() -> None:
    wait = Backoff(first_s=1.0, longest_s=4.0)
    for bound in (1, 2, 4, 4, 4):
        assert bound / 10 <= wait.next_s() <= bound
    wait.reset()
    assert wait.next_s() <= 1


def test_one_message_of_a_kind_per_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    quiet = Quiet(60)
    assert [quiet.allows("a"), quiet.allows("a"), quiet.allows("b")] == [True, False, True]
    now = 161.0
    assert quiet.allows("a")


def test_what_is_remembered_is_bounded() -> None:
    quiet = Quiet(60)
    for number in range(5000):
        quiet.allows(str(number))
    assert len(quiet._last) <= 1001
