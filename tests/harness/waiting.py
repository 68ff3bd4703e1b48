# SPDX-License-Identifier: MIT
"""Waiting for a condition, never for a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

SCALE: Final = float(os.environ.get("SLURMJCD_TEST_TIME_SCALE", "1"))

T = TypeVar("T")


def scaled(seconds: float) -> float:
    """A time limit, longer on a slow machine: SLURMJCD_TEST_TIME_SCALE multiplies it."""
    return seconds * SCALE


def wait_until(
    condition: Callable[[], T],
    *,
    what: str | Callable[[], str],
    timeout_s: float = 20.0,
    every_s: float = 0.02,
) -> T:
    """Ask again and again until the condition is true; return what it returned.

    Args:
        what: what is waited for, for the error; a function is called only then.

    Raises:
        TimeoutError: when it stayed false for timeout_s (scaled).
    """
    deadline = time.monotonic() + scaled(timeout_s)
    while not (value := condition()):
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what
            raise TimeoutError(f"waited {scaled(timeout_s):g} s for {text}")
        time.sleep(every_s)
    return value
