# SPDX-License-Identifier: MIT
"""What SLURMJC.INFO said. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
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


def merged(infos: Sequence[StoreInfo]) -> StoreInfo:
    """What several shards said as if they were one: jobs and their bytes in all, else the server nearest to full's.

    Watermarks are left out where there are several: each shard has its own.
    """
    if len(infos) == 1:
        return infos[0]
    fields = dict(max(infos, key=_fill).fields)
    for name in ("jobs", "bytes", "segments"):
        fields[name] = int(sum(number(info.fields.get(name)) or 0 for info in infos))
    fields["bytes_per_job"] = fields["bytes"] // fields["jobs"] if fields["jobs"] else 0
    evicting = [info for info in infos if info.text("maxmemory_policy") not in ("", "noeviction")]
    if evicting:
        fields["maxmemory_policy"] = evicting[0].fields["maxmemory_policy"]
    return StoreInfo(fields, {})


def _fill(info: StoreInfo) -> float:
    used, most = number(info.fields.get("used_memory")) or 0.0, number(info.fields.get("maxmemory")) or 0.0
    return used / most if most else 0.0


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
