# SPDX-License-Identifier: MIT
"""What `slurmjc doctor` looks at: each finding says what is wrong and how to put it right."""

from __future__ import annotations

from dataclasses import dataclass

from slurmjcd.doctor.codes import CODES, Level

__all__ = ["Finding", "Level", "fine", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `fix` is a command or a line of a configuration; both empty when all is well."""

    check: str
    level: Level
    text: str
    fix: str = ""
    code: str = ""  # one of codes.CODES


def fine(check: str, text: str) -> Finding:
    return Finding(check, "ok", text)


def problem(code: str, text: str, fix: str) -> Finding:
    """A finding by its name in docs/doctor.md, which says how bad it is."""
    check, level = CODES[code]
    return Finding(check, level, text, fix, code)
