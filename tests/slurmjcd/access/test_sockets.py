# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from slurmjcd.access.sockets import OwnSocket
from slurmjcd.errors import ConfigError


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_socket_has_its_mode_and_accepts(rundir: Path, mode: int) -> None:
    own = OwnSocket(rundir / "s", mode)
    assert (rundir / "s").stat().st_mode & 0o777 == mode
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(rundir / "s"))
    own.close()
    assert not (rundir / "s").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_socket_is_given_to_its_owner(rundir: Path) -> None:
    own = OwnSocket(rundir / "s", 0o600, 12345)
    assert ((rundir / "s").stat().st_uid, (rundir / "s").stat().st_mode & 0o777) == (12345, 0o600)
    own.close()


def test_the_umask_is_as_before(rundir: Path) -> None:
    before = os.umask(0o027)
    OwnSocket(rundir / "s", 0o666).close()
    assert os.umask(before) == 0o027


def test_a_socket_left_by_a_dead_daemon_is_replaced(rundir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(rundir / "s"))
    OwnSocket(rundir / "s", 0o600).close()


def test_a_socket_that_another_daemon_serves_is_left(rundir: Path) -> None:
    first = OwnSocket(rundir / "s", 0o600)
    with pytest.raises(ConfigError, match=r"another slurmjcd serves it: stop that one or set daemon\.run_dir"):
        OwnSocket(rundir / "s", 0o600)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(rundir / "s"))
    first.close()
    OwnSocket(rundir / "s", 0o600).close()


@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(rundir: Path, what: str) -> None:
    path = rundir / "s"
    if what == "file":
        path.write_text("precious")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(rundir / "elsewhere")
    with pytest.raises(ConfigError, match="there is something there that is no socket: move it away"):
        OwnSocket(path, 0o600)
    assert os.path.lexists(path)


def test_a_lock_that_is_a_symlink_is_not_followed(rundir: Path) -> None:
    (rundir / "s.lock").symlink_to(rundir / "victim")
    with pytest.raises(ConfigError, match=r"its lock .* can't be opened"):
        OwnSocket(rundir / "s", 0o600)
    assert not (rundir / "victim").exists()


def test_a_directory_that_isnt_there_is_told(rundir: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be opened: No such file"):
        OwnSocket(rundir / "none" / "s", 0o600)
