# SPDX-License-Identifier: MIT
"""The directory of cold days: a Parquet file for each UTC day of end, `<dir>/<YYYY-MM-DD>.parquet`.

A file appears under its name when it is whole, is replaced as a whole, and never changes. Whatever else lies in the
directory is nobody's business, but `.tmp-*`, which a pass that was killed has left and the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from slurmjcd.errors import Unavailable

DAY_S: Final = 86_400
FORMAT: Final = b"1"  # of what docs/retention.md says of a file
SUFFIX: Final = ".parquet"
TEMPORARY: Final = ".tmp-"
_LOCK: Final = ".lock"
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class DayFile:
    """A day's file as it is now; equal only to itself unchanged."""

    day: int  # since 1970-01-01
    path: Path
    inode: int
    size: int
    changed_ns: int


def name_of(day: int) -> str:
    """The name of a day's file."""
    return f"{_EPOCH + timedelta(days=day)}{SUFFIX}"


def day_of(name: str) -> int | None:
    """The day whose file has this name; None when it is no such name."""
    stem = name.removesuffix(SUFFIX)
    try:
        found = date.fromisoformat(stem)
    except ValueError:
        return None
    day = (found - _EPOCH).days
    return day if name_of(day) == name else None


def unreadable(path: Path, why: object) -> Unavailable:
    """The error for a file, or the directory, that can't be read."""
    text = why.strerror if isinstance(why, OSError) and why.strerror else str(why) or type(why).__name__
    return Unavailable(f"{path} can't be read: {text}")


def state_of(directory: Path) -> os.stat_result:
    """What changes with each file that appears or goes. The directory is opened for that: without, a client of NFS
    tells what it remembers.

    Raises:
        Unavailable: the directory can't be read.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise unreadable(directory, exc) from exc


def list_days(directory: Path) -> list[DayFile]:
    """The files there are, oldest day first.

    Raises:
        Unavailable: the directory can't be read, or a file is a link to nowhere.
    """
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                day = day_of(entry.name)
                if day is None:
                    continue
                path = directory / entry.name
                try:
                    status = entry.stat()
                except FileNotFoundError as exc:
                    if entry.is_symlink():  # to where nothing is mounted, say
                        raise unreadable(path, exc) from exc
                    continue  # it was removed a moment ago, being too old
                found.append(DayFile(day, path, status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError as exc:
        raise unreadable(directory, exc) from exc
    return sorted(found, key=lambda each: each.day)


def remove_leftovers(directory: Path) -> None:
    """What a pass that was killed has left; only for who holds the lock."""
    for path in directory.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def only_mover(directory: Path) -> Iterator[bool]:
    """Whether nobody else moves days into this directory; then nobody does meanwhile."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
