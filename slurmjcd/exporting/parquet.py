# SPDX-License-Identifier: MIT
"""Apache Parquet by pyarrow, which is the extra `parquet`: typed columns, times as timestamps in UTC, zstd."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, BinaryIO, Final

from slurmjcd.exporting.flat import COLUMNS, rows

_GROUP_ROWS: Final = 20_000  # a row group: what is held in memory

_HOW: Final = (
    "Parquet needs pyarrow: pip install 'slurmjcd[parquet]' (or pip install pyarrow) into the environment of slurmjc, "
    "or take --format csv"
)


class Missing(Exception):
    """pyarrow isn't there; the text says how to get it."""


def check() -> None:
    """Whether this format can be written here.

    Raises:
        Missing: it can't.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as exc:
        raise Missing(_HOW) from exc


class _Sink:
    """A pipe has no position; Parquet only wants to know how much it has written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._written = out, 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._out.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        self.closed = True  # the file is closed by who opened it

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def schema_of() -> Any:
    """The columns as pyarrow has them."""
    import pyarrow as pa

    types = {
        "uint32": pa.uint32(), "uint64": pa.uint64(), "text": pa.string(), "time": pa.timestamp("s", tz="UTC"),
        "seconds": pa.int64(),
    }  # fmt: skip
    fields = [pa.field(column.name, types[column.kind]) for column in COLUMNS]
    return pa.schema(fields, metadata={"schema": "slurmjc.jobs/1"})


def write(records: Iterable[bytes], out: BinaryIO) -> None:
    """Write them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema_of()
    found = rows(records)
    with pq.ParquetWriter(pa.PythonFile(_Sink(out), mode="w"), schema, compression="zstd") as writer:
        while group := list(islice(found, _GROUP_ROWS)):
            columns: list[Any] = [
                pa.array(values, field.type) for values, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=_GROUP_ROWS)
