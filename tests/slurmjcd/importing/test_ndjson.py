# SPDX-License-Identifier: MIT
"""What export wrote comes back in, and what it didn't write is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import record
from slurmjcd.exporting import ndjson as written
from slurmjcd.importing import elasticsearch, sacctjson
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item
from slurmjcd.importing.ndjson import Ndjson, looks_like
from tests.slurmjcd.jobs import job

RECORDS = [job(1), job(2, name="a\udcff"), job(3, exit_code=256, start=0, extra={"comment": "x"})]


def exported(*records: bytes) -> str:
    out = io.BytesIO()
    written.write(records, out)
    return out.getvalue().decode()


def items(tmp_path: Path, text: str, after: int = 0) -> list[Item]:
    path = tmp_path / "jobs.ndjson"
    path.write_text(text)
    return list(Ndjson(InputFile(str(path))).items(after))


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    found = [item.fields for item in items(tmp_path, exported(*RECORDS))]
    assert [record.encode(fields) for fields in found if fields] == RECORDS


def test_it_is_known_by_its_begin_and_taken_for_nothing_else() -> None:
    head = exported(*RECORDS).encode()
    assert looks_like(head)
    assert looks_like(b"# slurmjc import 12\n" + head)
    assert not looks_like(b'{"jobid": 17, "username": "ada"}')
    assert not looks_like(b'{"schema": "slurmjc.jobs/1", "jobs": [')
    assert not elasticsearch.looks_like(head)
    assert not sacctjson.looks_like(head)


def test_it_goes_on_behind_what_was_taken(tmp_path: Path) -> None:
    assert [item.place for item in items(tmp_path, exported(*RECORDS), after=2)] == ["3"]


def _changed(**changes: Any) -> str:
    return json.dumps(json.loads(exported(job(1))) | changes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "1", "job_id"', "no JSON"),
        ("[]", "no JSON object"),
        ('{"id": "1", "job_id": 1}', "is missing or unknown"),
        (_changed(state="GONE"), "GONE"),
        (_changed(end="noon"), "end must be a number"),
        (_changed(cluster=7), "cluster must be a name"),
        (_changed(job_id=2**70), "int"),
        (_changed(record="AAAA"), "record"),
    ],
)
def test_what_is_no_job_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    first, second = items(tmp_path, f"{line}\n{exported(job(1))}")
    assert said.lower() in first.refused.lower()
    assert (first.fields, first.place, first.raw) == (None, "1", line)
    assert second.fields is not None
