# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging

import pytest

from slurmjcd.logs import LineFormatter


def line(message: str, *args: object, journal: bool = True, exc_info: bool = False) -> str:
    try:
        raise ValueError("first\nsecond")
    except ValueError as exc:
        info = (ValueError, exc, exc.__traceback__) if exc_info else None
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, message, args, info)
    return LineFormatter(journal=journal).format(record)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2Jx", "\r", "\0", "\u202e", "\x85", "\udcff"])
def test_an_event_is_one_printable_line(name: str) -> None:
    shown = line("job %s ended", name)
    assert shown.isprintable()
    assert shown.startswith("<4>job ")
    assert shown.endswith(" ended")


def test_a_traceback_is_on_the_same_line() -> None:
    shown = line("bug", exc_info=True)
    assert "ValueError: first | second" in shown
    assert "\n" not in shown


def test_without_journald_a_line_has_time_and_level() -> None:
    assert " WARNING hello" in line("hello", journal=False)
