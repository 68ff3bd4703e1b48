# SPDX-License-Identifier: MIT
"""What no daemon ever wrote into a spool, though SQLite reads it without complaint: damage that its own check passes.

A value of another kind or size would end the shipper, or a start, at the first place that counts on it. Batches that
overlap would cost records: Redis takes each number once.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Final

from slurmjcd import protocol

NUMBER_MAX: Final = 2**53  # of anything that is counted in records
_BATCH_MAX: Final = 1_000_000  # records; they are cut at a thousandth of it, see batch.py

_NUMBER: Final = "(typeof({0}) = 'integer' AND {0} BETWEEN 0 AND " + str(NUMBER_MAX) + ")"
_TEXT: Final = "(typeof({0}) = 'text' AND length({0}) > 0)"


def _all(kind: str, *columns: str) -> str:
    return " AND ".join(kind.format(column) for column in columns)


_ID: Final = "(typeof({0}) = 'text' AND length({0}) BETWEEN 1 AND 64 AND {0} NOT GLOB '*[^A-Za-z0-9_.:-]*')"

SOUND: Final = {
    "meta": f"CASE key WHEN 'spool' THEN {_ID.format('value')} WHEN 'checked' THEN typeof(value) = 'integer'"
    f" ELSE {_TEXT.format('key')} AND {_NUMBER.format('value')} END",
    "batch": f"{_all(_NUMBER, 'first', 'count', 'clock', 'crc')} AND first > 0 AND count BETWEEN 0 AND {_BATCH_MAX}"
    " AND typeof(frames) = 'blob'",
    "source": f"{_ID.format('id')} AND {_all(_NUMBER, 'watermark', 'attempted', 'dropped', 'spilled')}"
    f" AND (last_dropped IS NULL OR {_NUMBER.format('last_dropped')})",
    "quarantine": f"{_all(_NUMBER, 'seq', 'at')} AND {_all(_TEXT, 'spool', 'reason')} AND typeof(record) = 'blob'",
}
"""For each table the condition that its sound rows meet; it is never null."""


def text(value: bytes) -> str:
    """A connection's text_factory: one text that was damaged must not end the reading of a table."""
    return value.decode("utf-8", "backslashreplace")


def unsound(database: sqlite3.Connection) -> str | None:
    """What is wrong in one of the tables, None if nothing is.

    Raises:
        sqlite3.Error: they can't be read.
    """
    for table, sound in SOUND.items():
        if database.execute(f"SELECT 1 FROM {table} WHERE NOT ({sound}) LIMIT 1").fetchone():  # noqa: S608 (our words)
            return f"a row of its table {table} has what is never written there"
    for first, _, following in suspects(database):
        records = counted(database, first)
        if following is not None and records is not None and first + records > following:
            return f"the batches at {first} and {following} overlap"
    return None


def suspects(database: sqlite3.Connection) -> list[tuple[int, int, int | None]]:
    """First number, count and the following batch's first number where a batch doesn't end as the next begins."""
    # without the frames, which sorting would copy: all of the spool
    return database.execute(
        "SELECT first, count, following FROM"
        " (SELECT first, count, lead(first) OVER (ORDER BY first) AS following FROM batch)"
        " WHERE following IS NULL OR first + count != following"
    ).fetchall()


def counted(database: sqlite3.Connection, first: int) -> int | None:
    """How many records a batch has, None when its checksum is wrong."""
    crc, frames = database.execute("SELECT crc, frames FROM batch WHERE first = ?", (first,)).fetchone()
    return len(protocol.frame_bounds(frames)) if zlib.crc32(frames) == crc else None
