# SPDX-License-Identifier: MIT
"""What is where in the end, compared with what was promised."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from slurmjcd import protocol, record
from tests.faults import jobs


def stored(client: redis.Redis, prefix: str = "job") -> list[bytes]:
    """Every record in the store."""
    if client.execute_command("SLURMJC.MATCH", prefix, "oracle") is None:
        return []
    found: list[bytes] = []
    while page := client.execute_command("SLURMJC.FETCH", prefix, "oracle", 5000, "RECORDS"):
        found += page
    return found


def watermarks(client: redis.Redis, prefix: str = "job") -> dict[str, int]:
    return {key.decode(): int(value) for key, value in client.hgetall(f"{prefix}:spools").items()}


def _spool(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def spooled(path: Path) -> list[bytes]:
    """Every record in a spool file."""
    with contextlib.closing(_spool(path)) as database:
        rows = database.execute("SELECT frames FROM batch ORDER BY first").fetchall()
    return [frame for (frames,) in rows for frame in protocol.split_frames(frames)]


def quarantined(path: Path) -> list[bytes]:
    with contextlib.closing(_spool(path)) as database:
        return [row[0] for row in database.execute("SELECT record FROM quarantine")]


@dataclass
class Verdict:
    """How what was found differs from what was promised."""

    lost: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)  # never sent
    changed: dict[int, object] = field(default_factory=dict)
    seen: Counter[int] = field(default_factory=Counter)  # how often each job was found

    def __str__(self) -> str:
        return (
            f"lost {len(self.lost)} {self.lost[:5]}, twice {len(self.twice)} {self.twice[:5]}, "
            f"unknown {len(self.unknown)} {self.unknown[:5]}, "
            f"changed {len(self.changed)} {dict(list(self.changed.items())[:2])}"
        )

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.unknown or self.changed)


def counts(found: Counter[int], wanted: Counter[int]) -> str:
    """What two lists of job ids differ in."""
    lacks, has = sorted((wanted - found).elements()), sorted((found - wanted).elements())
    return f"lacks {len(lacks)} {lacks[:5]}, has {len(has)} too much {has[:5]}"


def compare(promised: Iterable[int], found: Iterable[bytes], *, possible: Iterable[int] = ()) -> Verdict:
    """Job ids that must be there once, against records; those of `possible` may be there once too."""
    verdict = Verdict()
    must = set(promised)
    may = must | set(possible)
    counts: Counter[int] = Counter()
    for blob in found:
        job_id = record.decode_row(blob)[1]
        counts[job_id] += 1
        if job_id not in may:
            verdict.unknown.append(job_id)
        elif wrong := jobs.differences(blob):
            verdict.changed[job_id] = wrong
    verdict.lost = sorted(must - counts.keys())
    verdict.twice = sorted(job_id for job_id, count in counts.items() if count > 1)
    return verdict
