# SPDX-License-Identifier: MIT
"""What `slurmjc top` shows: the daemon's status, and the jobs that ended last, as far as the caller may see them."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import Failure
from slurmjcd.errors import ProtocolError
from slurmjcd.record import decode

_WINDOWS_S: Final = (2, 15, 120, 1200, 3 * 3600, 86400)
_PAGE: Final = b"2000"
_PAGES_MAX: Final = 10
_JOBS: Final = 1  # in a row of AGG by one field: behind the key


@dataclass(slots=True)
class Snapshot:
    """One look. `error` says why the daemon can't be asked now; the rest is then what it was last."""

    at_s: float = 0.0
    status: dict[str, Any] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)  # the last first
    sees: str = ""
    error: str = ""
    store_error: str = ""  # the daemon answers, and can't give jobs


def look(connect: Callable[[], Connection], rows: int) -> Snapshot:
    """Ask for the status and the last `rows` jobs.

    Raises:
        Failure: the daemon can't be asked.
    """
    connection = connect()
    try:
        shot = Snapshot(time.time(), json.loads(connection.call(b"SLURMJC.STATUS")))
        shot.sees = connection.hello["sees"].decode()
        try:
            shot.jobs = latest(connection, rows, int(shot.at_s)) if rows > 0 else []
        except Failure as exc:
            shot.store_error = exc.message
        return shot
    finally:
        connection.close()


def latest(connection: Connection, rows: int, now: int) -> list[dict[str, Any]]:
    """The jobs that ended last, the last first, of the last day.

    Answers come in order of completion, so first the shortest time that has enough of them is looked for; the store
    counts without sending anything.
    """
    for window_s in _WINDOWS_S:
        start = b"%d" % (now - window_s)
        counted = connection.call(b"SLURMJC.AGG", b"BY", b"state", b"start", start)
        if sum(row[_JOBS] for row in counted) >= rows or window_s == _WINDOWS_S[-1]:
            return list(deque(_records(connection, start), maxlen=rows))[::-1]
    return []


def _records(connection: Connection, start: bytes) -> Iterator[dict[str, Any]]:
    if connection.call(b"SLURMJC.MATCH", b"top", b"start", start) is None:
        return
    for _ in range(_PAGES_MAX):
        page = connection.call(b"SLURMJC.FETCH", b"top", _PAGE, b"RECORDS")
        for record in page:
            try:
                yield decode(record)
            except ProtocolError as exc:
                raise Failure(f"slurmjcd sent what is no record: {exc}") from exc
        if len(page) < int(_PAGE):
            return
