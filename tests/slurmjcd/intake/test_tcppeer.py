# SPDX-License-Identifier: MIT
"""Whose socket is at the other end of a TCP connection."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from slurmjcd.intake.tcppeer import is_told, peer_uid
from slurmjcd.loopbackhttp import tcp_socket

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # what anybody may run, as opposed to the environment of this tree


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with closing(tcp_socket(request.param, "test")) as sock:
        sock.setblocking(True)
        sock.settimeout(20)
        yield sock


def uid_at_other_end(sock: socket.socket) -> int | None:
    return peer_uid(sock.getsockname(), sock.getpeername())


def connect_as_nobody(listener: socket.socket, then: str) -> subprocess.Popen[bytes]:
    address = listener.getsockname()[:2]
    code = f"import socket, sys\ns = socket.create_connection({address!r})\n{then}"
    return subprocess.Popen([PYTHON, "-I", "-S", "-c", code], stdin=subprocess.PIPE, user=NOBODY)


def test_our_own(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as ours:
        theirs, _ = listener.accept()
        with theirs:
            assert uid_at_other_end(theirs) == os.geteuid()
            assert uid_at_other_end(ours) == os.geteuid()


def test_another_users(listener: socket.socket) -> None:
    with connect_as_nobody(listener, "sys.stdin.read()") as process:
        theirs, _ = listener.accept()
        with theirs:
            assert uid_at_other_end(theirs) == NOBODY
        process.communicate()


@pytest.mark.parametrize("then", ["s.send(b'x')", "s.send(b'x'); s.shutdown(1); s.close()"])
def test_one_that_is_closed_already_is_nobodys_not_roots(listener: socket.socket, then: str) -> None:
    with connect_as_nobody(listener, then) as process:
        process.communicate()
    theirs, _ = listener.accept()
    with theirs:
        assert uid_at_other_end(theirs) is None


def test_one_that_nobody_has(listener: socket.socket) -> None:
    ours = listener.getsockname()
    assert peer_uid(ours, (ours[0], 1)) is None


def test_a_kernel_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_told()
    monkeypatch.setattr("slurmjcd.intake.tcppeer._NETLINK_SOCK_DIAG", 31)  # no protocol has that number
    assert not is_told()
