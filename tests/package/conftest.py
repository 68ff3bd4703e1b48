# SPDX-License-Identifier: MIT
"""Tests marked `packages` install packages or need shells of their own: they run with SLURMJCD_PACKAGES=all
(`make test-package`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "packages: needs built packages, a tree to install them in, or other shells")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("SLURMJCD_PACKAGES") == "all":
        return
    slow = [item for item in items if _HERE in item.path.parents and item.get_closest_marker("packages")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
