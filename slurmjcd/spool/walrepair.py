# SPDX-License-Identifier: MIT
"""A write-ahead log with damaged bytes in the middle: SQLite would silently stop there, and forget what came behind.

Each frame's checksum goes on from the one before it, as stored there; so every frame can be judged by itself. Damage is
a bad frame with good ones behind it (a power failure can leave that too, of frames that were never synced: taking
those in does no harm, records are numbered). Then the log is kept for whoever looks, and all its pages are put into the
database as they are, the damaged ones too: what is wrong in those shows there, in the checksum of each batch.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_MAGICS: Final = {0x377F0682: "<", 0x377F0683: ">"}
_MAX_BYTES: Final = 1024**3


@dataclass(frozen=True, slots=True)
class _Frame:
    page: int
    pages_in_all: int  # of a commit, 0 otherwise
    data: bytes
    good: bool


def repair(path: Path, *, stamp: int, always: bool = False) -> int:
    """Look at the log of the database at `path`; returns how many damaged frames it had (0: it was left alone).

    Args:
        always: take in a log without damage too, because SQLite can't.
    """
    wal = path.with_name(f"{path.name}-wal")
    if not wal.exists() or not _HEADER_BYTES < wal.stat().st_size <= _MAX_BYTES:
        return 0
    frames, page_bytes = _frames(wal.read_bytes())
    last_good = max((number for number, frame in enumerate(frames) if frame.good), default=-1)
    bad = sum(1 for frame in frames[:last_good] if not frame.good)
    commit = max((number for number, frame in enumerate(frames) if frame.good and frame.pages_in_all), default=-1)
    if not (bad or always) or commit < 0:
        return 0
    aside = wal.with_name(f"{path.name}.damaged-{stamp}-wal")
    draft = path.with_name(f"{path.name}.repaired")
    shutil.copyfile(path, draft)
    draft.chmod(0o600)
    with draft.open("r+b") as file:
        for frame in frames[: commit + 1]:
            if 0 < frame.page <= frames[commit].pages_in_all:
                file.seek((frame.page - 1) * page_bytes)
                file.write(frame.data)
        file.truncate(frames[commit].pages_in_all * page_bytes)
        file.flush()
        os.fsync(file.fileno())
    wal.rename(aside)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    draft.rename(path)
    if not bad:
        return 0
    log.error(
        "spool %s: %d damaged frames in its write-ahead log, which is kept as %s; its pages were taken in as they are",
        path, bad, aside.name,
    )  # fmt: skip
    return bad


def _frames(data: bytes) -> tuple[list[_Frame], int]:
    """The frames of the log's current round, in order, and the size of a page; none when its header is unreadable."""
    magic, _, page_bytes, _, salt_1, salt_2, *_ = struct.unpack(">8I", data[:_HEADER_BYTES])
    order = _MAGICS.get(magic)
    if order is None or page_bytes < 512 or page_bytes & (page_bytes - 1):
        return [], 0
    before = _checksum(data[:24], (0, 0), order)
    if before != struct.unpack(">2I", data[24:32]):
        return [], 0
    frames: list[_Frame] = []
    size = _FRAME_HEADER_BYTES + page_bytes
    for at in range(_HEADER_BYTES, len(data) - size + 1, size):
        head = data[at : at + _FRAME_HEADER_BYTES]
        page, pages_in_all, its_salt_1, its_salt_2, *stored = struct.unpack(">6I", head)
        content = data[at + _FRAME_HEADER_BYTES : at + size]
        # a frame of another round: what an earlier one left behind the end, or one whose salt is damaged
        salted = (its_salt_1, its_salt_2) == (salt_1, salt_2)
        good = salted and list(_checksum(content, _checksum(head[:8], before, order), order)) == stored
        before = (stored[0], stored[1])
        frames.append(_Frame(page, pages_in_all, content, good))
    return frames, page_bytes


def _checksum(data: bytes, seed: tuple[int, int], order: str) -> tuple[int, int]:
    """SQLite's own, over a multiple of 8 bytes."""
    s0, s1 = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + even + s1) & 0xFFFFFFFF
        s1 = (s1 + odd + s0) & 0xFFFFFFFF
    return s0, s1
