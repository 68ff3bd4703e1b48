# SPDX-License-Identifier: MIT
"""Makes corpus/spool-<format>.db.xz: run it once for each format of the spool, before the format changes.

The files are kept for ever: a daemon has to read every format that one before it may have left.
"""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path
from typing import Final

from slurmjcd import protocol
from slurmjcd.spool import spoolfile
from slurmjcd.spool.batch import Batch, Intake, Ring
from slurmjcd.spool.spooldb import SpoolDatabase
from tests.faults import jobs

CORPUS: Final = Path(__file__).parent / "corpus"
SOURCE: Final = "kept-0123456789abcdef.1"
RECORDS: Final = 6  # the last one is in quarantine; as many more were dropped by the ring as DROPPED
DROPPED: Final = 2


def make(path: Path) -> None:
    """A spool with batches, a source with a ring's counters, and a record in quarantine."""
    database = SpoolDatabase(path)
    state = database.load()
    for first in range(1, RECORDS + 1, 2):
        frames = protocol.join_frames(jobs.encoded(job_id) for job_id in (first, first + 1))
        ring = Ring(first + 1 + DROPPED, DROPPED, 0, 99)
        database.append([Batch(first, 2, frames)], [Intake(SOURCE, first + 1, 2, frames)], {SOURCE: ring})
    kept = Batch(RECORDS - 1, 2, protocol.join_frames([jobs.encoded(RECORDS - 1), b""]))
    database.rewrite(kept, [(RECORDS, state.spool_id, 1_767_571_200, "kept for a test", jobs.encoded(RECORDS))])
    database.close()


def main() -> None:
    target = CORPUS / f"spool-{spoolfile.FORMAT_VERSION}.db.xz"
    if target.exists():
        raise SystemExit(f"{target} is there: files of the corpus are never made anew")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "spool.db"
        make(path)
        target.write_bytes(lzma.compress(path.read_bytes()))


if __name__ == "__main__":
    main()
