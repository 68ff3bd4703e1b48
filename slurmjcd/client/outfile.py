# SPDX-License-Identifier: MIT
"""A file that is there whole or not at all: written beside its place under another name, then renamed."""

from __future__ import annotations

import os
import secrets
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import BinaryIO, Final, NoReturn

from slurmjcd.client.failure import Failure

_BUFFER_BYTES: Final = 1 << 20
_TERMINATED: Final = 128 + signal.SIGTERM


@contextmanager
def opened(path: str | None) -> Iterator[BinaryIO]:
    """A file to write to; stdout for None and '-'. What is no regular file (a pipe, a device) is written to as it is.

    Raises:
        Failure: it can't be made or written; what was there before is as it was.
    """
    if path in (None, "-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    assert path is not None
    place = os.path.realpath(path)  # a symbolic link stays one
    try:
        if _is_special(place):
            with open(place, "wb") as file:
                yield file
        else:
            with _beside(place) as file:
                yield file
    except OSError as exc:
        raise Failure(f"can't write {path}: {exc.strerror or exc}") from exc


def _is_special(place: str) -> bool:
    try:
        mode = os.stat(place).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "is a directory")
    return not stat.S_ISREG(mode)


@contextmanager
def _beside(place: str) -> Iterator[BinaryIO]:
    folder, name = os.path.split(place)
    mode = _mode(place)
    # named before it is made: there is no moment in which it is there and a signal leaves it
    beside = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.part")
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb", _BUFFER_BYTES) as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(beside, place)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(_TERMINATED)


def _mode(place: str) -> int:
    """Of the file that is replaced, or what a shell's > would give it."""
    try:
        return stat.S_IMODE(os.stat(place).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
