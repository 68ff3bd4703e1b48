# SPDX-License-Identifier: MIT
"""Runs attacker.py as other users, and holds a daemon under attack against its promises."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from slurmjcd import protocol
from tests.harness.waiting import scaled
from tests.slurmjcd.jobs import NOON, job

PYTHON: Final = "/usr/bin/python3"  # what anybody may run, as opposed to the environment of this tree
ALICE: Final = 64_101
BOB: Final = 64_102
MALLORY: Final = 64_103
_SOURCE: Final = Path(__file__).with_name("attacker.py")


class Attack:
    """One run of attacker.py. `result()` waits for its end."""

    def __init__(self, directory: Path, uid: int, name: str, path: Path | str, options: Any = None) -> None:
        script = directory / "attacker.py"
        if not script.exists():
            shutil.copyfile(_SOURCE, script)
            script.chmod(0o644)
        self._process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "TERM", "--reuid", str(uid), "--regid", str(uid), "--clear-groups",
                "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--",
                PYTHON, "-I", str(script), name, str(path), json.dumps({} if options is None else options),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        )  # fmt: skip

    def result(self, timeout_s: float = 60.0) -> dict[str, Any]:
        try:
            out, error = self._process.communicate(timeout=scaled(timeout_s))
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, error = self._process.communicate()
            raise RuntimeError(f"the attack took more than {scaled(timeout_s):g} s: {error}") from None
        if self._process.returncode:
            raise RuntimeError(f"the attacker ended with {self._process.returncode}: {error}")
        return dict(json.loads(out))


class Probe:
    """A well-behaved sender on ingest.sock while others attack: how long acknowledgements and the loop take.

    One record every few milliseconds is put and its acknowledgement waited for; between them a PING, which the daemon
    answers from its event loop without looking at anything else: its round trip is the loop's lag, or less than that.
    """

    def __init__(self, path: Path, *, every_s: float = 0.005) -> None:
        self.ack_s: list[float] = []
        self.lag_s: list[float] = []
        self._every_s, self._stop = every_s, threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(scaled(30))
        self._socket.connect(str(path))
        self._ask(protocol.command(protocol.HELLO, b"1", b"probe/1"))
        self._seq = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(scaled(40))
        self._socket.close()

    def _ask(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        return self._socket.recv(65536)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._seq += 1
            record = job(self._seq, uid=ALICE, end=NOON + self._seq)
            started = time.perf_counter()
            answer = self._ask(protocol.command(protocol.PUT, b"SPOOL", b"probe", self._seq, b"RECORDS", record))
            self.ack_s.append(time.perf_counter() - started)
            if answer != b":1\r\n":
                raise RuntimeError(f"record {self._seq} was not taken: {answer!r}")
            started = time.perf_counter()
            self._ask(protocol.command(protocol.PING))
            self.lag_s.append(time.perf_counter() - started)


def p99_ms(seconds: list[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000 if ordered else 0.0
