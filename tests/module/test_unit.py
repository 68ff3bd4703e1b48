# SPDX-License-Identifier: MIT
"""The engine's own tests, which are C programs."""

import subprocess

import pytest

from tests.harness.paths import CMAKE_BUILD
from tests.harness.waiting import scaled


@pytest.mark.parametrize("name", ["event", "memory", "nodelist", "rows", "segment", "tables"])
def test_engine(name: str) -> None:
    done = subprocess.run(
        [CMAKE_BUILD / "tests" / f"module_test_{name}"], capture_output=True, text=True, timeout=scaled(60), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
