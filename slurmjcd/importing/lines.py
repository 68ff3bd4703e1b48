# SPDX-License-Identifier: MIT
"""What the sources have in common that are files of lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item, NoRecord

Piece = tuple[str, str]


def texts(file: InputFile) -> Iterator[Piece]:
    """Number and text of each line; empty ones and comments (#) are left out."""
    with file.open() as lines:
        for number, line in enumerate(lines, 1):
            text = line.rstrip(b"\r\n")
            if text and not text.isspace() and not text.startswith(b"#"):
                yield str(number), text.decode("utf-8", "surrogateescape")


def items(pieces: Iterable[Piece], after: int, parse: Callable[[Item], None]) -> Iterator[Item]:
    """An item for each piece behind the first `after`.

    Args:
        parse: puts the record's fields into an item, or raises NoRecord.
    """
    for number, (place, raw) in enumerate(pieces, 1):
        if number <= after:
            continue
        item = Item(place, raw)
        try:
            parse(item)
        except NoRecord as exc:
            item.refused = str(exc)
        yield item
