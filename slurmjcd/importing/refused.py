# SPDX-License-Identifier: MIT
"""The file that keeps what was refused, each with its reason, in a form that can be imported again when mended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, TextIO

from slurmjcd.importing.item import Item

_HEAD: Final = "# slurmjc import "
_MARK: Final = re.compile(r"# item (\d+), at (.*?): ")


class RefusedFile:
    """Made when the first item comes. That of an import which goes on is kept as far as that import had come."""

    def __init__(self, path: Path, identity: str, heading: str) -> None:
        self.path, self._identity, self._heading = path, identity, heading
        self._file: TextIO | None = None
        self.number = 0  # entries in it

    def go_on(self, after: int) -> None:
        """Keep the entries of the first `after` items: of those behind, a killed run may have left some."""
        try:
            with self.path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                lines = file.read().split("\n")
        except FileNotFoundError:
            return
        kept: list[str] = []
        if lines[0] != f"{_HEAD}{self._identity}":
            return
        for at, line in enumerate(lines):
            if match := _MARK.match(line):
                if int(match[1]) > after:
                    break
                # an entry that a power loss cut has no line end behind it
                kept += [line, *lines[at + 1 : at + 2]]
                self.number += 1
        self._start(kept)

    def add(self, number: int, item: Item) -> None:
        """Item `number` of the source."""
        if self._file is None:
            self._start([])
        assert self._file is not None
        self.number += 1
        self._file.write(f"# item {number}, at {item.place}: {_one_line(item.refused)}\n{_one_line(item.raw)}\n")

    def _start(self, kept: list[str]) -> None:
        above = [f"{_HEAD}{self._identity}", *([self._heading] if self._heading else []), *kept]
        self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n")
        self._file.write("".join(f"{line}\n" for line in above))

    def flush(self) -> None:
        """Before what comes behind these entries is marked as taken."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
