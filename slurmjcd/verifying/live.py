# SPDX-License-Identifier: MIT
"""What slurmdbd has of a window, asked by sacct, a day at a time so that no question is large for it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, Final

from slurmjcd.importing.sacct import RECOMMENDED

_DAY_S: Final = 86400
_DELIMITER: Final = "\x1f"  # no name holds it
_END: Final = RECOMMENDED.split(",").index("End")
_FIELDS: Final = RECOMMENDED.count(",") + 1
# with states sacct's window is that of ends: jobs that never became eligible are in it, those that ended later are not
_ENDED: Final = "BF,CA,CD,DL,F,NF,OOM,PR,RQ,RS,RV,TO"
_TAKEN_OUT: Final = ("SACCT_FORMAT", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")


class NoAnswer(Exception):
    """sacct could not be asked; the text says why and what to do."""


def ask(start: int, end: int, clusters: str | None, out: IO[bytes], tick: Callable[[int], None]) -> None:
    """Write what sacct prints of the jobs that ended in a window (epoch seconds) to `out`, in UTC, with a header.

    `tick` hears of each question that was answered, in seconds of the window.

    Raises:
        NoAnswer: sacct isn't there, or fails.
    """
    out.write(RECOMMENDED.replace(",", _DELIMITER).encode() + b"\n")
    for since in range(start, end, _DAY_S):
        until = min(since + _DAY_S, end)
        for line in _answer(since, until, clusters):
            if _ended(line, _utc(since), _utc(until)):
                out.write(line)
        tick(until - since)
    out.flush()


def _ended(line: bytes, since: str, until: str) -> bool:
    """Whether its job ended then. Half a line (a name may hold a line end) is for who reads it to refuse."""
    fields = line.rstrip(b"\n").split(_DELIMITER.encode())
    return len(fields) != _FIELDS or since <= fields[_END].decode("ascii", "replace") < until


def _answer(since: int, until: int, clusters: str | None) -> Iterator[bytes]:
    """sacct's lines of the jobs that ended in the window, both ends included."""
    command = ["sacct", "-a", "-X", "-D", "-P", "-n", f"--delimiter={_DELIMITER}", "-o", RECOMMENDED]
    command += ["-S", _utc(since), "-E", _utc(until), "-s", _ENDED, *(["-M", clusters] if clusters else [])]
    env = {name: value for name, value in os.environ.items() if name not in _TAKEN_OUT} | {"TZ": "UTC"}
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=env)
        except OSError as exc:
            raise NoAnswer(
                f"sacct can't be run ({exc.strerror}): on a host that has it, save what `sacct -aXDP -o {RECOMMENDED}` "
                "prints of the window and name that file with --against"
            ) from exc
        with process:
            assert process.stdout is not None
            yield from process.stdout
        if process.returncode:
            said.seek(0)
            lines = said.read().decode("utf-8", "backslashreplace").strip().splitlines()
            raise NoAnswer(f"sacct gave no answer: {lines[-1] if lines else f'it ended with {process.returncode}'}")


def _utc(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))
