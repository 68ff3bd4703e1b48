# SPDX-License-Identifier: MIT
"""The tools that the fault suite stands on: a proxy or a shim that does nothing would let every test pass."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.proxy import ChaosProxy, Cut, End
from tests.faults.shim import Kill, Op, Shim

pytestmark = pytest.mark.faults_fast


@pytest.fixture
def echo(rundir: Path) -> Iterator[Path]:
    """A server that sends everything back."""
    path = rundir / "echo.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(rundir: Path, echo: Path) -> Iterator[ChaosProxy]:
    proxy = ChaosProxy(rundir / "proxy.sock", echo)
    proxy.start()
    yield proxy
    proxy.stop()


def connect(proxy: ChaosProxy) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(str(proxy.listen))
    return client


def read_all(client: socket.socket) -> bytes:
    data = b""
    with suppress(OSError):
        while part := client.recv(65536):
            data += part
    return data


def test_proxy_passes_bytes_on(proxy: ChaosProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"x" * 200_000)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"x" * 200_000
    assert (proxy.requests.bytes, proxy.replies.bytes) == (200_000, 200_000)


@pytest.mark.parametrize("at", [0, 1, 7])
@pytest.mark.parametrize("end", [End.CLOSE, End.RESET, End.HALF])
def test_proxy_cuts_a_reply_at_a_byte(proxy: ChaosProxy, at: int, end: End) -> None:
    proxy.replies.cut = Cut(at, end)
    with connect(proxy) as client:
        client.sendall(b"0123456789")
        assert read_all(client) == b"0123456789"[:at]
    assert proxy.cuts == 1
    with connect(proxy) as client:
        client.sendall(b"again")
        assert client.recv(100) == b"again"


def test_proxy_cuts_a_request_and_hangs_until_it_heals(proxy: ChaosProxy) -> None:
    proxy.requests.cut = Cut(3, End.HANG)
    with connect(proxy) as client:
        client.sendall(b"0123456789")
        assert client.recv(100) == b"012"
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(5)
        proxy.heal()
        assert read_all(client) == b""


def test_proxy_refuses_and_swallows(proxy: ChaosProxy) -> None:
    proxy.refuse = True
    with connect(proxy) as client:
        assert read_all(client) == b""
    proxy.heal()
    proxy.replies.silent = True
    with connect(proxy) as client:
        client.sendall(b"lost")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)


PROGRAM = """
import os, sys
path = sys.argv[1]
fd = os.open(path, os.O_RDWR | os.O_CREAT)
for word in sys.argv[2:]:
    try:
        done = os.fsync(fd) if word == "sync" else os.pwrite(fd, word.encode(), 0)
        print(word, done, flush=True)
    except OSError as exc:
        print(word, exc.errno, "failed", flush=True)
"""


def run(shim: Shim, path: Path, *words: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), *words],
        env=shim.env, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()


def test_shim_fails_the_nth_call_on_its_files_only(rundir: Path) -> None:
    shim = Shim(rundir, "spool.db")
    shim.fail(Op.WRITE, error=errno.ENOSPC, nth=2, times=1)
    assert run(shim, rundir / "spool.db", "a", "b", "c", "sync")[1] == [
        "a 1", f"b {errno.ENOSPC} failed", "c 1", "sync None",
    ]  # fmt: skip
    assert (shim.calls(Op.WRITE), shim.hits(Op.WRITE), shim.calls(Op.SYNC)) == (3, 1, 1)
    shim.fail(Op.WRITE)
    assert run(shim, rundir / "other", "a")[1] == ["a 1"]
    shim.fail(Op.SYNC)
    assert run(shim, rundir / "spool.db", "sync")[1] == [f"sync {errno.EIO} failed"]
    shim.heal()
    assert run(shim, rundir / "spool.db", "sync")[1] == ["sync None"]


def test_shim_writes_short_and_kills(rundir: Path) -> None:
    shim = Shim(rundir, "spool.db", traced=True)
    shim.fail(Op.WRITE, part=50, times=1)
    assert run(shim, rundir / "spool.db", "0123456789")[1] == ["0123456789 5"]
    shim.fail(Op.WRITE, error=0, kill=Kill.AFTER)
    assert run(shim, rundir / "spool.db", "kept", "never") == (-9, [])
    assert (rundir / "spool.db").read_bytes() == b"kept4"
    shim.fail(Op.WRITE, kill=Kill.BEFORE)
    assert run(shim, rundir / "spool.db", "never")[0] == -9
    assert (rundir / "spool.db").read_bytes() == b"kept4"
    written = [(entry.result, entry.data) for entry in shim.entries() if entry.op == "W"]
    assert written == [(5, b"01234"), (4, b"kept")]


def test_shim_moves_the_wall_clock_only(rundir: Path) -> None:
    shim = Shim(rundir, "nothing")
    shim.move_clock(10 * 365 * 86400)
    program = "import time; print(int(time.time()), int(time.monotonic()))"
    done = subprocess.run([sys.executable, "-c", program], env=shim.env, capture_output=True, text=True, check=True)
    wall, monotonic = map(int, done.stdout.split())
    assert abs(wall - time.time() - 10 * 365 * 86400) < 60
    assert abs(monotonic - time.monotonic()) < 60
