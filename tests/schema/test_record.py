# SPDX-License-Identifier: MIT
"""schema/record.json, schema/vectors.json, the C code and the Python code say the same of a record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.harness.paths import CMAKE_BUILD

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "schema"
DUMP = CMAKE_BUILD / "tests/record_dump"
FIELDS = json.loads((SCHEMA / "record.json").read_text())["fields"]
VECTORS = json.loads((SCHEMA / "vectors.json").read_text())
sys.path.insert(0, str(SCHEMA))

import make_vectors  # noqa: E402


def packed(vector: dict[str, Any]) -> bytes:
    """The vector's bytes; the large ones are made again and held against their sha256."""
    if "hex" in vector:
        return bytes.fromhex(vector["hex"])
    again = make_vectors.with_bytes(vector)
    assert (again["size"], again["sha256"]) == (vector["size"], vector["sha256"])
    values = [make_vectors.expand(vector["record"][field["name"]]) for field in FIELDS]
    return msgpack.packb(values, unicode_errors="surrogateescape")


def dump(*records: bytes) -> list[dict[str, str]]:
    """What record_dump says of each record: field -> text, or {"bad": why}."""
    lines = "".join(record.hex() + "\n" for record in records)
    out = subprocess.run([DUMP], input=lines, capture_output=True, text=True, check=True).stdout
    dumps: list[dict[str, str]] = []
    current: dict[str, str] = {}
    for line in out.splitlines():
        key, _, value = line.partition(" ")
        if key == ".":
            dumps.append(current)
            current = {}
        elif key == "bad":
            dumps.append({"bad": value})
        else:
            current[key] = value
    assert len(dumps) == len(records)
    return dumps


def meaning(dumped: dict[str, str]) -> dict[str, Any]:
    """A dump in the form of a vector's record."""
    record: dict[str, Any] = {}
    for field in FIELDS:
        text = dumped.get(field["name"])
        if text is None:
            record[field["name"]] = None
        elif field["type"] == "map":
            record["extra"] = msgpack.unpackb(bytes.fromhex(text[1:]), unicode_errors="surrogateescape")
        elif text.startswith("x") and field["type"] == "str":
            record[field["name"]] = bytes.fromhex(text[1:].strip()).decode("utf-8", "surrogateescape")
        else:
            record[field["name"]] = int(text) if text.isdigit() else text
    return record


@pytest.mark.parametrize("script", ["generate.py", "make_vectors.py"])
def test_generated_files_match_the_schema(script: str) -> None:
    subprocess.run([sys.executable, SCHEMA / script, "--check"], check=True)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_c_decodes_and_encodes_each_vector(vector: dict[str, Any]) -> None:
    data = packed(vector)
    (dumped,) = dump(data)
    assert bytes.fromhex(dumped["again"]) == data
    assert meaning(dumped) == {key: make_vectors.expand(value) for key, value in vector["record"].items()}


def test_c_refuses_a_record_cut_at_every_byte() -> None:
    data = packed(VECTORS[0])
    for why in dump(*(data[:cut] for cut in range(len(data)))):
        assert "bad" in why


def with_field(name: str, value: Any) -> bytes:
    """The ordinary record with one field changed."""
    record = {**VECTORS[0]["record"], name: value}
    return msgpack.packb([record[field["name"]] for field in FIELDS])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (with_field("version", 2), "the record's version is not 1"),
        (with_field("job_id", 0), "job_id is 0"),
        (with_field("job_id", None), "a required field is nil"),
        (with_field("job_id", 2**32), "a number is larger than its field allows"),
        (with_field("job_id", -1), "a number field holds something else than a number >= 0"),
        (with_field("job_id", "7"), "a number field holds something else than a number >= 0"),
        (with_field("end", 0), "end is 0"),
        (with_field("name", 5), "a string field holds something else than a string"),
        (with_field("name", "a\0b"), "a string holds a NUL byte"),
        (with_field("time_limit", "soon"), "time_limit is neither minutes nor UNLIMITED nor Partition_Limit"),
        (with_field("extra", []), "extra is not a map"),
        (with_field("extra", {1: 1}), "a key in extra is not a string"),
        (with_field("extra", {"a": [[[[[[[[[[]]]]]]]]]]}), "a value in extra is cut short or nested too deep"),
        (with_field("name", "x" * 2**20), "the record is larger than 1 MiB"),
        (packed(VECTORS[0]) + b"\xc0", "bytes are left over behind the record"),
        (msgpack.packb([1, 2]), "the record has too few fields"),
        (msgpack.packb({}), "the record is not a MessagePack array"),
        (b"", "the record is not a MessagePack array"),
        (b"\xdd\xff\xff\xff\xff", "the record is not a MessagePack array"),
    ],
)
def test_c_says_what_is_wrong_with_a_record(data: bytes, why: str) -> None:
    assert dump(data) == [{"bad": why}]


def test_c_takes_longer_forms_and_later_fields() -> None:
    """A later version appends fields; another writer may use wider numbers. What comes out is the shortest form."""
    data = packed(VECTORS[0])
    longer = b"\xdd" + (len(FIELDS) + 1).to_bytes(4, "big") + b"\xcd\x00\x01" + data[4:] + b"\x81\xa1a\x93\x01\x02\x03"
    assert data[:4] == b"\xdc\x00\x26\x01"
    (dumped,) = dump(longer)
    assert bytes.fromhex(dumped["again"]) == data


@pytest.mark.parametrize("key", ["state_flags", "state_reason_prev"])
@pytest.mark.parametrize(("value", "seen"), [(None, 0), (0x2000, 0x2000), ("x", 0), (2**32, 0)])
def test_c_finds_what_criteria_ask_of_extra(key: str, value: Any, seen: int) -> None:
    (dumped,) = dump(with_field("extra", {"a": 1} if value is None else {"a": [1], key: value}))
    assert int(dumped[key]) == seen
