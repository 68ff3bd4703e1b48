# SPDX-License-Identifier: MIT
"""What goes into the spool and comes out of it: batches of records as frames, and the counters of rings. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from slurmjcd import protocol

_ROW_RECORDS: Final = 500  # a batch larger than this is cut, so that it is no long command for Redis
_ROW_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Records `first` to `first + count - 1` of the spool."""

    first: int
    count: int
    frames: bytes
    committed_at: float = 0.0  # monotonic seconds, 0 when it was read back from disk

    @property
    def last(self) -> int:
        return self.first + self.count - 1


@dataclass(frozen=True, slots=True)
class Intake:
    """Records of one source that a commit takes in: all are new, `last` is the source's watermark after it."""

    source: str
    last: int
    count: int
    frames: bytes


@dataclass(slots=True)
class Ring:
    """The counters of a plugin's ring, as it last told them."""

    attempted: int = 0
    dropped: int = 0
    spilled: int = 0
    last_dropped: int | None = None


def cut(intakes: list[Intake], first: int) -> list[Batch]:
    """Batches of a handy size from what several sources brought, numbered from `first`."""
    now = time.monotonic()
    batches: list[Batch] = []
    frames: list[bytes] = []
    count = size = 0
    for part_count, part in _parts(intakes):
        if frames and (count + part_count > _ROW_RECORDS or size + len(part) > _ROW_BYTES):
            batches.append(Batch(first, count, b"".join(frames), now))
            first, count, size, frames = first + count, 0, 0, []
        frames.append(part)
        count, size = count + part_count, size + len(part)
    if frames:
        batches.append(Batch(first, count, b"".join(frames), now))
    return batches


def _parts(intakes: list[Intake]) -> Iterator[tuple[int, bytes]]:
    """Count and frames of each intake, those that are too large cut between records."""
    for intake in intakes:
        if intake.count <= _ROW_RECORDS and len(intake.frames) <= _ROW_BYTES:
            yield intake.count, intake.frames
            continue
        begin, end, count = 0, 0, 0
        for _, stop in protocol.frame_bounds(intake.frames):
            if count and (count == _ROW_RECORDS or stop + 2 - begin > _ROW_BYTES):
                yield count, intake.frames[begin:end]
                begin, count = end, 0
            end, count = stop + 2, count + 1
        yield count, intake.frames[begin:end]
