# SPDX-License-Identifier: MIT
"""bench/run start: the figures come from daemons that were started."""

from __future__ import annotations

import json
import subprocess

from bench import everything
from tests.harness.paths import ROOT


def test_it_listens_then_is_ready_and_stops() -> None:
    done = subprocess.run(
        [ROOT / "bench/run", "start", "--rounds", "2", "--spooled", "5000", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for prefix in ("", "embedded_"):
        assert 0 < found[f"{prefix}listening_ms"] <= found[f"{prefix}ready_ms"]
        assert found[f"{prefix}stop_ms"] > 0
    assert found["spooled_listening_ms"] > 0
    assert found["calibration"]["taken"] == 3
    assert {row[0] for row in everything.rows("start", found)} == {f"start: {key}" for key in everything.SHOWN["start"]}
