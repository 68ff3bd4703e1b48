# SPDX-License-Identifier: MIT
"""One row per job: which columns there are, and what stands in them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq

from slurmjcd.exporting import csvfile, parquet
from slurmjcd.exporting.flat import COLUMNS, EXTRA, row
from slurmjcd.record import FIELDS, decode
from tests.slurmjcd.jobs import NOON, job

ODD = job(
    9, name='a,"b"\nc\x1b[31m', state=5, exit_code=9, derived_exit_code=None, start=0, time_limit="UNLIMITED",
    array_job_id=7, array_task_id=2, user=None,
    extra={"comment": "x|y", "suspended": 12, "site_key": {"a": [1]}, "ntasks": "many", "orig_start": 0},
)  # fmt: skip


def test_no_field_is_left_out() -> None:
    names = {column.name for column in COLUMNS}
    renamed = {"version", "time_limit"}  # time_limit_s and time_limit_kind
    assert set(FIELDS) - names == renamed
    schema = json.loads(Path("schema/record.json").read_text())
    kinds = {"str": "text", "uint": "uint64", "time": "time"}
    assert {each["name"]: kinds[each["type"]] for each in schema["extra"]} == EXTRA


def test_values_are_flat_and_what_has_no_column_is_kept() -> None:
    found = dict(zip((column.name for column in COLUMNS), row(decode(ODD)), strict=True))
    assert found["id"] == "7_2"
    assert (found["exit_code"], found["exit_signal"]) == (0, 9)
    assert (found["derived_exit_code"], found["derived_exit_signal"]) == (None, None)
    assert (found["time_limit_s"], found["time_limit_kind"]) == (None, "unlimited")
    assert (found["suspended"], found["ntasks"], found["orig_start"], found["start"]) == (12, None, None, None)
    assert json.loads(found["extra"]) == {"site_key": {"a": [1]}, "ntasks": "many"}


def test_csv_has_one_line_a_job_whatever_its_name() -> None:
    out = io.BytesIO()
    csvfile.write([ODD, job(10)], out)
    lines = out.getvalue().decode().splitlines()
    assert len(lines) == 3
    odd, plain = list(csv.DictReader(lines))
    assert odd["name"] == 'a,"b"\\nc\\x1b[31m'
    assert odd["start"] == ""
    assert plain["end"][-6] in "+-"
    assert plain["end"].startswith("2026-03-01T")


def test_parquet_has_types_and_times() -> None:
    out = io.BytesIO()
    parquet.write([ODD, job(10)], out)
    table = pq.read_table(io.BytesIO(out.getvalue()))
    assert table.column_names == [column.name for column in COLUMNS]
    odd, plain = table.to_pylist()
    assert plain["end"].timestamp() == NOON
    assert table.schema.field("end").type.tz == "UTC"
    assert odd["name"] == 'a,"b"\nc\x1b[31m'
    assert odd["start"] is None
    assert table.schema.metadata[b"schema"] == b"slurmjc.jobs/1"


def test_parquet_of_no_jobs_is_a_table() -> None:
    out = io.BytesIO()
    parquet.write([], out)
    assert pq.read_table(io.BytesIO(out.getvalue())).num_rows == 0


def test_parquet_takes_bytes_that_are_no_text() -> None:
    out = io.BytesIO()
    parquet.write([job(1, name="a\udcff", extra={"comment": "\udcfe"})], out)
    (found,) = pq.read_table(io.BytesIO(out.getvalue())).to_pylist()
    assert found["name"] == "a\N{REPLACEMENT CHARACTER}"
