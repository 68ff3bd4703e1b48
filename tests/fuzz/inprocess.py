# SPDX-License-Identifier: MIT
"""A connection without a socket, for fuzz targets: bytes in by hand, bytes out into a list, complaints seen."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import hiredis


class Wire(asyncio.Transport):
    """The server's end of a connection whose other end reads everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.out = bytearray()
        self._closing = False

    def write(self, data: Any) -> None:
        assert not self._closing, "bytes are written behind the end of a connection"
        self.out += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Everything is there already."""

    def resume_reading(self) -> None:
        """It never paused."""

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""


class Complaints(logging.Handler):
    """What was logged as an error: a traceback, most likely. Other lines are dropped."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def __enter__(self) -> Complaints:
        root = logging.getLogger()
        self._before = root.handlers[:]
        root.handlers[:] = [self]
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().handlers[:] = self._before


def pieces(data: bytes, seed: int) -> list[bytes]:
    """The data in pieces of one size, which depends on the seed; 0 is one piece."""
    size = seed % 64 or max(1, len(data))
    return [data[at : at + size] for at in range(0, len(data), size)]


def replies(out: bytes | bytearray) -> list[Any]:
    """The RESP replies in the bytes; fails when there is anything else."""
    reader, found = hiredis.Reader(), []
    reader.feed(bytes(out))
    while (reply := reader.gets()) is not False:
        found.append(reply)
    assert not reader.has_data(), "the bytes end inside a reply"
    return found
