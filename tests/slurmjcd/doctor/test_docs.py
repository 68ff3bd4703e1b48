# SPDX-License-Identifier: MIT
"""docs/doctor.md has every finding, under its check and with its level, and no other."""

from __future__ import annotations

import re

from slurmjcd.doctor.codes import CODES
from tests.harness import ROOT

_ROW = re.compile(r"\| `([a-z-]+)` \| (\w+) \| (\S.*\S) \| (\S.*\S) \|")


def test_the_page_has_every_finding_where_it_belongs() -> None:
    checks: list[str] = []
    found: dict[str, tuple[str, str]] = {}
    for line in (ROOT / "docs" / "doctor.md").read_text().splitlines():
        if line.startswith("## "):
            checks = line.removeprefix("## ").split(", ")
        elif row := _ROW.fullmatch(line):
            code = row[1]
            assert code not in found
            assert CODES[code][0] in checks, f"{code} belongs to {CODES[code][0]}"
            found[code] = (CODES[code][0], row[2])
        else:
            assert not line.startswith("| `"), line
    assert found == CODES
