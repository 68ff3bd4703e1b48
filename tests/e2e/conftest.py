# SPDX-License-Identifier: MIT
"""All programs running, for one test or for a module's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Munge, run_dir
from tests.harness.stack import Stack, running_stack


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
