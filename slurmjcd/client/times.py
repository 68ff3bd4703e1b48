# SPDX-License-Identifier: MIT
"""Points in time as sacct takes them on its command line, and times and spans as it prints them."""

from __future__ import annotations

import re
import time
from typing import Final

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_WORDS: Final = {"midnight": (0, 0), "noon": (12, 0), "fika": (15, 0), "teatime": (16, 0)}
_DAY_S: Final = 86400
_RELATIVE: Final = re.compile(r"now(?:([+-])(\d{1,10})([a-z]*))?", re.IGNORECASE)
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(am|pm)?", re.IGNORECASE)
_ISO: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](.+))?", re.IGNORECASE)
_SHORT: Final = re.compile(r"(\d{2})(?:[./]?(\d{2}))(?:[./]?(\d{2}))?(?:-(.+))?")
_LIMIT: Final = re.compile(r"(?:(\d{1,7})-)?(\d{1,9})(?::(\d{1,3}))?(?::(\d{1,3}))?")
_EPOCH: Final = re.compile(r"(?:uts)?(\d{9,11})", re.IGNORECASE)

FORMATS: Final = (
    "HH:MM[:SS][AM|PM], MMDD[YY][-HH:MM[:SS]], MM/DD[/YY][-HH:MM[:SS]], YYYY-MM-DD[THH:MM[:SS]], today, yesterday, "
    "midnight, noon, fika, teatime, now[{+|-}count[seconds|minutes|hours|days|weeks]]"
)


def parse_time(text: str, now: int) -> int:
    """Epoch seconds of a point in time in the local zone. A time of day or a day without year is the last such one.

    Raises:
        ValueError: not one of the formats.
    """
    plain = text.strip().lower()
    if match := _RELATIVE.fullmatch(plain):
        return now + _offset(match, text)
    if match := _EPOCH.fullmatch(plain):
        return int(match[1])
    if plain in ("today", "tomorrow", "yesterday"):
        days = {"today": 0, "tomorrow": 1, "yesterday": -1}[plain]
        date = time.localtime(now)
        return _local(date.tm_year, date.tm_mon, date.tm_mday + days, (0, 0, 0))
    if (clock := _clock(plain)) is not None:
        date = time.localtime(now)
        at = _local(date.tm_year, date.tm_mon, date.tm_mday, clock)
        return at if at <= now else _local(date.tm_year, date.tm_mon, date.tm_mday - 1, clock)
    return _date(plain, text, now)


def _offset(match: re.Match[str], text: str) -> int:
    sign, count, unit = match[1], match[2], match[3]
    if sign is None:
        return 0
    names = [name for name in _UNITS if unit in (name, f"{name}s")] if unit else ["second"]
    if not names:
        raise ValueError(f"unknown unit '{unit}' in '{text}', expected {', '.join(f'{name}s' for name in _UNITS)}")
    return int(count) * _UNITS[names[0]] * (1 if sign == "+" else -1)


def _clock(text: str) -> tuple[int, int, int] | None:
    if text in _WORDS:
        return (*_WORDS[text], 0)
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if match[4] and 1 <= hour <= 12:
        hour = hour % 12 + (12 if match[4] == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"there is no time of day '{text}'")
    return hour, minute, second


def _date(plain: str, text: str, now: int) -> int:
    if match := _ISO.fullmatch(plain):
        year, month, day, rest = int(match[1]), int(match[2]), int(match[3]), match[4]
    elif match := _SHORT.fullmatch(plain):
        month, day, rest = int(match[1]), int(match[2]), match[4]
        year = 2000 + int(match[3]) if match[3] else 0
    else:
        raise ValueError(f"'{text}' is no time, expected one of {FORMATS}")
    clock = _clock(rest) if rest else (0, 0, 0)
    if clock is None:
        raise ValueError(f"'{rest}' in '{text}' is no time of day, expected HH:MM or HH:MM:SS")
    this_year = time.localtime(now).tm_year
    at = _local(year or this_year, month, day, clock, checked=text)
    return at if year or at <= now else _local(this_year - 1, month, day, clock, checked=text)


def _local(year: int, month: int, day: int, clock: tuple[int, int, int], *, checked: str | None = None) -> int:
    try:
        at = int(time.mktime((year, month, day, *clock, 0, 0, -1)))
    except OverflowError as exc:
        raise ValueError(f"'{checked}' is out of range") from exc
    if checked is not None:
        there = time.localtime(at)
        if (there.tm_mon, there.tm_mday) != (month, day):
            raise ValueError(f"'{checked}' is no day of the calendar")
    return at


def format_time(epoch: int | None, style: str | None = None) -> str:
    """A time as sacct prints it, with SLURM_TIME_FORMAT's style if there is one."""
    if not epoch:
        return "Unknown"
    there = time.localtime(epoch)
    return time.strftime(style if style and "%" in style else "%Y-%m-%dT%H:%M:%S", there)


def rfc3339(epoch: int) -> str:
    """A time with its offset."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(epoch))
    return f"{text[:-2]}:{text[-2:]}"


def format_span(seconds: int) -> str:
    """[D-]HH:MM:SS"""
    days, rest = divmod(max(seconds, 0), _DAY_S)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def parse_minutes(text: str) -> int | None:
    """A time limit in minutes, None for UNLIMITED: min, min:sec, h:min:sec, days-h, days-h:min, days-h:min:sec.

    Raises:
        ValueError: not one of these.
    """
    plain = text.strip().lower()
    if plain in ("unlimited", "infinite", "-1"):
        return None
    match = _LIMIT.fullmatch(plain)
    if match is None:
        raise ValueError(f"'{text}' is no time limit, expected [days-]hours:minutes:seconds, minutes or UNLIMITED")
    days, parts = match[1], [int(part) for part in match.groups()[1:] if part is not None]
    if days is None and len(parts) < 3:
        parts.insert(0, 0)  # minutes come first, hours only with days or seconds
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    total_s = int(days or 0) * _DAY_S + hours * 3600 + minutes * 60 + seconds
    return -(-total_s // 60)
