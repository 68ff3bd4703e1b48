# SPDX-License-Identifier: MIT
"""All programs running, for one test or for a module's tests; which of them are for `make test-workflows` only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Munge, run_dir
from tests.harness.stack import Stack, running_stack

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: a test here that SLURMJCD_E2E=all runs, and not each `make test`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = [item for item in items if _HERE in item.path.parents and item.get_closest_marker("long")]
    if long and os.environ.get("SLURMJCD_E2E") != "all":
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="module")
def module_stack(munge: Munge) -> Iterator[Stack]:
    """Shared by the tests of a module that only look."""
    with run_dir() as directory, running_stack(directory, munge=munge) as stack:
        yield stack


@pytest.fixture
def make_stack(rundir: Path, munge: Munge, stopper: ExitStack) -> Callable[..., Stack]:
    """Start everything for one test, with its own settings; a second call needs another name."""

    def make(name: str = "one", **kwargs: Any) -> Stack:
        return stopper.enter_context(running_stack(rundir / name, munge=munge, **kwargs))

    return make
