# SPDX-License-Identifier: MIT
"""The real plugin in the hook driver, and a daemon that does what it is told."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cplugin.driver import Driver
from tests.cplugin.fake_daemon import FakeDaemon


class Site:
    """Directories of one slurmctld: sockets, state, and a ring on tmpfs."""

    def __init__(self, directory: Path, ring_dir: Path, stack: ExitStack) -> None:
        self.sockets, self.state, self.ring_dir = directory / "sock", directory / "state", ring_dir
        self.sockets.mkdir()
        self.state.mkdir(mode=0o700)
        self.log = directory / "log"
        self.promises = directory / "promises"
        self._stack = stack

    def daemon(self) -> FakeDaemon:
        """A fake daemon on ingest.sock, not yet started."""
        return FakeDaemon(self.sockets / "ingest.sock")

    def driver(self, **options: Any) -> Driver:
        """A process with the plugin in it; killed at the test's end."""
        driver = Driver(self, **options)
        self._stack.callback(driver.kill)
        return driver

    def promised(self) -> list[str]:
        """The sums of the records of all calls that returned success, in order."""
        return [line.split()[2] for line in self.promises.read_text().splitlines()] if self.promises.exists() else []


@pytest.fixture
def site(rundir: Path) -> Iterator[Site]:
    ring_dir = Path(tempfile.mkdtemp(prefix="jobcomp-redis-", dir="/dev/shm"))
    with ExitStack() as stack:
        yield Site(rundir, ring_dir, stack)
    shutil.rmtree(ring_dir)
