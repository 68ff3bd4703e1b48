# SPDX-License-Identifier: MIT
"""Logging: one line per event on stderr, whatever bytes are in it."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class LineFormatter(logging.Formatter):
    """Puts an event, its traceback included, on one line; control bytes are shown as escapes."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", " | ")
        line = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
        return f"<{_PRIORITY.get(record.levelno, 6)}>{line}" if self._journal else line


def set_up(level: str) -> None:
    """Send everything from `level` on to stderr; as journald wants it when that is what stderr is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
