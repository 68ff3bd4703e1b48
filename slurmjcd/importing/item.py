# SPDX-License-Identifier: MIT
"""What a source yields: one item for each thing that stands in it, whether it becomes a record or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


class NoRecord(ValueError):
    """This part of the source can't become a record; the text says why."""


class WrongFormat(Exception):
    """The whole source is not what it was taken for; the text says where and what was expected."""


@dataclass(slots=True)
class Item:
    """One line, row or job.

    Attributes:
        place: where it is, as a person looks for it: a line's number, a key.
        raw: what stands there, for the file of refused ones.
        fields: the record's fields as record.encode takes them; None when there is no record.
        refused: why there is none; empty for what is left out on purpose (a step, a job that still runs).
        knows_submit: whether `submit` is more than a guess, and so tells runs apart.
        shift_s: its local times may be this much later, because clocks were set back that night; else 0.
    """

    place: str
    raw: str
    fields: dict[str, Any] | None = None
    refused: str = ""
    shift_s: int = 0
    knows_submit: bool = True


class Source(Protocol):
    """Something to import. Read again without a change in between, it yields the same items in the same order."""

    kind: str
    identity: str  # digest of all that decides the items; "" when it can't be known, then nothing is resumed by number
    total: int  # items, for the progress bar; 0 unknown
    heading: str  # what must stand above refused items for them to be imported again

    def items(self, after: int) -> Iterator[Item]:
        """The items behind the first `after`."""
        ...
