# SPDX-License-Identifier: MIT
"""What `slurmjc doctor` looks at: each finding says what is wrong and how to put it right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "unknown", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `fix` is what to do, empty when there is nothing to be done."""

    check: str
    level: Level
    text: str
    fix: str = ""
