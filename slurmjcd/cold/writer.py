# SPDX-License-Identifier: MIT
"""A day's file: written under another name, brought to disk, read back, and only then given its own name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from slurmjcd.cold.files import DAY_S, FORMAT, TEMPORARY, name_of
from slurmjcd.cold.footer import BrokenFooter, read_footer, seal
from slurmjcd.cold.prefilter import folded
from slurmjcd.errors import SlurmjcdError, Unavailable
from slurmjcd.exporting.flat import COLUMNS, row
from slurmjcd.exporting.parquet import schema_of
from slurmjcd.record import decode
from slurmjcd.spool.disk import sync_directory

GROUP_ROWS: Final = 10_000  # a row group: what is held in memory ...
GROUP_BYTES: Final = 32 * 1024 * 1024  # ... and of records at most, but for one more
RECORD: Final = "record"  # the column of the records themselves
# what a reader may leave row groups out by
INDEXED: Final = ("job_id", "array_job_id", "het_job_id", "uid", "submit", "eligible", "start", "end")
# all values of which are listed in the metadata, if they are few: who ran jobs that day
LISTED: Final = ("uid", "user", "account")
_LISTED_MAX: Final = 2000
META: Final = b"slurmjc.cold"  # key of the file's metadata
_POSITIONS: Final = {column.name: position for position, column in enumerate(COLUMNS)}


class NotWritten(SlurmjcdError):
    """A file can't be written, or isn't what was written; the text names it."""


class _Tally:
    """Counts and hashes records on their way."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.blake2b(digest_size=32)

    def add(self, records: Iterable[bytes]) -> None:
        for record in records:
            self._hash.update(len(record).to_bytes(4, "big") + record)
            self.rows += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def schema() -> Any:
    """The columns of `slurmjc export -f parquet`, and the record."""
    exported = schema_of()
    return pa.schema([*exported, pa.field(RECORD, pa.binary(), nullable=False)], metadata=exported.metadata)


def write_day(directory: Path, day: int, records: Iterable[bytes]) -> Path | None:
    """Write records, in order of completion, into a new file beside; None and no file when there are none.

    The file is on disk and was read back; `publish` gives it its name.

    Raises:
        NotWritten: it can't be done; what was written is removed.
    """
    path = directory / f"{TEMPORARY}{name_of(day)}"
    try:
        tally = _write(path, day, records)
        if tally.rows:
            _read_back(path, tally)
            return path
        path.unlink()
    except (OSError, BrokenFooter, pa.ArrowException) as exc:
        path.unlink(missing_ok=True)
        text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise NotWritten(f"{path} can't be written: {text}") from exc
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return None


def publish(path: Path, day: int) -> Path:
    """Give it the day's name, in place of an older file of that day.

    Raises:
        NotWritten: it can't be done.
    """
    target = path.with_name(name_of(day))
    try:
        path.rename(target)
        sync_directory(target.parent)
    except OSError as exc:
        raise NotWritten(f"{target} can't be written: {exc.strerror}") from exc
    return target


def _write(path: Path, day: int, records: Iterable[bytes]) -> _Tally:
    tally, reach = _Tally(), (day + 1) * DAY_S
    columns, listed = schema(), {name: set[Any]() for name in LISTED}
    path.unlink(missing_ok=True)
    with path.open("x+b") as out:
        os.fchmod(out.fileno(), 0o640)
        options: dict[str, Any] = {
            "compression": "zstd",
            "write_statistics": list(INDEXED),
            "write_page_checksum": True,
            "use_dictionary": [field.name for field in columns if field.name != RECORD],
            "sorting_columns": [pq.SortingColumn(_POSITIONS["end"]), pq.SortingColumn(_POSITIONS["job_id"])],
        }
        with pq.ParquetWriter(out, columns, **options) as writer:
            for group in _batches(records):
                tally.add(group)
                rows = [row(decode(record)) for record in group]
                reach = max(reach, *(1 + begun(values) for values in rows))
                values_of = list(zip(*rows, strict=True))
                for name, known in listed.items():
                    known.update(folded(name, value) for value in set(values_of[_POSITIONS[name]]) - {None})
                arrays = [pa.array(values, field.type) for values, field in zip(values_of, columns, strict=False)]
                table = pa.Table.from_arrays([*arrays, pa.array(group, pa.binary())], schema=columns)
                writer.write_table(table, row_group_size=GROUP_ROWS)
            about = {
                "format": int(FORMAT), "day": day, "rows": tally.rows, "digest": tally.digest, "reach": reach,
                "sealed": True,
                "values": {name: sorted(known) for name, known in listed.items() if len(known) <= _LISTED_MAX},
            }  # fmt: skip
            writer.add_key_value_metadata({META: json.dumps(about).encode()})
        seal(out)
        out.flush()
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that what is read back is the disk's
    return tally


def begun(values: list[Any]) -> int:
    """When a run began, as far as one knows: submitted, or started."""
    return max(values[_POSITIONS["submit"]] or 0, values[_POSITIONS["start"]] or 0)


def _batches(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for record in records:
        group.append(record)
        size += len(record)
        if len(group) == GROUP_ROWS or size > GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _read_back(path: Path, wanted: _Tally) -> None:
    found = _Tally()
    with pa.OSFile(str(path)) as source:
        metadata, _ = read_footer(source)
        file = pq.ParquetFile(source, metadata=metadata, page_checksum_verification=True)
        for group in range(file.num_row_groups):
            # all columns, as each page has a checksum
            found.add(file.read_row_group(group, use_threads=False).column(RECORD).to_pylist())
    if (found.rows, found.digest) != (wanted.rows, wanted.digest):
        raise OSError(0, f"read back, it has {found.rows} records instead of {wanted.rows}, or others")


def about_of(path: Path, metadata: Any) -> dict[str, Any]:
    """What its metadata says of a file.

    Raises:
        Unavailable: nothing, or it is of a version that this slurmjcd doesn't know.
    """
    raw = (metadata.metadata or {}).get(META)
    if raw is None:
        raise Unavailable(f"{path} can't be read: slurmjcd has not written it, move it away from there")
    about: dict[str, Any] = json.loads(raw)
    if about.get("format") != int(FORMAT):
        raise Unavailable(
            f"{path} can't be read: it is of format {about.get('format')}, this slurmjcd knows {int(FORMAT)}: "
            "install the version that wrote it"
        )
    return about
