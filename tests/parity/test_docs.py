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
_RELEASE = re.compile(r"[Ll]ines (?:are those )?of (?:Slurm )?(\d+\.\d+\.\d+)[.:]")
PAGE = (ROOT / "docs" / "sacct.md").read_text()
# a row's lines are those of the release that was named last before it
ROWS = [
    match.groupdict() | {"release": [found[1] for found in _RELEASE.finditer(PAGE, 0, match.start())][-1]}
    for match in _ROW.finditer(PAGE)
]
SLURM = ROOT / "build" / "deps" / "slurm"


def test_what_is_accepted_is_explained_and_nothing_else() -> None:
    assert sorted(row["name"] for row in ROWS) == sorted(KNOWN)


def test_rows_of_both_releases_are_there() -> None:
    assert {row["release"] for row in ROWS} == {"22.05.8", "24.11.5"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_line_says_so(row: dict[str, str]) -> None:
    meta = SLURM / "META"
    release = re.escape(row["release"])
    if not meta.exists() or not re.search(rf"Version:\s+{release}\s", meta.read_text()):
        pytest.skip(f"the tree under build/deps/slurm is not Slurm {row['release']}")
    line = (SLURM / row["path"]).read_text(errors="replace").splitlines()[int(row["line"]) - 1]
    assert row["text"] in line
