# SPDX-License-Identifier: MIT
"""What is kept of the fuzz targets in Python, once more: inputs that ended one of them stay mended."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).resolve().parent
NAMES: Final = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
INPUTS: Final = [path for name in NAMES for path in sorted((HERE / "corpus" / name).iterdir())]


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_inputs_that_are_kept_find_nothing(path: Path) -> None:
    importlib.import_module(f"tests.fuzz.fuzz_{path.parent.name}").one_input(path.read_bytes())
