# SPDX-License-Identifier: MIT
"""How fast the store grows and how long the room lasts."""

from __future__ import annotations

from typing import Any

import pytest

from slurmjcd.store.growth import DAY_S, Growth, Segment, days_left, disk_room, growth, parse_segments

NOW = 20_000 * DAY_S + 3600  # an hour into day 20000


def test_the_rate_is_that_of_the_last_whole_days() -> None:
    segments = [Segment(day, 100, 5000) for day in range(19_980, 20_000)] + [Segment(20_000, 9, 999)]
    assert growth(segments, NOW) == Growth(7, 100, 5000)


def test_days_without_a_job_count() -> None:
    assert growth([Segment(19_993, 70, 700), Segment(19_999, 70, 700)], NOW) == Growth(7, 20, 200)


@pytest.mark.parametrize("segments", [[], [Segment(20_000, 5, 50)], [Segment(20_001, 5, 50)]])
def test_before_the_first_day_is_over_nothing_is_known(segments: list[Segment]) -> None:
    assert growth(segments, NOW) is None


@pytest.mark.parametrize(
    ("room", "retention_s", "left"),
    [
        (1000, 0, 10.0),
        (-5, 0, 0.0),
        (1000, 20 * DAY_S, None),  # 2000 bytes fit into 1500 + 1000
        (1000, 30 * DAY_S, 10.0),  # 3000 don't
    ],
)
def test_days_left(room: float, retention_s: int, left: float | None) -> None:
    assert days_left(Growth(7, 1, 100), 1500, room, retention_s) == left


def test_without_a_rate_no_days() -> None:
    assert days_left(None, 0, 100, 0) is None
    assert days_left(Growth(7, 0, 0), 0, 100, 0) is None


def test_an_append_only_file_needs_three_times_the_data() -> None:
    assert disk_room(kept_bytes=100, file_bytes=150, free_bytes=450) == 100


def test_segments_are_read_oldest_first() -> None:
    assert parse_segments([[2, 1, 50, 5000], [1, 3, 90, None]]) == [Segment(1, 3, 90), Segment(2, 1, 50, 5.0)]


@pytest.mark.parametrize("rows", [None, b"", [1], [[1, 2]], [[b"1", 2, 3, None]]])
def test_what_is_no_list_of_segments_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"^no list|^a segment"):
        parse_segments(rows)
