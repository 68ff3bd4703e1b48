# SPDX-License-Identifier: MIT
"""Job records for the module's tests, and what queries should make of them."""

from __future__ import annotations

import json
from typing import Any, Final

import msgpack

from tests.harness.paths import ROOT

SCHEMA: Final = json.loads((ROOT / "schema" / "record.json").read_text())
FIELDS: Final = [field["name"] for field in SCHEMA["fields"]]

# Noon of a day long gone, so that nothing depends on the clock.
DAY: Final = 19000
NOON: Final = DAY * 86400 + 43200

Job = dict[str, Any]


def job(job_id: int, end: int = NOON, **fields: Any) -> Job:
    """A completed job; fields override."""
    return {
        **dict.fromkeys(FIELDS),
        "version": 1,
        "job_id": job_id,
        "uid": 1000,
        "gid": 100,
        "user": "alice",
        "group": "users",
        "name": "job",
        "cluster": "c",
        "partition": "batch",
        "account": "phys",
        "state": 3,
        "exit_code": 0,
        "submit": end - 600,
        "eligible": end - 600,
        "start": end - 500,
        "end": end,
        "time_limit": 60,
        "node_count": 1,
        "cpu_count": 4,
        "nodes": "n1",
        "restart_count": 0,
        "extra": {},
        **fields,
    }


def pack(record: Job) -> bytes:
    return bytes(msgpack.packb([record[name] for name in FIELDS], use_bin_type=False, unicode_errors="surrogateescape"))


def unpack(blob: bytes) -> Job:
    row = msgpack.unpackb(blob, raw=False, unicode_errors="surrogateescape", strict_map_key=False)
    return dict(zip(FIELDS, row, strict=True))


def identity(record: Job) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("cluster", "job_id", "submit", "start", "restart_count"))


def completion(record: Job) -> tuple[Any, ...]:
    """What rows are sorted by; the last ones make the order total."""
    cluster = record["cluster"]
    return (
        *(record[n] for n in ("end", "job_id", "submit", "start", "restart_count")),
        cluster is not None,
        cluster or "",
    )


class Model:
    """What the module should hold, in plain Python."""

    def __init__(self) -> None:
        self.runs: dict[tuple[Any, ...], Job] = {}

    def put(self, record: Job) -> int:
        known = self.runs.get(identity(record))
        if known is not None and (known["end"] > record["end"] or known == record):
            return 0
        self.runs[identity(record)] = record
        return 1

    def match(self, **criteria: Any) -> list[Job]:
        """Jobs in order of completion; a list of values means or."""
        wanted = {name: value if isinstance(value, list) else [value] for name, value in criteria.items()}
        return [record for record in sorted(self.runs.values(), key=completion) if matches(record, wanted)]


def inside(record: Job, wanted: dict[str, list[Any]]) -> bool:
    """The window and the states, as docs/protocol.md has them."""
    since = wanted.get("start", [0])[0]
    until = wanted.get("end", [float("inf")])[0]
    unbounded = "start" not in wanted and "end" not in wanted
    if "state" not in wanted:
        if unbounded:
            return True
        bound = record["submit"] if "job" in wanted else record["eligible"]
        return bool(("job" in wanted or bound != 0) and bound < until and record["end"] >= since)
    return any(in_state(record, state, since, until, unbounded) for state in wanted["state"])


def in_state(record: Job, state: int, since: float, until: float, unbounded: bool) -> bool:
    flags = record["extra"].get("state_flags", 0)
    if state == 0:
        waited_until = record["start"] or record["end"]
        return not unbounded and record["eligible"] != 0 and record["eligible"] < until and since < waited_until
    if state == 1:
        return not unbounded and record["start"] != 0 and record["start"] < until and since < record["end"]
    ended_so = bool(flags & state) if state > 255 else record["state"] == state and not flags
    return ended_so and since <= record["end"] <= until


def job_id_matches(record: Job, text: str) -> bool:
    if "+" in text:
        leader, offset = text.split("+")
        return bool(record["het_job_id"] == int(leader) and record["het_job_offset"] == int(offset))
    if "_" in text:
        array, tasks = text.split("_")
        numbers = expand(tasks.strip("[]"))
        return record["array_job_id"] == int(array) and record["array_task_id"] in numbers
    numbers = expand(text)
    return any(record[name] in numbers for name in ("job_id", "array_job_id", "het_job_id"))


def expand(text: str) -> set[int]:
    out: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        out.update(range(int(low), int(high or low) + 1))
    return out


def hosts(text: str | None) -> set[str]:
    """The nodes of a list with at most one bracket per name."""
    out: set[str] = set()
    depth, part = 0, ""
    for char in (text or "") + ",":
        depth += (char == "[") - (char == "]")
        if char != "," or depth:
            part += char
            continue
        if "[" in part:
            head, rest = part.split("[")
            inner, tail = rest.split("]")
            for piece in inner.split(","):
                low, _, high = piece.partition("-")
                out.update(f"{head}{n:0{len(low)}d}{tail}" for n in range(int(low), int(high or low) + 1))
        elif part:
            out.add(part)
        part = ""
    return out


def in_bounds(value: Any, text: str) -> bool:
    if value is None or value == "Partition_Limit":
        return False
    number = float("inf") if value == "UNLIMITED" else value
    low, dash, high = text.partition("-")
    if not dash:
        return bool(number == int(low))
    return bool((not low or number >= int(low)) and (not high or number <= int(high)))


FOLDED: Final = ("account", "cluster", "partition", "qos", "wckey", "name")
COLUMN: Final = {"nodes_count": "node_count", "cpus_count": "cpu_count", "time_limit": "time_limit"}


def one(record: Job, name: str, value: Any) -> bool:
    if name == "job":
        return job_id_matches(record, value)
    if name == "exit":
        code, _, signal = str(value).partition(":")
        status = record["exit_code"]
        return status is not None and (status >> 8 & 255, status & 127) == (int(code), int(signal or 0))
    if name in COLUMN:
        return in_bounds(record[COLUMN[name]], value) and (name == "time_limit" or record["nodes"] is not None)
    if name == "node":
        return bool(hosts(value) & hosts(record["nodes"]))
    if name == "reason":
        return bool(record["extra"].get("state_reason_prev", 0) == value)
    if name in FOLDED:
        return bool((record[name] or "").lower() == value.lower())
    if isinstance(value, str):
        return (record[name] or "") == value
    return bool(record[name] == value)


def matches(record: Job, wanted: dict[str, list[Any]]) -> bool:
    if not inside(record, wanted):
        return False
    for name, values in wanted.items():
        if name in ("start", "end", "state", "viewer_account"):
            continue
        if name == "viewer":
            accounts = {account.lower() for account in wanted.get("viewer_account", [])}
            if record["uid"] not in values and (record["account"] or "").lower() not in accounts:
                return False
            continue
        if name == "constraint":
            have = (record["features"] or "").lower()
            if not all((value.lower() in have) if value else not have for value in values):
                return False
        elif not any(one(record, name, value) for value in values):
            return False
    return True
