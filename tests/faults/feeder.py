# SPDX-License-Identifier: MIT
"""A sender in Python: what the plugin's thread does, with nothing of its own that could be lost.

It keeps every record until it is acknowledged and sends it again after each failure, so what it has seen acknowledged
is what the daemon has promised to keep.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import hiredis

from slurmjcd import protocol
from tests.faults import jobs
from tests.harness.waiting import scaled, wait_until

_BATCH: Final = 50
_IN_FLIGHT: Final = 8
_PAUSE_S: Final = 0.05


class Refused(Exception):
    """The daemon answered with an error; the whole batch goes again."""


class Feeder:
    """One source of records on ingest.sock, in a thread. Use it as a context manager."""

    def __init__(self, path: Path, source: str = "feeder.1", *, first_job: int = 1, reply_s: float = 5.0) -> None:
        self.path, self.source = path, source
        self.acked = 0  # records that the daemon has promised to keep
        self.errors: list[str] = []
        self.ack_s: list[float] = []  # how long each batch waited for its answer
        self._first_job = first_job
        self._wanted = 0
        self._reply_s = reply_s
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=source, daemon=True)

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop = True
        self._wake.set()
        self._thread.join(scaled(15))

    def feed(self, count: int) -> None:
        """Send so many more jobs."""
        self._wanted += count
        self._wake.set()

    def job_ids(self, count: int | None = None) -> range:
        """Of the first `count` records, else of all that were acknowledged."""
        return range(self._first_job, self._first_job + (self.acked if count is None else count))

    @property
    def wanted(self) -> int:
        return self._wanted

    def wait_acked(self, count: int | None = None, *, timeout_s: float = 30.0) -> None:
        goal = self._wanted if count is None else count
        wait_until(
            lambda: self.acked >= goal,
            what=lambda: f"{goal} records to be acknowledged; {self.acked} are; last errors: {self.errors[-3:]}",
            timeout_s=timeout_s,
        )

    # ---- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop:
            if self.acked >= self._wanted:
                self._wake.wait(0.2)
                self._wake.clear()
                continue
            try:
                with self._connect() as link:
                    self._deliver(link)
            except (OSError, Refused, hiredis.HiredisError) as exc:
                self.errors.append(f"{type(exc).__name__}: {exc}")
                time.sleep(_PAUSE_S)

    def _connect(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(self._reply_s)
        try:
            link.connect(str(self.path))
            link.sendall(protocol.command(protocol.HELLO, b"1", b"feeder/1"))
            self._reader = hiredis.Reader()
            self._receive(link)
        except BaseException:
            link.close()
            raise
        return link

    def _receive(self, link: socket.socket) -> Any:
        while (reply := self._reader.gets()) is False:
            data = link.recv(65536)
            if not data:
                raise ConnectionError("the daemon closed the connection")
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise Refused(str(reply))
        return reply

    def _deliver(self, link: socket.socket) -> None:
        """Until all that is wanted is acknowledged; several batches under way at a time."""
        sent = self.acked
        waiting: list[tuple[int, float]] = []
        while not self._stop and (waiting or sent < self._wanted):
            while len(waiting) < _IN_FLIGHT and sent < self._wanted:
                count = min(_BATCH, self._wanted - sent)
                link.sendall(self._put(sent + 1, count))
                waiting.append((sent + count, time.monotonic()))
                sent += count
            self._receive(link)
            last, since = waiting.pop(0)
            self.ack_s.append(time.monotonic() - since)
            self.acked = last

    def _put(self, seq: int, count: int) -> bytes:
        first = self._first_job + seq - 1
        records = [jobs.encoded(job_id) for job_id in range(first, first + count)]
        return protocol.command(protocol.PUT, b"SPOOL", self.source.encode(), b"%d" % seq, b"RECORDS", *records)


def feed_until(
    feeder: Feeder,
    condition: Callable[[], object],
    *,
    what: str | Callable[[], str],
    step: int = 100,
    timeout_s: float = 20.0,
) -> None:
    """Keep records coming until something has happened."""

    def more() -> object:
        if feeder.wanted - feeder.acked < step:
            feeder.feed(step)
        return condition()

    wait_until(more, what=what, every_s=0.01, timeout_s=timeout_s)


def ids(ranges: Iterable[range]) -> list[int]:
    """The job ids of several feeders."""
    return [job_id for part in ranges for job_id in part]
