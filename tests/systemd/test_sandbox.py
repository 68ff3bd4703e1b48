# SPDX-License-Identifier: MIT
"""Under the restrictions of slurmjcd.service the daemon does all its work, and nothing else can be done."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import MODULE, ROOT, Daemon
from tests.harness.paths import program
from tests.harness.process import Process
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire

UNIT = ROOT / "systemd" / "slurmjcd.service"
SANDBOX = Path(__file__).with_name("sandbox.py")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls have other numbers elsewhere"),
]

# What somebody would try who had taken over the daemon. Each says how it ended.
INTRUDER = r"""
import ctypes, json, mmap, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
state = sys.argv[1]
def call(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "")
def writes(path):
    with open(path, "w") as file:
        file.write("x")
def connects(host, port):
    with socket.socket() as sock:
        sock.settimeout(2)
        sock.connect((host, port))
def runs_what_it_wrote():
    libc.mmap.restype = ctypes.c_void_p
    if libc.mmap(None, 4096, 7, 0x22, -1, 0) == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "")
acts = {
    "write to the state": lambda: writes(state + "/file"),
    "write to /etc": lambda: writes("/etc/slurmjcd-evil"),
    "write to /usr": lambda: writes("/usr/lib/slurmjcd-evil"),
    "write to /tmp": lambda: writes("/tmp/slurmjcd-evil"),
    "connect elsewhere": lambda: connects("192.0.2.1", 80),
    "connect to loopback": lambda: connects("127.0.0.1", 1),
    "ask whose a socket is": lambda: socket.socket(16, socket.SOCK_RAW, 4),
    "packets": lambda: socket.socket(17, socket.SOCK_RAW, 0),
    "mount": lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, 0),
    "trace": lambda: call(101, 16, 1, 0, 0),
    "load a kernel module": lambda: call(175, 0, 0, 0),
    "bpf": lambda: call(321, 0, 0, 0),
    "reboot": lambda: call(169, 0, 0, 0, 0),
    "set the clock": lambda: call(227, 0, 0),
    "a namespace": lambda: call(272, 0x10000000),
    "change user": lambda: os.setuid(1),
    "processors": lambda: os.sched_setaffinity(0, {0}),
    "a setuid file": lambda: os.chmod(state + "/file", 0o4755),
    "run what it wrote": runs_what_it_wrote,
}
results = {}
for name, act in acts.items():
    try:
        act()
        results[name] = "done"
    except OSError as exc:
        results[name] = os.strerror(exc.errno) if exc.errno else str(exc)
print(json.dumps(results))
"""

REFUSED = {
    "write to the state": "done",
    "write to /etc": "Read-only file system",
    "write to /usr": "Read-only file system",
    "write to /tmp": "Read-only file system",
    "connect elsewhere": "Network is unreachable",
    "connect to loopback": "Connection refused",
    "ask whose a socket is": "done",
    "packets": "Address family not supported by protocol",
} | dict.fromkeys(
    (
        "mount", "trace", "load a kernel module", "bpf", "reboot", "set the clock", "a namespace", "change user",
        "processors", "a setuid file", "run what it wrote",
    ),
    "Operation not permitted",
)  # fmt: skip


def intrude(unit: Path, state: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, SANDBOX, unit, state, "--", sys.executable, "-c", INTRUDER, state],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_nothing_is_allowed_that_the_daemon_does_not_need(rundir: Path) -> None:
    assert intrude(UNIT, rundir) == REFUSED


@pytest.mark.parametrize(
    ("setting", "act"),
    [
        ("ProtectSystem=strict", "write to /tmp"),
        ("RestrictAddressFamilies=", "packets"),
        ("MemoryDenyWriteExecute=", "run what it wrote"),
        ("RestrictSUIDSGID=", "a setuid file"),
        ("SystemCallFilter=~", "processors"),
        ("IPAddressDeny=", "connect elsewhere"),
    ],
)
def test_it_is_the_unit_that_refuses(rundir: Path, tmp_path: Path, setting: str, act: str) -> None:
    """Without its setting each act ends in another way."""
    lines = UNIT.read_text().splitlines()
    assert any(line.startswith(setting) for line in lines)
    unit = tmp_path / "unit"
    unit.write_text("\n".join(line for line in lines if not line.startswith(setting)))
    try:
        assert intrude(unit, rundir)[act] != REFUSED[act]
    finally:
        Path("/tmp/slurmjcd-evil").unlink(missing_ok=True)


async def test_the_daemon_and_its_redis_work_there(rundir: Path, stopper: ExitStack) -> None:
    daemon = Daemon(rundir / "jc", settings={"embedded": {"module": str(MODULE)}})
    writable = [daemon.run_dir, daemon.state_dir, daemon.directory]
    command: list[str | Path] = [program("slurmjcd"), "run", "--config", daemon.conf]
    daemon.process = Process(
        [sys.executable, SANDBOX, UNIT, *writable, "--", *command], log=daemon.directory / "slurmjcd.log"
    )
    stopper.callback(daemon.stop)
    daemon.start()
    wire = await Wire.connect(daemon.ingest_socket)
    assert await wire.put(1, job(1), job(2)) == 2
    await wire.close()
    asking = await Wire.connect(daemon.query_socket)
    rows: list[bytes] = []
    while len(rows) < 2:
        rows = []
        await asking.call("SLURMJC.MATCH", "q")
        while page := await asking.call("SLURMJC.FETCH", "q", 10, "RECORDS"):
            rows += page
    assert rows == [job(1), job(2)]
    await asking.close()
    assert daemon.get("/metrics")[0] == 200
    assert "Traceback" not in daemon.process.log_text()
