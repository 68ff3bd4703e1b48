# SPDX-License-Identifier: MIT
"""Finds records in the files: which files and row groups a question needs, and what of them may match.

Everything here blocks: it belongs into a thread. What is known of a file is kept until it changes.
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from slurmjcd.cold.engine import Engine, Question, Runs
from slurmjcd.cold.files import DayFile, list_days, state_of, unreadable
from slurmjcd.cold.footer import read_footer
from slurmjcd.cold.mark import MarkedDirectory
from slurmjcd.cold.prefilter import NUMBERS, Prefilter, Span, Spans, Values
from slurmjcd.cold.writer import INDEXED, RECORD, about_of
from slurmjcd.errors import Unavailable
from slurmjcd.query.merging import row_key

Criteria = list[tuple[bytes, bytes]]

_SPARE: Final = 64  # summaries of files that are gone or were replaced, before these are forgotten
_SETTLED_NS: Final = 2_000_000_000  # two changes of a directory so far apart have different times everywhere
_KEYS: Final = ("end", "job_id")
# ahead of its use a local file is read by threads of pyarrow, which takes longer
_OPTIONS: Final[dict[str, Any]] = {"page_checksum_verification": True, "pre_buffer": False}


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a file without opening it. Nothing of its row groups, which would take megabytes of a large one:
    what these may hold is looked up in the file that is read then, which may be a later one of this name.

    Args:
        reach: no run of it began at this epoch second or later, nor ended.
        spans: of those columns that have statistics, all row groups together.
        values: all there are in these columns.
    """

    file: DayFile
    rows: int
    reach: int
    spans: Spans
    values: Values


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
    """The files of one directory.

    Args:
        place: knows whether it is the right one; None for who has made sure of that.
    """

    def __init__(self, directory: Path, engine: Engine, place: MarkedDirectory | None = None) -> None:
        self.directory, self._place = directory, place
        self.engine = engine
        self._lock = threading.Lock()
        self._known: dict[DayFile, Summary] = {}
        self._listed: tuple[tuple[int, int, int], tuple[DayFile, ...]] | None = None

    # ---- what there is -------------------------------------------------------------------------------------------

    def files(self) -> tuple[DayFile, ...]:
        """The files there are now, oldest day first. They appear and go by a name's change, which the directory's time
        tells; listed long enough after it, the list is good until the next.

        Raises:
            Unavailable: the directory can't be read, or is not the one it was.
        """
        status, now_ns = state_of(self.directory), time.time_ns()
        state = status.st_dev, status.st_ino, status.st_mtime_ns
        with self._lock:
            if self._listed is not None and self._listed[0] == state:
                return self._listed[1]
        files = tuple(list_days(self.directory))
        if self._place is not None:
            self._place.check(empty=not files)
        if now_ns - status.st_mtime_ns > _SETTLED_NS:
            with self._lock:
                self._listed = state, files
        return files

    def look_anew(self) -> tuple[DayFile, ...]:
        """The files there are, each looked at: a file that was written over in its place is seen so, too.

        Raises:
            Unavailable: as `files`.
        """
        with self._lock:
            self._listed = None
        return self.files()

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
            with _damage_of(file.path):
                known = _summary(file)
            with self._lock:
                self._known[file] = known
        return known

    # ---- what is in it -------------------------------------------------------------------------------------------

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
        path, columns = summary.file.path, prefilter.columns
        if not prefilter.may_hold(summary.spans, summary.values):
            return
        with _damage_of(path), pa.OSFile(str(path)) as source:
            metadata, _ = _look_into(source, summary.file)
            file = pq.ParquetFile(source, metadata=metadata, **_OPTIONS)
            for number in candidates(metadata, prefilter):
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
    except (OSError, pa.ArrowException, ValueError, KeyError) as exc:
        raise unreadable(path, exc) from exc
    except Unavailable as exc:
        raise exc if str(path) in str(exc) else Unavailable(f"{path} can't be read: {exc}") from exc


def candidates(metadata: Any, prefilter: Prefilter) -> list[int]:
    """The row groups of a file that may have rows that match."""
    columns, groups = [name for name in INDEXED if name in prefilter.columns], range(metadata.num_row_groups)
    if not columns:
        return list(groups)
    places = _places(metadata)
    return [number for number in groups if prefilter.may_hold(_spans(metadata.row_group(number), places, columns))]


def _look_into(source: Any, file: DayFile) -> tuple[Any, dict[str, Any]]:
    """The metadata of a file that is open, and what is in it of slurmjcd.

    Raises:
        Unavailable: it is not what was written for that day; or what `_damage_of` makes one.
    """
    path, (metadata, is_sealed) = file.path, read_footer(source)
    about = about_of(path, metadata)
    if about["day"] != file.day or about["rows"] != metadata.num_rows or (about.get("sealed") and not is_sealed):
        raise Unavailable(f"{path} can't be read: it isn't the file that was written under this name")
    return metadata, about


def _summary(file: DayFile) -> Summary:
    with pa.OSFile(str(file.path)) as source:
        metadata, about = _look_into(source, file)
    places = _places(metadata)
    groups = [_spans(metadata.row_group(number), places, INDEXED) for number in range(metadata.num_row_groups)]
    spans = {
        name: _together([group[name] for group in groups]) for name in INDEXED if all(name in group for group in groups)
    }
    values = {
        name: array("I", listed) if name in NUMBERS else tuple(map(sys.intern, listed))
        for name, listed in about.get("values", {}).items()
    }
    return Summary(file, metadata.num_rows, int(about["reach"]), spans, values)


def _places(metadata: Any) -> dict[str, int]:
    return {name: place for place, name in enumerate(metadata.schema.names)}


def _spans(group: Any, places: dict[str, int], columns: Iterable[str]) -> dict[str, Span]:
    """Of those of a row group's columns that have statistics."""
    spans = {}
    for name in columns:
        statistics = group.column(places[name]).statistics
        if statistics is not None:
            spans[name] = _span(statistics)
    return spans


def _together(spans: list[Span]) -> Span:
    known = [span for span in spans if span is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _span(statistics: Any) -> Span:
    if not statistics.has_min_max:
        return None
    if statistics.logical_type.type == "TIMESTAMP":  # in milliseconds there
        return statistics.min_raw // 1000, statistics.max_raw // 1000
    return statistics.min, statistics.max
