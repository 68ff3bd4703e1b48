# SPDX-License-Identifier: MIT
"""bench/run steady: what it says of a rate is of the jobs that came at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import steady
from bench.pipeline import Caller
from tests.harness.paths import PLUGIN
from tests.harness.rundir import ring_dir


def test_every_process_is_seen_at_work(rundir: Path) -> None:
    found = steady.measure_rate(rundir / "rate", 500, 2.0)
    assert found["jobs"] == 1000
    assert found["refused"] == 0
    assert found["seconds"] > 1.5  # it is a rate, not a burst
    for key in ("driver_cpu", "daemon_cpu", "redis_cpu", "daemon_written_mib_per_s", "redis_written_mib_per_s"):
        assert found[key] > 0, key
    # a record of the reference jobs has 277 bytes in the middle
    assert found["redis_received_mib_per_s"] * 2**20 * found["seconds"] > 200 * found["jobs"]


def test_calls_that_were_refused_are_counted(rundir: Path) -> None:
    """No daemon, the smallest ring, nothing spilled: most of the calls."""
    caller = Caller(
        rundir / "driver", "redis", PLUGIN, str(rundir / "nobody"),
        f"--params=redis=ring_dir={ring_dir(rundir)},ring_mib=1,spill_mib=0", jobs=30_000,
    )  # fmt: skip
    try:
        first, second = caller.try_call(20_000), caller.try_call(10_000)
        assert 0 < first < 20_000
        assert second == 10_000
        caller.process.kill()
        caller.process.wait()
        with pytest.raises(RuntimeError, match="gone"):
            caller.try_call(1)
    finally:
        caller.stop()
