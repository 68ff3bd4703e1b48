# SPDX-License-Identifier: MIT
"""Switches for the preloaded library of shim/faultshim.c: which call of a program fails, and how."""

from __future__ import annotations

import errno
import mmap
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from tests.harness.paths import CMAKE_BUILD

SOURCE: Final = Path(__file__).parent / "shim" / "faultshim.c"
_FIELDS: Final = 8  # of struct fault, 64 bit each
_ALWAYS: Final = 2**63


class Op(IntEnum):
    """The kinds of calls, as in enum op."""

    WRITE = 0
    SYNC = 1
    FALLOCATE = 2
    RENAME = 3
    UNLINK = 4
    TRUNCATE = 5
    OPEN = 6


class Kill(IntEnum):
    """Whether the program gets SIGKILL at the call."""

    NO = 0
    BEFORE = 1
    AFTER = 2


def library() -> Path:
    """The compiled shim; compiled when it is older than its source."""
    target = CMAKE_BUILD.parent / "faults" / "faultshim.so"
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(".new")
        words = ["cc", "-std=gnu11", "-D_FORTIFY_SOURCE=0", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        subprocess.run([*words, "-o", new, SOURCE, "-ldl", "-lpthread"], check=True)
        new.rename(target)
    return target


class Shim:
    """Faults of the programs that were started with `env`.

    Args:
        directory: for the control file and the trace.
        paths: parts of paths; only calls on such files count.
        traced: whether every counted call goes to a trace, see `entries`.
    """

    def __init__(self, directory: Path, *paths: str, traced: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.control = directory / "shim.control"
        self.trace = directory / "shim.trace"
        self.control.write_bytes(bytes(_FIELDS * 8 * len(Op) + 8))
        with self.control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.env = {
            "LD_PRELOAD": str(library()),
            "FAULTSHIM_CONTROL": str(self.control),
            "FAULTSHIM_PATHS": ":".join(paths),
            **({"FAULTSHIM_TRACE": str(self.trace)} if traced else {}),
        }

    def _get(self, op: Op, index: int) -> int:
        return int(struct.unpack_from("<Q", self._map, (op * _FIELDS + index) * 8)[0])

    def _set(self, op: Op, index: int, value: int) -> None:
        struct.pack_into("<Q", self._map, (op * _FIELDS + index) * 8, value)

    def calls(self, op: Op) -> int:
        return self._get(op, 0)

    def hits(self, op: Op) -> int:
        return self._get(op, 1)

    def fail(
        self,
        op: Op,
        *,
        error: int = errno.EIO,
        nth: int = 1,
        times: int = _ALWAYS,
        part: int = 0,
        delay_s: float = 0.0,
        kill: Kill = Kill.NO,
    ) -> None:
        """Let the `nth` call from now on fail, and the `times` - 1 after it.

        Args:
            error: errno; 0 carries the call out (for a delay, or a kill after it).
            part: percent of a write's bytes that are written before it ends short.
        """
        first = self.calls(op) + nth
        self._set(op, 2, 0)
        for index, value in ((3, first + times - 1), (4, error), (5, part), (6, int(delay_s * 1e6)), (7, kill)):
            self._set(op, index, value)
        self._set(op, 2, first)

    def move_clock(self, seconds: int) -> None:
        """Add so much to the wall clock of these programs; the monotonic clock goes on as it did."""
        struct.pack_into("<q", self._map, _FIELDS * 8 * len(Op), seconds)

    def heal(self, *ops: Op) -> None:
        """Let these calls be carried out again, without an argument all."""
        for op in ops or Op:
            self._set(op, 2, 0)

    def entries(self) -> Iterator[Entry]:
        """What was traced so far, in order; a torn last entry is left out."""
        data = self.trace.read_bytes() if self.trace.exists() else b""
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            op, result, offset, size, path = data[at:end].split(b" ", 4)
            has_data = op in b"WR"
            at = end + 1 + (int(size) if has_data else 0)
            if at > len(data):
                return
            yield Entry(op.decode(), int(result), int(offset), path.decode(), data[end + 1 : at])


@dataclass(frozen=True, slots=True)
class Entry:
    """One traced call: `op` as trace() in faultshim.c lists them."""

    op: str
    result: int
    offset: int
    path: str
    data: bytes
