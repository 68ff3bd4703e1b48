# SPDX-License-Identifier: MIT
"""Which of the fault tests run: all with SLURMJCD_FAULTS=all (`make test-faults`), else the fast ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults_fast: a fault test that every `make test` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("SLURMJCD_FAULTS") == "all":
        return
    slow = [item for item in items if _HERE in item.path.parents and not item.get_closest_marker("faults_fast")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
