# SPDX-License-Identifier: MIT
"""A progress bar on stderr for what takes more than two seconds on a terminal; silent in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_AFTER_S: Final = 2.0
_NARROW: Final = 60


class Progress:
    """`with Progress("importing", total) as progress: progress.add(n)`; a total of 0 is an unknown one."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._silent = not sys.stderr.isatty()
        self._begin = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID

    def __enter__(self) -> Progress:
        return self

    def add(self, number: int) -> None:
        """That many more are done."""
        self._done += number
        if self._silent or (self._bar is None and time.monotonic() - self._begin < _AFTER_S):
            return
        if self._bar is None:
            self._show()
        assert self._bar is not None
        self._bar.update(self._task, completed=self._done)

    def _show(self) -> None:
        # rich takes a tenth of a second to import, which only a long run has
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        # two numbers of seven digits would be cut on a narrow one
        how_far = TaskProgressColumn() if console.width < _NARROW else MofNCompleteColumn()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(None), how_far, TimeRemainingColumn(),
            console=console, transient=True, expand=True,
        )  # fmt: skip
        self._task = self._bar.add_task(self._what, total=self._total or None)
        self._bar.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
