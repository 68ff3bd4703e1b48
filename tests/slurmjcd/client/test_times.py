# SPDX-License-Identifier: MIT
from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from slurmjcd.client import times


@pytest.fixture(autouse=True, params=["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def local(*parts: int) -> int:
    return int(time.mktime((*parts, *[0] * (6 - len(parts)), 0, 0, -1)))  # type: ignore[arg-type]


@pytest.fixture
def now() -> int:
    """2026-03-18 14:30:15"""
    return local(2026, 3, 18, 14, 30, 15)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("14:30", (2026, 3, 18, 14, 30)),
        ("14:30:15", (2026, 3, 18, 14, 30, 15)),
        ("14:31", (2026, 3, 17, 14, 31)),
        ("2:05am", (2026, 3, 18, 2, 5)),
        ("2:05PM", (2026, 3, 18, 14, 5)),
        ("2:05 pm", (2026, 3, 18, 14, 5)),
        ("12:00am", (2026, 3, 18)),
        ("12:00pm", (2026, 3, 18, 12)),
        ("00:00", (2026, 3, 18)),
        ("9:15", (2026, 3, 18, 9, 15)),
        ("0102", (2026, 1, 2)),
        ("0318", (2026, 3, 18)),
        ("0319", (2025, 3, 19)),
        ("010224", (2024, 1, 2)),
        ("01/02", (2026, 1, 2)),
        ("01/02/24", (2024, 1, 2)),
        ("01.02.24", (2024, 1, 2)),
        ("01.02", (2026, 1, 2)),
        ("0102-12:30", (2026, 1, 2, 12, 30)),
        ("01/02/24-12:30:45", (2024, 1, 2, 12, 30, 45)),
        ("2024-02-29", (2024, 2, 29)),
        ("2026-01-02T03:04", (2026, 1, 2, 3, 4)),
        ("2026-01-02T03:04:05", (2026, 1, 2, 3, 4, 5)),
        ("2026-1-2", (2026, 1, 2)),
        ("2027-01-01", (2027, 1, 1)),
        ("today", (2026, 3, 18)),
        ("midnight", (2026, 3, 18)),
        ("yesterday", (2026, 3, 17)),
        ("tomorrow", (2026, 3, 19)),
        ("noon", (2026, 3, 18, 12)),
        ("fika", (2026, 3, 17, 15)),
        ("teatime", (2026, 3, 17, 16)),
        ("TeaTime", (2026, 3, 17, 16)),
    ],
)
def test_a_point_in_time_is_local_and_not_in_the_future_unless_it_says_so(
    text: str, parts: tuple[int, ...], now: int
) -> None:
    assert times.parse_time(text, now) == local(*parts)


@pytest.mark.parametrize(
    ("text", "offset_s"),
    [
        ("now", 0),
        ("now-2days", -172800),
        ("now-1day", -86400),
        ("now+1hour", 3600),
        ("now-90minutes", -5400),
        ("now-30", -30),
        ("now-30seconds", -30),
        ("NOW-1Week", -604800),
        ("now-2weeks", -1209600),
    ],
)
def test_relative_to_now(text: str, offset_s: int, now: int) -> None:
    assert times.parse_time(text, now) == now + offset_s


def test_epoch_seconds_are_taken_as_such(now: int) -> None:
    assert times.parse_time("1772366400", now) == times.parse_time("uts1772366400", now) == 1772366400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "25:00",
        "12:60",
        "12:00:61",
        "13",
        "1",
        "1302",
        "0231",
        "0000",
        "2026-02-30",
        "2026-13-01",
        "0102-noonish",
        "now-",
        "now-days",
        "now-3fortnights",
        "now*2",
        "2026-01-02T",
        "\x1b[2J",
        "99999999999999999999",
    ],
)
def test_what_is_no_time_is_refused(text: str, now: int) -> None:
    with pytest.raises(ValueError, match=r"no time|no day|expected|out of range"):
        times.parse_time(text, now)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00"), (59, "00:00:59"), (3661, "01:01:01"), (90061, "1-01:01:01"), (-5, "00:00:00")],
)
def test_spans(seconds: int, text: str) -> None:
    assert times.format_span(seconds) == text


def test_times_are_printed_locally_and_with_offset(now: int) -> None:
    assert times.format_time(now) == "2026-03-18T14:30:15"
    assert times.format_time(0) == times.format_time(None) == "Unknown"
    assert times.format_time(now, "%H.%M") == "14.30"
    assert times.format_time(now, "relative") == "2026-03-18T14:30:15"
    assert times.rfc3339(now).startswith("2026-03-18T14:30:15")
    assert times.rfc3339(now)[-6] in "+-"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("10", 10), ("10:30", 11), ("1:00:00", 60), ("1-0", 1440), ("2-12:30", 3630), ("1-1:1:1", 1502), ("0", 0),
        ("UNLIMITED", None), ("infinite", None),
    ],
)  # fmt: skip
def test_a_time_limit_in_minutes_seconds_rounded_up(text: str, minutes: int | None) -> None:
    assert times.parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "1-", "1.5", "9" * 20])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time limit, expected"):
        times.parse_minutes(text)
