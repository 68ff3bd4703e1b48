# SPDX-License-Identifier: MIT
"""A private little machine: its own users, network, processes, /run and clock.

Everything the rig starts lives in namespaces of its own, so that default paths and ports can be used,
users can be invented, and nothing is left behind however the run ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOSTNAME = "ctl"
# Half a minute into the run the sandbox's clock passes midnight UTC, where the store begins a new segment.
SECONDS_TO_MIDNIGHT = 50
_INSIDE = "SLURMJCD_PARITY_INSIDE"
_FAKETIME_DIRS = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime")


class RigError(Exception):
    """The rig could not be set up: says what is missing."""


def enter(module: str, args: list[str]) -> None:
    """Return inside the sandbox; outside, run `python -m module args` inside one and exit as it does."""
    if os.environ.get(_INSIDE):
        if os.getpid() == 1:
            _be_init()
        return
    if os.geteuid() != 0:
        raise RigError("the parity rig makes namespaces and users: run it as root")
    command = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    child = subprocess.Popen([*command, sys.executable, "-m", module, *args], env=os.environ | {_INSIDE: "1"})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child gets it from the terminal too and cleans up
    sys.exit(child.wait())


def _be_init() -> None:
    """As process 1, collect orphans: slurmd waits for ever for a process group that holds a zombie."""
    main = os.fork()
    if main == 0:
        return
    while True:
        try:
            pid, status = os.wait()
        except KeyboardInterrupt:
            continue
        if pid == main:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def furnish(top: Path, users: dict[str, int]) -> None:
    """Give the sandbox a network, a private /run with the directory `top` in it, and `users` (name: uid = gid)."""
    _run("ip", "link", "set", "lo", "up")
    # With nothing but 127.0.0.1, getaddrinfo (AI_ADDRCONFIG) finds no address to listen on.
    _run("ip", "address", "add", "10.250.250.1/32", "dev", "lo")
    _run("hostname", HOSTNAME)
    for place, mode in (("/run", "755"), ("/dev/shm", "1777")):
        _run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "none", place)
    top.mkdir()
    etc = top / "etc"
    etc.mkdir()
    for name, line in (("passwd", "{0}:x:{1}:{1}::/tmp:/bin/sh\n"), ("group", "{0}:x:{1}:\n")):
        text = Path("/etc", name).read_text()
        text += "".join(line.format(user, uid) for user, uid in users.items())
        _bind(etc / name, text)
    _bind(etc / "hosts", f"127.0.0.1 localhost {HOSTNAME}\n")
    _bind(etc / "resolv.conf", "")


def forget_user(top: Path, name: str) -> None:
    """Remove a user, as sites do with people who leave."""
    passwd = top / "etc" / "passwd"
    lines = passwd.read_text().splitlines(keepends=True)
    passwd.write_text("".join(line for line in lines if not line.startswith(f"{name}:")))


def _bind(path: Path, text: str) -> None:
    path.write_text(text)
    _run("mount", "--bind", str(path), f"/etc/{path.name}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: {done.stderr.strip()} (namespaces and mounts are needed)")


class Clock:
    """The sandbox's time: the machine's, moved so that midnight UTC falls into the run."""

    def __init__(self) -> None:
        library = next((Path(d, "libfaketimeMT.so.1") for d in _FAKETIME_DIRS if Path(d).is_dir()), None)
        if library is None:
            raise RigError("libfaketime is not installed: tests/parity/install-packages brings it")
        now = int(time.time())
        self.offset = (now // 86400 + 1) * 86400 - SECONDS_TO_MIDNIGHT - now
        self._library = str(library)
        self.midnight = now + self.offset + SECONDS_TO_MIDNIGHT

    def now(self) -> float:
        return time.time() + self.offset

    def text(self, seconds: int) -> str:
        """The moment `seconds` from now, as Slurm's clients (in UTC) read it."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.now() + seconds))

    def running(self) -> dict[str, str]:
        """Environment of a program that lives in the sandbox's time."""
        return self._env(f"+{self.offset}")

    def frozen(self, at: int) -> dict[str, str]:
        """Environment of a program for which it stays `at` (epoch seconds, whole)."""
        return self._env(str(at)) | {"FAKETIME_FMT": "%s"}

    def _env(self, faketime: str) -> dict[str, str]:
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME": faketime,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
