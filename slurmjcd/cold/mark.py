# SPDX-License-Identifier: MIT
"""Which directory cold.dir is: a mark in it, so that an empty mount point isn't taken for a directory without days.

The daemon that moves days makes the mark and remembers it beside its spool. One that only answers has no memory; a
directory without files and without mark is none to it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from slurmjcd.cold.files import TEMPORARY, unreadable
from slurmjcd.errors import Unavailable
from slurmjcd.spool.disk import sync_directory

MARK: Final = ".slurmjcd"
_MARK_MAX: Final = 64


class MarkedDirectory:
    """Args:
    memory: file in which a daemon that moves days keeps the mark; None for one that only answers.
    """

    def __init__(self, directory: Path, memory: Path | None) -> None:
        self._directory, self._memory = directory, memory
        self._known: str | None = None

    def check(self, *, empty: bool) -> None:
        """See that it is the directory it was; `empty` if it has no files of days. Blocks.

        Raises:
            Unavailable: it is not, or one can't know.
        """
        mark = _read(self._directory / MARK)
        if self._memory is None:
            if mark is None and empty:
                raise Unavailable(
                    f"{self._directory} has no files and no mark ({MARK}) of a daemon that moves days: is it mounted?"
                )
            return
        if self._known is None:
            self._known = _read(self._memory)
        if self._known is None:
            mark = self._known = self._settle(mark, self._memory)
        if mark != self._known:
            raise Unavailable(
                f"{self._directory} is not the directory that days were moved to, its mark ({MARK}) is "
                f"{'missing' if mark is None else 'another'}: mount that one, or if this is all of it, remove "
                f"{self._memory} and restart slurmjcd"
            )

    def _settle(self, mark: str | None, memory: Path) -> str:
        """Remember its mark, and make one where there is none."""
        try:
            mark = mark or _make(self._directory)
            _write(memory.with_name(f"{memory.name}.new"), mark).rename(memory)
            sync_directory(memory.parent)
        except OSError as exc:
            raise Unavailable(f"the mark of {self._directory} can't be written: {exc.strerror or exc}") from exc
        return mark


def _make(directory: Path) -> str:
    """Give it a mark, unless another daemon is faster; the one it has then."""
    mark, path = secrets.token_hex(16), directory / MARK
    beside = _write(directory / f"{TEMPORARY}{mark}", mark)
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(beside)
    beside.unlink()
    sync_directory(directory)
    return _read(path) or mark


def _write(path: Path, mark: str) -> Path:
    with path.open("w") as out:
        out.write(f"{mark}\n")
        out.flush()
        os.fsync(out.fileno())
    return path


def _read(path: Path) -> str | None:
    try:
        with path.open() as file:
            return file.read(_MARK_MAX).strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as exc:
        raise unreadable(path, exc) from exc
