# SPDX-License-Identifier: MIT
"""Counts of completed jobs by state and partition, and how long they waited and ran, from the records themselves.

Reading a record costs more than taking it in, so it is done behind the commit, in pieces that let answers through and
in a small share of the time. When records come in faster than that (a backlog that is drained, not what clusters
complete), the first few of each delivery are read and stand for all of it: counts stay exact in sum.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgpack
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from slurmjcd.protocol import first_frames, split_frames
from slurmjcd.record import POSITION

_STATES: Final = (
    "pending", "running", "suspended", "completed", "cancelled", "failed", "timeout", "node_fail", "preempted",
    "boot_fail", "deadline", "out_of_memory",
)  # fmt: skip
_STATE_MAX: Final = 255  # of a record
_BOUNDS_S: Final = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400)
_PARTITIONS_MAX: Final = 100  # more partitions than this are counted together
_OTHER: Final = "other"
_ALL_BYTES: Final = 1024 * 1024  # while no more waits, every record is read
_QUEUE_MAX_BYTES: Final = 8 * 1024 * 1024
_SAMPLE_RECORDS: Final = 8  # of a delivery, while more waits
_PIECE_RECORDS: Final = 250
_REST: Final = 49  # after each piece, so many times what it took

_STATE, _PARTITION = POSITION["state"], POSITION["partition"]
_SUBMIT, _ELIGIBLE, _START, _END = (POSITION[name] for name in ("submit", "eligible", "start", "end"))


class _Times:
    """A histogram of seconds."""

    def __init__(self) -> None:
        self.counts = [0.0] * (len(_BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: int, weight: float) -> None:
        self.counts[bisect_left(_BOUNDS_S, seconds)] += weight
        self.total_s += seconds * weight

    def buckets(self) -> list[tuple[str, float]]:
        out, running = [], 0.0
        for bound, count in zip([*map(str, _BOUNDS_S), "+Inf"], self.counts, strict=True):
            running += count
            out.append((bound, running))
        return out


class JobStats(Collector):
    """A collector for a registry; `take` what was committed, `run` reads it."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[int, str], float] = {}
        self._waited: dict[str, _Times] = {}
        self._ran: dict[str, _Times] = {}
        self._names: dict[Any, str] = {}
        self._queue: deque[tuple[bytes, float]] = deque()  # frames, and how many records each stands for
        self._queued_bytes = 0
        self._arrived = asyncio.Event()

    def take(self, frames: bytes, count: int) -> None:
        """Records that were committed, `count` of them; they are read at once when too many wait already."""
        weight = 1.0
        if self._queued_bytes > _ALL_BYTES and count > _SAMPLE_RECORDS:
            frames, weight = first_frames(frames, _SAMPLE_RECORDS), count / _SAMPLE_RECORDS
        self._queue.append((frames, weight))
        self._queued_bytes += len(frames)
        self._arrived.set()
        while self._queued_bytes > _QUEUE_MAX_BYTES:
            frames, weight = self._pop()
            self._read(split_frames(frames), weight)

    def _pop(self) -> tuple[bytes, float]:
        item = self._queue.popleft()
        self._queued_bytes -= len(item[0])
        return item

    async def run(self) -> None:
        """Read what waits, for ever, in pieces."""
        while True:
            await self._arrived.wait()
            while self._queue:
                frames, weight = self._pop()
                records = split_frames(frames)
                for first in range(0, len(records), _PIECE_RECORDS):
                    began = time.perf_counter()
                    self._read(records[first : first + _PIECE_RECORDS], weight)
                    await asyncio.sleep(_REST * (time.perf_counter() - began))
            self._arrived.clear()

    def _read(self, records: list[bytes], weight: float) -> None:
        jobs, unpack = self._jobs, msgpack.unpackb
        for record in records:
            try:
                row = unpack(record, raw=True, strict_map_key=False)
                state, start, end = row[_STATE], row[_START], row[_END]
                eligible = row[_ELIGIBLE] or row[_SUBMIT]
                partition = self._names.get(row[_PARTITION]) or self._name(row[_PARTITION])
                if not 0 <= state <= _STATE_MAX:
                    continue
                key = (int(state), partition)
                jobs[key] = jobs.get(key, 0) + weight
                self._waited[partition].add(max(0, (start or end) - eligible), weight)
                if start:
                    self._ran[partition].add(max(0, end - start), weight)
            except (ValueError, TypeError, IndexError, msgpack.UnpackException):
                continue  # Redis will refuse it and it is counted in quarantine

    def _name(self, raw: Any) -> str:
        """The label for a partition, and its histograms."""
        name = raw.decode("utf-8", "replace")[:64] if isinstance(raw, bytes) else ""
        if len(self._waited) >= _PARTITIONS_MAX:
            name = _OTHER
        elif len(self._names) < 10 * _PARTITIONS_MAX:
            self._names[raw] = name
        self._waited.setdefault(name, _Times())
        self._ran.setdefault(name, _Times())
        return name

    def by_state(self) -> dict[str, int]:
        """Jobs taken in since the start, by state."""
        found: dict[str, float] = {}
        for (state, _), count in self._jobs.items():
            name = _STATES[state] if 0 <= state < len(_STATES) else str(state)
            found[name] = found.get(name, 0) + count
        return {name: round(count) for name, count in sorted(found.items())}

    def collect(self) -> Iterator[Metric]:
        jobs = CounterMetricFamily("slurmjcd_jobs_completed", "Completed jobs taken in", labels=("state", "partition"))
        for (state, partition), count in sorted(self._jobs.items()):
            name = _STATES[state] if 0 <= state < len(_STATES) else str(state)
            jobs.add_metric((name, partition), count)
        yield jobs
        for metric, text, times in (
            ("slurmjcd_job_wait_seconds", "From eligible to start (to the end, if it never started)", self._waited),
            ("slurmjcd_job_run_seconds", "From start to end", self._ran),
        ):
            family = HistogramMetricFamily(metric, text, labels=("partition",))
            for partition, seconds in sorted(times.items()):
                family.add_metric((partition,), seconds.buckets(), seconds.total_s)
            yield family
