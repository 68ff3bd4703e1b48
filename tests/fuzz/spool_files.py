# SPDX-License-Identifier: MIT
"""Spools for fuzz_spool.py to damage: made once, with the pages that each batch lies on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

from slurmjcd import protocol
from slurmjcd.spool.batch import Intake, Ring
from slurmjcd.spool.spool import Spool
from slurmjcd.spool.spoolscan import PAGE_BYTES

LOOP: Final = asyncio.new_event_loop()
NAME: Final = "spool.db"
WAL_HEADER: Final = 32
FRAME: Final = 24 + PAGE_BYTES
SIZES: Final = {"max_bytes": 2**30, "replay_s": 3600.0, "replay_bytes": 2**30}
RECORD: Final = b"\xdc\0\x26" + bytes(range(1, 38)) + b"\x80"
_BATCHES: Final = 22


class Here(Executor):
    """Does the work at once, in this thread, so that an input has one course only."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as exc:
            future.set_exception(exc)
        return future


def open_spool(path: Path) -> Spool:
    """As the daemon does at start, without a thread of its own."""
    with mock.patch("slurmjcd.spool.spool.ThreadPoolExecutor", return_value=Here()):
        return LOOP.run_until_complete(Spool.open(path, **SIZES))  # type: ignore[arg-type]


def record(number: int) -> bytes:
    """Each is another; every seventh so long that its batch needs overflow pages."""
    return RECORD + b"%06d" % number + b"x" * (30_000 if number % 7 == 0 else 700 * (number % 3))


@dataclass(frozen=True)
class Template:
    """A spool as a process left it.

    Args:
        files: suffix of the name → bytes.
        pages: for each batch that was not shipped its first number, what it holds and the pages it lies on (from 1).
        meta: the page of the table that says what is shipped.
        frames: the page in each frame of the log.
    """

    files: dict[str, bytes]
    pages: list[tuple[int, tuple[bytes, ...], frozenset[int]]]
    records: frozenset[bytes]
    meta: int
    frames: list[int]


@functools.cache
def templates() -> list[Template]:
    """Closed; killed with half of it in the log; killed with all of it there; with batches shipped and trimmed."""
    return [_make(before=_BATCHES), _make(before=_BATCHES // 2), _make(before=0), _make(before=_BATCHES, shipped=9)]


def _make(*, before: int, shipped: int = 0) -> Template:
    with tempfile.TemporaryDirectory(prefix="fuzz-spool-", dir="/dev/shm") as name:
        path = Path(name) / NAME
        with mock.patch("uuid.uuid4", return_value=uuid.UUID(int=1 + before + shipped)):
            spool = open_spool(path)
        number = _append(spool, 1, before)
        if shipped:
            _ship(spool, shipped)
        if before:
            LOOP.run_until_complete(spool.close())
            spool = open_spool(path)
        number = _append(spool, number, _BATCHES - before)
        files = {file.name.removeprefix(NAME): file.read_bytes() for file in Path(name).iterdir()}
        LOOP.run_until_complete(spool.close())
        files.pop("-shm", None)
        if not files.get("-wal"):
            files.pop("-wal", None)
        return _mapped(path, files, frozenset(record(n) for n in range(1, number)), shipped)


def _append(spool: Spool, number: int, batches: int) -> int:
    for size in range(batches):
        count = 1 + size % 4
        frames = protocol.join_frames([record(n) for n in range(number, number + count)])
        intake = Intake("ring.1", number + count - 1, count, frames)
        LOOP.run_until_complete(spool.append([intake], {"ring.1": Ring(number + count + 1, 2, 0, 7)}))
        number += count
    return number


def _ship(spool: Spool, up_to: int) -> None:
    batches = LOOP.run_until_complete(spool.read(0, max_bytes=2**30))
    LOOP.run_until_complete(spool.quarantine(batches[0], {0: "a made-up reason"}))
    spool.confirm(up_to)
    spool.replay_s = 0.0
    LOOP.run_until_complete(spool.trim())
    spool.replay_s = SIZES["replay_s"]


def _mapped(path: Path, files: dict[str, bytes], records: frozenset[bytes], shipped: int) -> Template:
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT first, frames FROM batch ORDER BY first").fetchall()
        (meta,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'meta'").fetchone()
    owners = dict(_owners(path))
    pages = []
    for first, content in rows:
        if first > shipped:
            pages.append((first, tuple(protocol.split_frames(content)), owners[content]))
    return Template(files, pages, records, meta, pages_of(files.get("-wal", b"")))


def pages_of(wal: bytes) -> list[int]:
    """The page in each frame of a log."""
    return [int.from_bytes(wal[at : at + 4], "big") for at in range(WAL_HEADER, len(wal) - FRAME + 1, FRAME)]


def _owners(path: Path) -> Iterator[tuple[bytes, frozenset[int]]]:
    """The frames of each batch (no two have the same), and the pages it lies on: its leaf and overflow pages."""
    data = path.read_bytes()
    for page in range(2, len(data) // PAGE_BYTES + 1):
        at = (page - 1) * PAGE_BYTES
        if data[at] == 0x0D:
            for number in range(int.from_bytes(data[at + 3 : at + 5], "big")):
                pointer = at + 8 + 2 * number
                yield from _cell(data, page, at + int.from_bytes(data[pointer : pointer + 2], "big"))


def _cell(data: bytes, page: int, at: int) -> Iterator[tuple[bytes, frozenset[int]]]:
    from slurmjcd.spool import spoolscan  # noqa: PLC0415 (its own reader of cells, to know where a batch lies)

    size, head = spoolscan._varint(data, at)
    _, head = spoolscan._varint(data, head)
    try:
        found = spoolscan._batch(data, (page - 1) * PAGE_BYTES, at)  # type: ignore[arg-type]
    except (IndexError, ValueError):
        found = None
    if found is None:
        return
    pages, most = {page}, PAGE_BYTES - 35
    if size > most:
        least = (PAGE_BYTES - 12) * 32 // 255 - 23
        local = least + (size - least) % (PAGE_BYTES - 4)
        link = head + (local if local <= most else least)
        following = int.from_bytes(data[link : link + 4], "big")
        while following:
            pages.add(following)
            link = (following - 1) * PAGE_BYTES
            following = int.from_bytes(data[link : link + 4], "big")
    yield found[2], frozenset(pages)
