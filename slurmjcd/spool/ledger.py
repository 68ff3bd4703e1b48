# SPDX-License-Identifier: MIT
"""The books of one daemon, read from its spool while it runs or not: what was tried, and where each record is.

Rings count what the hook was called with and what had no room; each source's watermark counts what was taken; the
spool's own numbers count what it holds and what Redis has of it. Every record has to appear once.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slurmjcd.errors import SpoolError
from slurmjcd.spool import spoolcheck

RETRY_SOURCE: Final = "quarantine-"  # begins the names of sources that bring quarantined records again
_DAMAGED: Final = re.compile(r"checksum of records (\d+) to (\d+) is wrong")


@dataclass(frozen=True, slots=True)
class Ledger:
    """All in records. `attempted` is what rings told, at least what arrived of them."""

    spool_id: str
    attempted: int
    dropped: int  # by rings: no room, or damaged bytes
    taken: int  # by the spool, from rings
    retried: int  # taken again out of quarantine
    numbered: int  # that the spool, its damaged predecessors included, has given numbers to
    last: int  # highest number now
    shipped: int  # highest that the spool knows to be in Redis
    earlier: int  # numbers of damaged predecessors that had been shipped and trimmed
    skipped: int  # numbers that no record has: the spool was set back
    quarantined: int
    discarded: int  # dropped out of quarantine
    salvage_lost: int  # lost with a damaged spool
    lost: int  # those, and what Redis lost after the replay window

    @property
    def on_the_way(self) -> int:
        """In rings and spill files."""
        return max(0, self.attempted - self.dropped - self.taken)

    def stored(self, watermark: int) -> int:
        """In Redis, when its watermark is that."""
        gaps = self.lost - self.salvage_lost
        return watermark + self.earlier - self.skipped - self.quarantined - self.discarded - self.retried - gaps

    def waiting(self, watermark: int) -> int:
        """In the spool, not in Redis."""
        return max(0, self.last - watermark)

    def missing(self) -> int:
        """Taken, yet without a number: 0 unless something is wrong."""
        return self.taken + self.retried - self.numbered


@contextlib.contextmanager
def opened(path: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """The spool's database beside a daemon that may have it open too.

    Raises:
        SpoolError: it can't be read.
    """
    if not path.exists():
        raise SpoolError(f"there is no spool {path}: is --config the daemon's configuration?")
    try:
        uri = f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)) as database:
            database.text_factory = spoolcheck.text
            yield database
    except sqlite3.Error as exc:
        raise SpoolError(f"spool {path} can't be read: {exc}") from exc


def quarantined_records(reason: str) -> int:
    """How many records one entry of the quarantine stands for: damaged batches are kept as one."""
    found = _DAMAGED.match(reason)
    return int(found[2]) - int(found[1]) + 1 if found else 1


def read(path: Path) -> Ledger:
    """The books as they are now.

    Raises:
        SpoolError: the spool can't be read.
    """
    with opened(path) as database:
        database.execute("BEGIN")  # one moment for all questions
        meta = dict(database.execute("SELECT key, value FROM meta"))
        row = database.execute("SELECT first + count - 1 FROM batch ORDER BY first DESC LIMIT 1").fetchone()
        last = max(row[0] if row else 0, meta.get("last", 0))
        sources = database.execute("SELECT id, watermark, attempted, dropped FROM source").fetchall()
        reasons = [reason for (reason,) in database.execute("SELECT reason FROM quarantine")]
    rings = [source for source in sources if not source[0].startswith(RETRY_SOURCE)]
    earlier, skipped = meta.get("earlier", 0), meta.get("skipped", 0)
    salvage_lost = meta.get("salvage_lost", 0)
    return Ledger(
        spool_id=meta["spool"],
        attempted=sum(max(attempted, watermark + dropped) for _, watermark, attempted, dropped in rings),
        dropped=sum(dropped for *_, dropped in rings),
        taken=sum(watermark for _, watermark, *_ in rings),
        retried=sum(source[1] for source in sources) - sum(ring[1] for ring in rings),
        numbered=earlier + last + salvage_lost - skipped,
        last=last,
        shipped=meta["shipped"],
        earlier=earlier,
        skipped=skipped,
        quarantined=sum(map(quarantined_records, reasons)),
        discarded=meta.get("discarded", 0),
        salvage_lost=salvage_lost,
        lost=meta["lost"],
    )
