# SPDX-License-Identifier: MIT
from __future__ import annotations

import json

import msgpack
import pytest

from slurmjcd import record
from slurmjcd.errors import ProtocolError
from tests.harness.paths import ROOT
from tests.slurmjcd.jobs import fields, job

SCHEMA = json.loads((ROOT / "schema" / "record.json").read_text())


def test_fields_are_those_of_the_schema_in_its_order() -> None:
    assert [field["name"] for field in SCHEMA["fields"]] == record.FIELDS
    assert SCHEMA["identity"] == list(record.IDENTITY)


def test_decode_gives_back_what_encode_took() -> None:
    given = fields(7, extra={"comment": "hi", "state_flags": 1024}, name="caf\xe9")
    decoded = record.decode(record.encode(given))
    assert {name: decoded[name] for name in given} == given
    assert decoded["version"] == 1
    assert decoded["wckey"] is None


def test_strings_that_are_not_utf8_survive() -> None:
    raw = job(1, name="a\udcffb")
    assert b"a\xffb" in raw
    assert record.decode(raw)["name"] == "a\udcffb"
    assert record.encode(record.decode(raw)) == raw


def test_elements_of_later_versions_are_left_out() -> None:
    row = [*msgpack.unpackb(job(1)), "from the future"]
    assert record.decode(msgpack.packb(row)) == record.decode(job(1))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        msgpack.packb({"a": 1}),
        job(1)[:-1],
        job(1) + b"\0",
        msgpack.packb([1] * 38),
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_decode_refuses_what_is_no_record(blob: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a record"):
        record.decode(blob)
