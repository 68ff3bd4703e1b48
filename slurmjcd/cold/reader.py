# SPDX-License-Identifier: MIT
"""Finds records in the files: which files and row groups a question needs, and what of them may match.

Everything here blocks: it belongs into a thread. What is known of a file is kept until it changes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from slurmjcd.cold.engine import Engine, Question, Runs
from slurmjcd.cold.files import DayFile, list_days, unreadable
from slurmjcd.cold.prefilter import Prefilter, Span
from slurmjcd.cold.writer import INDEXED, RECORD, about_of
from slurmjcd.errors import Unavailable
from slurmjcd.query.merging import row_key

Criteria = list[tuple[bytes, bytes]]

_SPARE: Final = 64  # summaries of files that are gone or were replaced, before these are forgotten
_SETTLED_NS: Final = 2_000_000_000  # two changes of a directory so far apart have different times everywhere
_KEYS: Final = ("end", "job_id")


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: how many rows, and the spans of those columns that have statistics."""

    rows: int
    spans: dict[str, Span]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a file without reading its rows.

    Args:
        reach: no run of it began at this epoch second or later, nor ended.
        spans: of all row groups together.
    """

    file: DayFile
    rows: int
    reach: int
    groups: tuple[Group, ...]
    spans: dict[str, Span] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """Records of one row group, in order of completion.

    Args:
        records: an array that the engine takes.
        keys: of each its end and job id, as merging.row_key has them; empty if they were not wanted.
    """

    day: int
    records: Any
    keys: list[int]


class ColdDays:
    """The files of one directory."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        self.directory = directory
        self.engine = engine
        self._lock = threading.Lock()
        self._known: dict[DayFile, Summary] = {}
        self._listed: tuple[tuple[int, int, int], tuple[DayFile, ...]] | None = None

    # ---- what there is -------------------------------------------------------------------------------------------

    def files(self) -> tuple[DayFile, ...]:
        """The files there are now, oldest day first. They appear and go by a name's change, which the directory's time
        tells; listed long enough after it, the list is good until the next.

        Raises:
            Unavailable: the directory can't be read.
        """
        try:
            status = os.stat(self.directory)
        except OSError as exc:
            raise unreadable(self.directory, exc) from exc
        state, now_ns = (status.st_dev, status.st_ino, status.st_mtime_ns), time.time_ns()
        with self._lock:
            if self._listed is not None and self._listed[0] == state:
                return self._listed[1]
        files = tuple(list_days(self.directory))
        if now_ns - status.st_mtime_ns > _SETTLED_NS:
            with self._lock:
                self._listed = state, files
        return files

    def summaries(self) -> list[Summary]:
        """Of each file there is now, oldest day first.

        Raises:
            Unavailable: one can't be read; the text names it.
        """
        files = self.files()
        with self._lock:
            if len(self._known) > 2 * len(files) + _SPARE:
                self._known = {file: self._known[file] for file in files if file in self._known}
        return [self.summary(file) for file in files]

    def summary(self, file: DayFile) -> Summary:
        """Of one file.

        Raises:
            Unavailable: it can't be read, or it has another day's rows.
        """
        with self._lock:
            known = self._known.get(file)
        if known is None:
            try:
                known = _summary(file, pq.read_metadata(file.path))
            except (OSError, pa.ArrowException, ValueError, KeyError) as exc:
                raise unreadable(file.path, exc) from exc
            with self._lock:
                self._known[file] = known
        return known

    # ---- what is in it -------------------------------------------------------------------------------------------

    def candidates(self, summary: Summary, prefilter: Prefilter) -> list[int]:
        """The row groups that may have rows that match."""
        if not prefilter.may_hold(summary.spans):
            return []
        return [number for number, group in enumerate(summary.groups) if prefilter.may_hold(group.spans)]

    def find(
        self,
        summary: Summary,
        question: Question,
        prefilter: Prefilter,
        beaten: Runs | None = None,
        *,
        ties: bool = False,
        with_keys: bool = True,
    ) -> Iterator[Found]:
        """The records of a file that match, a row group at a time; without those that `beaten` knows of as reported
        again with a later end, or with `ties` the same.

        Raises:
            Unavailable: the file can't be read, or is damaged; the text names it.
        """
        for table in self._candidates(summary, prefilter, (RECORD, *_KEYS) if with_keys else (RECORD,)):
            records = _records(table)
            with _damage_of(summary.file.path):
                asked = bytearray(b"\1") * len(records)
                if beaten is not None and beaten.records:
                    asked = bytearray(1 - flag for flag in beaten.beaten(records, ties=ties))
                if question.ask(summary.file.day, records, asked):
                    mask = _mask(asked)
                    keys = _keys(table.filter(mask)) if with_keys else []
                    yield Found(summary.file.day, records.filter(mask), keys)

    def all_rows(self, summary: Summary) -> Iterator[Any]:
        """All records of a file, a row group at a time.

        Raises:
            Unavailable: the file can't be read, or is damaged.
        """
        yield from map(_records, self._candidates(summary, Prefilter()))

    def _candidates(self, summary: Summary, prefilter: Prefilter, wanted: Sequence[str] = (RECORD,)) -> Iterator[Any]:
        """The rows that a prefilter leaves, a table with these columns for each row group."""
        path, groups, columns = summary.file.path, self.candidates(summary, prefilter), prefilter.columns
        if not groups:
            return
        with _damage_of(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
            for number in groups:
                mask = None
                if columns:
                    found = prefilter.rows(file.read_row_group(number, columns=columns, use_threads=False))
                    if not any(found):
                        continue
                    mask = _mask(found) if not all(found) else None
                table = file.read_row_group(number, columns=list(wanted), use_threads=False)
                yield table.filter(mask) if mask is not None else table

    def runs_of(self, summary: Summary, job_ids: Iterable[int]) -> Iterator[Any]:
        """The records of a file that have one of these job ids.

        Raises:
            Unavailable: the file can't be read, or is damaged.
        """
        yield from map(_records, self._candidates(summary, Prefilter.of_job_ids(job_ids)))


def _records(table: Any) -> Any:
    records = table.column(RECORD).cast(pa.large_binary()).combine_chunks()
    return records.chunk(0) if isinstance(records, pa.ChunkedArray) else records


def _keys(table: Any) -> list[int]:
    ends = table.column("end").cast(pa.timestamp("s", tz="UTC")).cast(pa.int64()).to_pylist()
    return [row_key(end, job_id) for end, job_id in zip(ends, table.column("job_id").to_pylist(), strict=True)]


def _mask(flags: bytearray) -> Any:
    return pa.array(memoryview(flags), pa.uint8()).cast(pa.bool_())


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Have errors name the file."""
    try:
        yield
    except (OSError, pa.ArrowException) as exc:
        raise unreadable(path, exc) from exc
    except Unavailable as exc:
        raise exc if str(path) in str(exc) else Unavailable(f"{path} can't be read: {exc}") from exc


def _summary(file: DayFile, metadata: Any) -> Summary:
    about = about_of(file.path, metadata)
    if about["day"] != file.day or about["rows"] != metadata.num_rows:
        raise Unavailable(f"{file.path} can't be read: it isn't the file that was written under this name")
    columns = {metadata.schema.column(i).name: i for i in range(metadata.num_columns)}
    groups = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        spans = {}
        for name in INDEXED:
            statistics = group.column(columns[name]).statistics
            if statistics is not None:
                spans[name] = _span(statistics)
        groups.append(Group(group.num_rows, spans))
    spans = {name: _together([group.spans[name] for group in groups]) for name in INDEXED if _is_known(groups, name)}
    return Summary(file, metadata.num_rows, int(about["reach"]), tuple(groups), spans)


def _is_known(groups: list[Group], name: str) -> bool:
    return all(name in group.spans for group in groups)


def _together(spans: list[Span]) -> Span:
    known = [span for span in spans if span is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _span(statistics: Any) -> Span:
    if not statistics.has_min_max:
        return None
    if statistics.logical_type.type == "TIMESTAMP":  # in milliseconds there
        return statistics.min_raw // 1000, statistics.max_raw // 1000
    return statistics.min, statistics.max
