# SPDX-License-Identifier: MIT
"""docs/sacct.md explains exactly the differences the rig accepts, with lines that are really there."""

from __future__ import annotations

import re

import pytest

from tests.harness import ROOT
from tests.parity.known import KNOWN

_ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| [^|]+ \| `(?P<path>src/[^:`]+):(?P<line>\d+)` \| `(?P<text>[^`]+)` \|$", re.MULTILINE
)
ROWS = [match.groupdict() for match in _ROW.finditer((ROOT / "docs" / "sacct.md").read_text())]
SLURM = ROOT / "build" / "deps" / "slurm"


def test_what_is_accepted_is_explained_and_nothing_else() -> None:
    assert sorted(row["name"] for row in ROWS) == sorted(KNOWN)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_line_says_so(row: dict[str, str]) -> None:
    if not (SLURM / "META").exists() or not re.search(r"Version:\s+22\.05\.8\s", (SLURM / "META").read_text()):
        pytest.skip("the tree under build/deps/slurm is not Slurm 22.05.8")
    line = (SLURM / row["path"]).read_text(errors="replace").splitlines()[int(row["line"]) - 1]
    assert row["text"] in line
