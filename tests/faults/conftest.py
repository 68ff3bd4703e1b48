# SPDX-License-Identifier: MIT
"""Which of the fault tests run: all with SLURMJCD_FAULTS=all (`make test-faults`), else the fast ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.world import World
from tests.harness.rundir import ring_dir

_HERE = Path(__file__).parent
_LOG_LINES = 40
_HANGS_S = 900  # a sweep starts programs a hundred times: only a test that hangs takes so long on any machine


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults_fast: a fault test that every `make test` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_HANGS_S))
    if os.environ.get("SLURMJCD_FAULTS") == "all":
        return
    slow = [item for item in items if _HERE in item.path.parents and not item.get_closest_marker("faults_fast")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The end of every program's log stands below a failure."""
    report = yield
    directory = getattr(item, "funcargs", {}).get("rundir")
    if report.failed and report.when == "call" and _HERE in item.path.parents and directory is not None:
        for log in sorted(directory.rglob("*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            report.sections.append((f"{log.relative_to(directory)} (its last {_LOG_LINES} lines)", tail))
    return report


@pytest.fixture
def make_world(rundir: Path, stopper: ExitStack) -> Callable[..., World]:
    """Start redis-server and slurmjcd; with the driver they are stopped at the test's end."""

    def make(*, start: bool = True, **kwargs: Any) -> World:
        world = World(rundir, ring_dir(rundir), stopper, **kwargs)
        if start:
            world.start()
        return world

    return make
