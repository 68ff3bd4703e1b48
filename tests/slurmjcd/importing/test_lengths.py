# SPDX-License-Identifier: MIT
"""Strings that are too long for a record."""

from __future__ import annotations

import json
from pathlib import Path

from slurmjcd.importing.lengths import OTHER_MAX, STRING_MAX, shortened


def test_the_lengths_are_those_of_the_schema() -> None:
    schema = json.loads(Path("schema/record.json").read_text())
    for field in schema["fields"] + schema["extra"]:
        if "max_bytes" in field:
            assert OTHER_MAX.get(field["name"], STRING_MAX) == field["max_bytes"], field["name"]


def test_long_strings_are_cut_between_characters_and_named() -> None:
    fields = {"job_id": 1, "name": "é" * 10_000, "nodes": "n" * 20_000, "extra": {"comment": "c" * 70_000, "ntasks": 3}}
    found = shortened(fields)
    assert found["name"] == "é" * (STRING_MAX // 2)
    assert found["nodes"] == fields["nodes"]
    assert found["extra"] == {"comment": "c" * 65_536, "ntasks": 3, "truncated": "name,comment"}
    assert shortened({"name": "x" + "é" * 10_000})["name"] == "x" + "é" * 8191
