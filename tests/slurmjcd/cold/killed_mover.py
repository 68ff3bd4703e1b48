# SPDX-License-Identifier: MIT
"""Movers that are killed at their n-th step: before or after they write, sync, rename, remove or drop something.

For each line on stdin, `<n> <configuration as JSON>`, a process is forked, so that nothing is imported twice; its exit
status, negative for a signal, comes on stdout.
"""

from __future__ import annotations

import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from slurmjcd.cold import hot, mover
from slurmjcd.config.settings import Config

left = 0


def step() -> None:
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **options: Any) -> Any:
        step()
        result = function(*args, **options)
        step()
        return result

    return wrapper


for owner, name in (
    (os, "fsync"), (pathlib.Path, "rename"), (pathlib.Path, "unlink"), (hot.HotDays, "drop"),
    (pq.ParquetWriter, "write_table"), (pq.ParquetWriter, "close"),
):  # fmt: skip
    setattr(owner, name, counted(getattr(owner, name)))
mover.tell = lambda event: None  # type: ignore[assignment]

for line in sys.stdin:
    count, _, config = line.partition(" ")
    child = os.fork()
    if not child:
        left = int(count)
        mover.run(Config.model_validate_json(config))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
