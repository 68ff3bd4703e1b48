# SPDX-License-Identifier: MIT
"""Fixtures that every suite may use; the servers themselves are in tests/harness."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.harness import Daemon, Munge, RedisServer, SlurmCluster, SlurmOptions, run_dir


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends the run as ^C does, so that fixtures stop what they started.

    So does SIGINT, here and in what is started, even if a shell started us in the background, which ignores it.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rundir() -> Iterator[Path]:
    """A temporary directory with a path short enough for Unix sockets."""
    with run_dir() as path:
        yield path


@pytest.fixture(scope="session")
def session_rundir() -> Iterator[Path]:
    with run_dir() as path:
        yield path


@pytest.fixture(scope="session")
def munge(session_rundir: Path) -> Iterator[Munge]:
    """One munged for the whole run: it keeps no state that tests could share."""
    server = Munge(session_rundir / "munge")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stopper() -> Iterator[ExitStack]:
    """Callbacks that run when the test ends, the last one first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def make_redis(rundir: Path, stopper: ExitStack) -> Callable[..., RedisServer]:
    """Start servers; they are stopped at the test's end."""

    def make(name: str = "redis", **kwargs: Any) -> RedisServer:
        server = RedisServer(rundir / name, **kwargs)
        stopper.callback(server.stop)
        server.start()
        return server

    return make


@pytest.fixture
def make_daemon(rundir: Path, stopper: ExitStack) -> Callable[..., Daemon]:
    """Start slurmjcd; it is stopped at the test's end."""

    def make(name: str = "jc", **kwargs: Any) -> Daemon:
        daemon = Daemon(rundir / name, **kwargs)
        stopper.callback(daemon.stop)
        daemon.start()
        return daemon

    return make


@pytest.fixture
def make_cluster(rundir: Path, munge: Munge, stopper: ExitStack) -> Callable[..., SlurmCluster]:
    """Start Slurm; it is stopped at the test's end."""

    def make(name: str = "slurm", options: SlurmOptions | None = None) -> SlurmCluster:
        cluster = SlurmCluster(rundir / name, munge.socket, options)
        stopper.callback(cluster.stop)
        cluster.start()
        return cluster

    return make
