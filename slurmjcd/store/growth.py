# SPDX-License-Identifier: MIT
"""How fast the store grows, and for how many days there is room. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

DAY_S: Final = 86_400
_WEEK: Final = 7  # a site's load has the week's rhythm


@dataclass(frozen=True, slots=True)
class Segment:
    """The jobs that ended on one UTC day. `expires` is epoch seconds, None: never."""

    day: int  # since 1970-01-01
    jobs: int
    bytes: int
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """What came in a day, on average over the last `days` whole days (UTC)."""

    days: int
    jobs_per_day: float
    bytes_per_day: float


def parse_segments(rows: Any) -> list[Segment]:
    """`segment_sizes` of SLURMJC.INFO … SEGMENTS, oldest first.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(rows, list):
        raise ValueError("no list of segments")
    found = []
    for row in rows:
        if not isinstance(row, list) or len(row) < 4 or not all(isinstance(number, int) for number in row[:3]):
            raise ValueError("a segment is no day, jobs, bytes and expiry")
        found.append(Segment(row[0], row[1], row[2], row[3] / 1000 if isinstance(row[3], int) else None))
    return sorted(found, key=lambda segment: segment.day)


def growth(segments: Sequence[Segment], now_s: float) -> Growth | None:
    """The rate of the last seven days that are over, or of as many as there are; None before the first is."""
    today = int(now_s // DAY_S)
    days = min(_WEEK, today - segments[0].day) if segments else 0
    if days <= 0:
        return None
    recent = [segment for segment in segments if today - days <= segment.day < today]
    return Growth(days, sum(s.jobs for s in recent) / days, sum(s.bytes for s in recent) / days)


def days_left(rate: Growth | None, kept_bytes: int, room_bytes: float, retention_s: int) -> float | None:
    """For how many days `room_bytes` more than now will do at that rate.

    With a retention the store stops growing once it holds that much time; None when it will fit, or nothing is known.
    """
    if rate is None or rate.bytes_per_day <= 0:
        return None
    if retention_s and rate.bytes_per_day * retention_s / DAY_S <= kept_bytes + room_bytes:
        return None
    return max(0.0, room_bytes / rate.bytes_per_day)


def disk_room(kept_bytes: int, file_bytes: int, free_bytes: int) -> float:
    """How many bytes more the store may hold with an append-only file on a disk with so much space.

    Redis rewrites the file when it has doubled, and the new one lies beside it meanwhile: at most three times the data.
    """
    return (free_bytes + file_bytes) / 3 - kept_bytes
