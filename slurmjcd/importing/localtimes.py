# SPDX-License-Identifier: MIT
"""Local times without an offset, as Slurm's logs have them, into epoch seconds.

The rule for the hour that comes twice, when clocks are set back: the first one, unless the times of the same job
(submit, eligible, start, end) would then be out of order. A time that no clock showed, because clocks were set forward,
is an error: such a log comes from another time zone.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from slurmjcd.importing.item import NoRecord

_NEVER: Final = frozenset({"Unknown", "unknown", "None", "none", "", "N/A", "0"})
_CACHE_MAX: Final = 200_000  # minutes; a cache of them because a log has few and strptime takes long
_TEXT: Final = 19  # 2026-03-01T12:00:00
_LOCALTIME: Final = Path("/etc/localtime")


def find_zone(name: str | None) -> tuple[str, tzinfo]:
    """A time zone and what tells it from others; without a name that of this host.

    Raises:
        ValueError: there is none of that name; the text says what would be right.
    """
    wanted = name or os.environ.get("TZ", "").removeprefix(":")
    if wanted.upper() in ("UTC", "UTC0", "GMT", "Z"):
        return "UTC", UTC
    if wanted:
        try:
            return wanted, ZoneInfo(wanted)
        except (KeyError, OSError, ValueError) as exc:  # a name that isn't there is a KeyError
            said = "--timezone" if name else "the environment's TZ"
            raise ValueError(
                f"there is no time zone '{wanted}' ({said}) in this host's tzdata: "
                "expected a name such as Europe/Berlin or UTC"
            ) from exc
    try:
        data = _LOCALTIME.read_bytes()
        with _LOCALTIME.open("rb") as file:
            return hashlib.sha256(data).hexdigest()[:16], ZoneInfo.from_file(file, key="local")
    except FileNotFoundError:
        return "UTC", UTC
    except (OSError, ValueError) as exc:
        raise ValueError(f"{_LOCALTIME} can't be read ({exc}): name the zone with --timezone") from exc


class LocalTimes:
    """Reads times of one zone."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._minutes: dict[str, tuple[int, int]] = {}

    def read(self, text: str) -> tuple[int, int]:
        """Epoch seconds, and how much later it may be as well: 0, or what clocks were set back by.

        0 for never. Takes YYYY-MM-DDTHH:MM:SS, the same with Z or an offset, and epoch seconds.

        Raises:
            NoRecord: it is no time.
        """
        if text in _NEVER:
            return 0, 0
        if len(text) != _TEXT:
            return self._other(text), 0
        known = self._minutes.get(text[:16])
        if known is None:
            known = self._look_up(text)
        seconds = text[17:]
        if text[16] != ":" or not seconds.isdigit() or int(seconds) > 60:
            raise NoRecord(f"'{text}' is no time, expected YYYY-MM-DDTHH:MM:SS")
        return known[0] + int(seconds), known[1]

    def in_order(self, *texts: str) -> tuple[list[int], int]:
        """The times of one job, given in the order in which they happened; and their shift, see `read`."""
        times: list[int] = []
        before = shift_s = 0
        for text in texts:
            at, shift = self.read(text)
            if shift:
                shift_s = shift
                if at < before:
                    at += shift
            times.append(at)
            before = max(before, at)
        return times, shift_s

    def _look_up(self, text: str) -> tuple[int, int]:
        minute = text[:16]
        try:
            there = datetime.strptime(minute, "%Y-%m-%dT%H:%M")  # the zone comes next
        except ValueError as exc:
            raise NoRecord(f"'{text}' is no time, expected YYYY-MM-DDTHH:MM:SS") from exc
        first = there.replace(tzinfo=self._zone)
        epoch = int(first.timestamp())
        if datetime.fromtimestamp(epoch, self._zone).replace(tzinfo=None) != there:
            raise NoRecord(f"no clock of this time zone ever showed {text}: is --timezone that of the log?")
        if epoch < 0:
            raise NoRecord(f"'{text}' is before 1970")
        shift = int(first.replace(fold=1).timestamp()) - epoch
        if len(self._minutes) >= _CACHE_MAX:
            self._minutes.clear()
        self._minutes[minute] = epoch, shift
        return epoch, shift

    @staticmethod
    def _other(text: str) -> int:
        if text.isdigit() and len(text) <= 11:
            return int(text)
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            raise NoRecord(f"'{text}' is no time, expected YYYY-MM-DDTHH:MM:SS")
        return int(at.timestamp())
