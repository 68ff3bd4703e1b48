# SPDX-License-Identifier: MIT
"""A benchmark's run says when the machine was not the same throughout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import calibration, everything
from bench.calibration import Calibration

STEADY = {"spin_us": 30_000.0, "ping_us": 40.0, "fdatasync_us": 150.0}


@pytest.fixture
def machine(rundir: Path) -> Iterator[Calibration]:
    found = Calibration(rundir / "calibration")
    yield found
    found.stop()


@contextmanager
def one_busy_cpu(programs: int) -> Iterator[None]:
    """On the one processor that we stay on as well."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, ours)


def test_each_of_the_three_is_measured(machine: Calibration) -> None:
    found = machine.take()
    assert found.keys() == STEADY.keys()
    assert min(found.values()) > 0


def test_the_round_trip_is_one_to_redis(machine: Calibration) -> None:
    client = machine._server.client()
    client.config_resetstat()
    machine.take()
    assert client.info("commandstats")["cmdstat_ping"]["calls"] >= 500


def test_a_calibration_stands_before_each_round_and_behind_the_last() -> None:
    with calibration.running() as machine:
        seen = [(number, len(machine.taken)) for number in machine.rounds(3)]
    assert seen == [(0, 1), (1, 2), (2, 3)]
    assert len(machine.taken) == 4


def test_a_machine_that_others_use_moves_it(machine: Calibration) -> None:
    """Four programs that want our processor make the spin several times as long, whatever else runs."""
    with one_busy_cpu(0):
        machine.take()
    with one_busy_cpu(4):
        machine.take()
    assert any("spin_us" in line for line in calibration.moved(machine.taken))
    assert calibration.report(machine.taken)["moved"]


@pytest.mark.parametrize("name", STEADY)
def test_a_round_in_the_middle_counts(name: str) -> None:
    taken = [STEADY, STEADY | {name: STEADY[name] * 1.3}, STEADY]
    (line,) = calibration.moved(taken)
    assert f"moved: {name} went from {STEADY[name]:.1f} to {STEADY[name] * 1.3:.1f}" in line


def test_what_every_machine_varies_by_is_no_move() -> None:
    slower = {name: value * 1.2 for name, value in STEADY.items()}
    assert calibration.moved([STEADY, slower, STEADY]) == []
    assert calibration.report([STEADY, slower]) == {
        "taken": 2, "min": STEADY, "median": {name: value * 1.1 for name, value in STEADY.items()}, "max": slower,
        "moved": False,
    }  # fmt: skip


def test_bench_run_all_says_so() -> None:
    moved = {"calibration": calibration.report([STEADY, STEADY | {"spin_us": 60_000.0}])}
    assert everything.remarks("hook", moved) == [
        "hook: the calibration moved, the machine was busy with something else"
    ]
    assert everything.remarks("hook", {"calibration": calibration.report([STEADY])}) == []
