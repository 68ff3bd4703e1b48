# SPDX-License-Identifier: MIT
"""What a comparison found, as lines for people and as JSON, schema slurmjc.verify/1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from slurmjcd.client.columns import job_id
from slurmjcd.client.table import plain
from slurmjcd.client.times import rfc3339
from slurmjcd.importing.item import Item
from slurmjcd.importing.run import Summary
from slurmjcd.record import FIELDS
from slurmjcd.slurm.states import state_name
from slurmjcd.verifying.accounts import Reading, Window
from slurmjcd.verifying.pairing import Findings

LIVE: Final = "sacct"  # the other account is no file
SCHEMA: Final = "slurmjc.verify/1"


@dataclass(frozen=True, slots=True)
class Hole:
    """A job's run that the store lacks. Times are epoch seconds or None, `place` is its line in the other."""

    id: str
    job_id: int
    cluster: str | None
    user: str | None
    state: str
    submit: int | None
    start: int | None
    end: int | None
    place: str

    @classmethod
    def of(cls, item: Item) -> Hole:
        """What an item tells of its job."""
        fields: dict[str, Any] = dict.fromkeys(FIELDS) | {"extra": {}} | (item.fields or {})
        return cls(
            job_id(fields), fields["job_id"], fields["cluster"], fields["user"] or str(fields["uid"]),
            state_name(fields["state"], fields["extra"].get("state_flags")), fields["submit"] or None,
            fields["start"] or None, fields["end"] or None, item.place,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """All of it; `filled` is what the import of the holes did, None when there was none."""

    against: str
    window: Window
    found: Findings
    reading: Reading
    holes: list[Hole]  # the first of them
    filled: Summary | None = None

    @property
    def mended(self) -> int:
        """Runs that were missing and are there now."""
        return self.filled.stored + self.filled.already_there + self.filled.expired if self.filled else 0

    @property
    def still_missing(self) -> int:
        return len(self.found.holes) - self.mended


def lines(report: Report, *, only_holes: bool) -> Iterator[str]:
    """Hours, then the jobs that are missing, then the sums."""
    found = report.found
    shown = [hour for hour in found.hours() if found.missing[hour] or not only_holes]
    if shown:
        yield f"{'hour':<25}{report.against[:12]:>13}{'store':>10}{'missing':>10}"
    for hour in shown:
        numbers = f"{found.theirs[hour]:>13,}{found.ours[hour]:>10,}{found.missing[hour]:>10,}"
        yield f"{rfc3339(hour):<25}{numbers}"
    for hole in report.holes:
        ended = rfc3339(hole.end) if hole.end else "never"
        where = (
            "" if report.against == LIVE else f" (line {hole.place})" if hole.place.isdigit() else f" ({hole.place})"
        )
        yield f"missing: {hole.id} of {plain(hole.user)}, {hole.state}, ended {ended}{where}"
    if left_out := len(found.holes) - len(report.holes):
        yield f"missing: and {left_out:,} more (--most)"
    yield from _sums(report)


def _sums(report: Report) -> Iterator[str]:
    found, reading = report.found, report.reading
    yield (
        f"{sum(found.theirs.values()):,} jobs in {report.against}, {sum(found.ours.values()):,} in the store, "
        f"{len(found.holes):,} missing"
    )
    if found.only_ours:
        yield f"{found.only_ours:,} only in the store"
    if reading.expired:
        yield f"{reading.expired:,} left out, which ended longer ago than the store keeps jobs (redis.ttl_s)"
    if report.filled is not None:
        yield f"{report.mended:,} of the missing are in the store now"


def document(report: Report) -> str:
    """Add-only within /1. Times are epoch seconds, an hour is that of its begin."""
    found, reading = report.found, report.reading
    return json.dumps({
        "schema": SCHEMA,
        "meta": {
            "against": report.against,
            "window": {"start": report.window.start or None, "end": report.window.end},
            "expired": reading.expired,
            "only_in_store": found.only_ours,
            "missing": len(found.holes),
            "mended": report.mended,
        },
        "hours": [
            {"hour": hour, "there": found.theirs[hour], "store": found.ours[hour], "missing": found.missing[hour]}
            for hour in found.hours()
        ],
        "missing": [asdict(hole) for hole in report.holes],
        "refused": _reasons(report.filled.reasons if report.filled else []),
        "unreadable": _reasons(reading.unreadable),
    }).encode("utf-8", "replace").decode()  # fmt: skip


def _reasons(found: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"at": place, "reason": reason} for place, reason in found]
