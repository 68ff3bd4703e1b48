# SPDX-License-Identifier: MIT
"""What SLURMJC.INFO said. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slurmjcd.errors import Unavailable


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What SLURMJC.INFO said."""

    fields: dict[str, Any]
    watermarks: dict[str, int]

    def flag(self, name: str) -> bool:
        return self.fields.get(name) in (1, b"1", b"yes")

    def text(self, name: str) -> str:
        value = self.fields.get(name, b"")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def number(value: object) -> float | None:
    """A number of SLURMJC.INFO, as Redis sent it; None when it is none."""
    if isinstance(value, bytes):
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, (int, float)) else None


def parse_info(reply: Any) -> StoreInfo:
    """SLURMJC.INFO's reply, as flat array or map.

    Raises:
        Unavailable: it is neither.
    """
    if isinstance(reply, list):
        pairs = list(zip(reply[::2], reply[1::2], strict=False))
    elif isinstance(reply, dict):
        pairs = list(reply.items())
    else:
        raise Unavailable("the reply to SLURMJC.INFO is not a list of names and values")
    fields = {key.decode("ascii", "replace"): value for key, value in pairs if isinstance(key, bytes)}
    marks = fields.get("watermarks") or []
    if isinstance(marks, dict):
        marks = [part for pair in marks.items() for part in pair]
    try:
        watermarks = {key.decode("ascii"): int(mark) for key, mark in zip(marks[::2], marks[1::2], strict=True)}
    except (ValueError, AttributeError, TypeError) as exc:
        raise Unavailable(f"the watermarks in the reply to SLURMJC.INFO are not ids and numbers: {exc}") from exc
    return StoreInfo(fields, watermarks)
