# SPDX-License-Identifier: MIT
"""A line of NDJSON gives back the record that it was made of, whatever stands in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmjcd.errors import ProtocolError
from slurmjcd.exporting import ndjson
from slurmjcd.record import decode, encode
from tests.slurmjcd.jobs import fields, job

UINT = st.integers(0, 2**32 - 1)
TEXT = st.none() | st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
STATUS = st.one_of(st.none(), st.integers(0, 0xFFFF), UINT)
FIELDS = st.fixed_dictionaries(
    {"job_id": UINT},
    optional={
        **dict.fromkeys(("name", "cluster"), TEXT),
        **dict.fromkeys(("array_task_id", "sluid", "priority"), st.none() | UINT),
        **dict.fromkeys(("submit", "start"), UINT),
        **dict.fromkeys(("exit_code", "derived_exit_code"), STATUS),
        "state": st.integers(0, 255),
        "time_limit": st.one_of(st.none(), UINT, st.sampled_from(["UNLIMITED", "Partition_Limit"])),
        "extra": st.fixed_dictionaries(
            {},
            optional={
                "state_flags": UINT,
                "suspended": UINT,
                "comment": TEXT,
                "what": st.one_of(
                    TEXT, UINT, st.binary(max_size=4), st.floats(), st.lists(UINT, max_size=2), st.booleans()
                ),
            },
        ),
    },
)


def _back(record: bytes) -> bytes:
    (line,) = ndjson.lines([record])
    assert line.isascii()
    assert "\n" not in line
    return encode(ndjson.fields_of(json.loads(line, parse_constant=_no_json)))


def _no_json(word: str) -> Any:
    raise AssertionError(f"{word} is no JSON")


@given(FIELDS)
def test_every_record_comes_back(changes: dict[str, Any]) -> None:
    record = encode(fields(**{"job_id": 1} | changes))
    assert _back(record) == record


def test_the_vectors_of_the_schema_come_back() -> None:
    vectors = [each for each in json.loads(Path("schema/vectors.json").read_text()) if "hex" in each]
    assert vectors
    for vector in vectors:
        record = bytes.fromhex(vector["hex"])
        again = _back(record)
        assert decode(again) == decode(record), vector["name"]


def test_an_ordinary_job_needs_no_copy_of_its_record() -> None:
    (line,) = ndjson.lines([job(1, exit_code=256, time_limit="UNLIMITED", extra={"comment": "schön", "ntasks": 3})])
    assert ndjson.RECORD not in json.loads(line)


@pytest.mark.parametrize(
    "record",
    [
        job(1, name="a\udcffb"),
        job(1, exit_code=0x8B),
        job(1, extra={"state_flags": 1 << 10}),
        msgpack.packb([*msgpack.unpackb(job(1)), "of a later version"]),
    ],
)
def test_what_the_keys_can_not_hold_is_there_as_a_record(record: bytes) -> None:
    (line,) = ndjson.lines([record])
    assert ndjson.RECORD in json.loads(line)
    assert decode(_back(record)) == decode(record)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "GONE"}, "GONE"),
        ({"job_id": ...}, "job_id"),
        ({"exit_code": {"code": 1}}, "signal"),
        ({"exit_code": 5}, "no job of slurmjc.jobs/1"),
        ({"record": "%"}, "holds no record"),
        ({"record": 7}, "holds no record"),
        ({"time_limit_kind": "soon", "time_limit_s": None}, "soon"),
    ],
)
def test_what_is_no_job_is_refused(change: dict[str, Any], said: str) -> None:
    (line,) = ndjson.lines([job(1)])
    changed = {name: value for name, value in (json.loads(line) | change).items() if value is not ...}
    with pytest.raises(ProtocolError, match=said):
        ndjson.fields_of(changed)
