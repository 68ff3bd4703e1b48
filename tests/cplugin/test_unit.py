# SPDX-License-Identifier: MIT
"""The plugin's own tests, which are C programs."""

import subprocess

import pytest

from tests.harness.paths import CMAKE_BUILD
from tests.harness.waiting import scaled


@pytest.mark.parametrize("name", ["params", "resizes", "ring", "ring_dir", "spill"])
def test_part(name: str) -> None:
    done = subprocess.run(
        [CMAKE_BUILD / "tests" / f"cplugin_test_{name}"],
        capture_output=True,
        text=True,
        timeout=scaled(100),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
