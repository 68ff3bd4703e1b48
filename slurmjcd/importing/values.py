# SPDX-License-Identifier: MIT
"""Values as Slurm's tools print them, into those of a record."""

from __future__ import annotations

import functools
from typing import Final

from slurmjcd.client.times import parse_minutes
from slurmjcd.importing.item import NoRecord
from slurmjcd.slurm.states import NUMBERS

_FLAG_MIN: Final = 1 << 8
_PENDING, _RUNNING, _RESIZING = (NUMBERS[name] for name in ("PENDING", "RUNNING", "RESIZING"))
_UINT32_MAX: Final = 2**32 - 1
_NO_VAL: Final = 2**32 - 2
_ABSENT: Final = frozenset({"", "(null)", "None", "None assigned", "unknown", "Unknown", "N/A"})


def text_or_none(value: str) -> str | None:
    """None for Slurm's ways to say that there is nothing."""
    return None if value in _ABSENT else value


def number(value: str, name: str) -> int:
    """An unsigned number of 32 bits.

    Raises:
        NoRecord: it is none.
    """
    if not (value.isascii() and value.isdigit()) or int(value) > _UINT32_MAX:
        raise NoRecord(f"{name} must be a number, not '{value}'")
    return int(value)


@functools.lru_cache(256)
def state(name: str) -> tuple[int, int, int | None]:
    """Base state, flags, and uid of who cancelled it, of a name such as COMPLETED or 'CANCELLED by 1000'.

    A flag's name (REQUEUED, RESIZING) hides the base state: a job that is resized was running, one that is requeued
    was made pending again.
    """
    word, _, by = name.partition(" by ")
    found = NUMBERS.get(word.upper().rstrip("+"))
    if found is None:
        raise NoRecord(f"unknown job state '{name}'")
    cancelled_by = int(by) if by.isdigit() else None
    if found >= _FLAG_MIN:
        return _RUNNING if found == _RESIZING else _PENDING, found, cancelled_by
    return found, 0, cancelled_by


@functools.lru_cache(1024)
def exit_status(text: str) -> int | None:
    """A wait status of `code:signal`."""
    if text in _ABSENT:
        return None
    code, _, signal = text.partition(":")
    if not code.isdigit() or not (signal or "0").isdigit() or int(code) > 255 or int(signal or 0) > 127:
        raise NoRecord(f"an exit code must be code:signal, not '{text}'")
    return int(code) << 8 | int(signal or 0)


@functools.lru_cache(4096)
def time_limit(text: str) -> int | str | None:
    """Minutes, UNLIMITED or Partition_Limit, of minutes or [days-]hours:minutes:seconds."""
    if text in _ABSENT:
        return None
    if text in ("UNLIMITED", "Partition_Limit"):
        return text
    try:
        minutes = int(text) if text.isdigit() else parse_minutes(text)
    except ValueError as exc:
        raise NoRecord(str(exc)) from exc
    if minutes is None:
        return "UNLIMITED"
    return minutes if minutes < _NO_VAL - 1 else None
