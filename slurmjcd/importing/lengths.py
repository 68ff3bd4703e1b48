# SPDX-License-Identifier: MIT
"""Strings of a record are cut where the plugin cuts them: schema/record.json's max_bytes, which a test compares."""

from __future__ import annotations

from typing import Any, Final

STRING_MAX: Final = 16_384
OTHER_MAX: Final = {
    "nodes": 131_072, "comment": 65_536, "admin_comment": 65_536, "system_comment": 65_536, "script": 262_144,
}  # fmt: skip


def may_be_long(blob: bytes) -> bool:
    """Whether a record of these bytes can hold a string that is too long."""
    return len(blob) > STRING_MAX


def shortened(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with strings of at most their length, those that were cut named in extra.truncated."""
    truncated: list[str] = []
    found = {name: _cut(name, value, truncated) for name, value in fields.items()}
    extra = {name: _cut(name, value, truncated) for name, value in (fields.get("extra") or {}).items()}
    if truncated:
        extra["truncated"] = ",".join(truncated)
    return found | {"extra": extra}


def _cut(name: str, value: Any, truncated: list[str]) -> Any:
    if not isinstance(value, str):
        return value
    raw, most = value.encode("utf-8", "surrogateescape"), OTHER_MAX.get(name, STRING_MAX)
    if len(raw) <= most:
        return value
    truncated.append(name)
    while most and raw[most] & 0xC0 == 0x80:  # never inside a character
        most -= 1
    return raw[:most].decode("utf-8", "surrogateescape")
