# SPDX-License-Identifier: MIT
"""Local times into epoch seconds, above all in the two nights of a year that have an hour too few or too many."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from slurmjcd.importing.item import NoRecord
from slurmjcd.importing.localtimes import LocalTimes, find_zone

BERLIN = LocalTimes(ZoneInfo("Europe/Berlin"))


def utc(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T12:00:05", utc(2026, 3, 1, 11, 0, 5)),
        ("2026-07-01T12:00:05", utc(2026, 7, 1, 10, 0, 5)),
        ("2026-03-01T12:00:05Z", utc(2026, 3, 1, 12, 0, 5)),
        ("2026-03-01T12:00:05+05:30", utc(2026, 3, 1, 6, 30, 5)),
        ("1772366400", 1772366400),
        ("Unknown", 0),
        ("None", 0),
    ],
)
def test_a_time_of_each_form(text: str, expected: int) -> None:
    assert BERLIN.read(text) == (expected, 0)


def test_the_hour_that_comes_twice_is_the_first_unless_the_job_would_run_backward() -> None:
    # clocks went from 03:00 CEST to 02:00 CET on 2026-10-25
    times, shift = BERLIN.in_order("2026-10-25T01:59:00", "2026-10-25T02:10:00", "2026-10-25T02:50:00")
    assert (times, shift) == ([utc(2026, 10, 24, 23, 59), utc(2026, 10, 25, 0, 10), utc(2026, 10, 25, 0, 50)], 3600)
    times, shift = BERLIN.in_order("2026-10-25T02:50:00", "2026-10-25T02:10:00")
    assert (times, shift) == ([utc(2026, 10, 25, 0, 50), utc(2026, 10, 25, 1, 10)], 3600)


def test_an_unknown_time_between_two_does_not_put_them_out_of_order() -> None:
    times, _ = BERLIN.in_order("2026-10-25T02:50:00", "Unknown", "2026-10-25T02:10:00")
    assert times == [utc(2026, 10, 25, 0, 50), 0, utc(2026, 10, 25, 1, 10)]


def test_a_time_that_no_clock_showed_is_refused() -> None:
    with pytest.raises(NoRecord, match="no clock of this time zone ever showed 2026-03-29T02:30:00"):
        BERLIN.read("2026-03-29T02:30:00")


@pytest.mark.parametrize(
    "text", ["2026-02-30T00:00:00", "2026-03-01 12h", "yesterday", "2026-03-01T12:00:0x", "9" * 19]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(NoRecord, match="is no time"):
        BERLIN.read(text)


def test_a_zone_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"no time zone 'Europe/Nowhere' \(--timezone\)"):
        find_zone("Europe/Nowhere")


def test_the_zone_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert find_zone(None)[0] == "Asia/Kolkata"
    monkeypatch.setenv("TZ", "CET-1CEST")
    with pytest.raises(ValueError, match="the environment's TZ"):
        find_zone(None)
