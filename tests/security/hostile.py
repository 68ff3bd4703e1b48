# SPDX-License-Identifier: MIT
"""Runs attacker.py as other users, and holds a daemon under attack against its promises."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.harness.paths import ROOT
from tests.harness.waiting import scaled

PYTHON: Final = "/usr/bin/python3"  # what anybody may run, as opposed to the environment of this tree
ALICE: Final = 64_101
BOB: Final = 64_102
MALLORY: Final = 64_103
_SOURCE: Final = Path(__file__).with_name("attacker.py")


class Attack:
    """One run of attacker.py. `result()` waits for its end, `stop()` is for an end that nobody waited for.

    With the option "told" the attack lasts until result() is called, and "seconds" at most.
    """

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
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        )  # fmt: skip

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End it if it still runs, and give its pipes back."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()

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
    """probe.py, while the `with` lasts; then its figures, in seconds.

    It has a session of its own, as the daemon has: the kernel deals out the processors by session, as it does by slice
    where systemd runs, and the attackers are not the ones to decide when slurmctld runs.
    """

    def __init__(self, path: Path, *, source: str = "probe") -> None:
        self.ack_s: list[float] = []
        self.lag_s: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.security.probe", str(path), source],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Probe:
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        out, _ = self._process.communicate(timeout=scaled(90))
        if self._process.returncode and exc is None:
            raise RuntimeError(f"the probe ended with {self._process.returncode}")
        figures = json.loads(out) if out else {}
        self.ack_s, self.lag_s = figures.get("ack_s", []), figures.get("lag_s", [])


def rss_mib(pid: int, *, highest: bool = True) -> float:
    """Memory of a process in MiB, now or the most it ever had."""
    name = "VmHWM:" if highest else "VmRSS:"
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name))) / 1024


def descriptors_of(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


FIRST_UID: Final = 64_200
_SLOW: Final = [
    ["SLURMJC.HELLO", "1", "slow/1"], ["SLURMJC.MATCH", "q"],
    *[["SLURMJC.FETCH", "q", "2000", "RECORDS"]] * 20,
]  # fmt: skip


def siege(directory: Path, path: Path, *, seconds: float, uids: int, requests: int, told: bool = False) -> list[Attack]:
    """Everything at once, each attack by users of its own: 10,000 connections and more, a thousand slow readers among
    them (as many as get in), drips of one byte, wrong requests without end, connections that come and go.

    Args:
        seconds: how long each lasts, from its own start on.
        told: each ends when its result is asked for, if that is earlier.
    """
    always = {"seconds": seconds, "told": told}
    common = always | {"hold": True, "connections": 10_000 // uids}
    attacks = []
    for number in range(uids):
        kind = ({"send": _SLOW, "sip": True}, {"drip": True, "send": [_SLOW[0]]})[number % 2]
        attacks.append(Attack(directory, FIRST_UID + number, "flood", path, common | kind))
    attacks.append(Attack(directory, FIRST_UID + uids, "bad", path, always | {"requests": requests}))
    attacks.append(Attack(directory, FIRST_UID + uids + 1, "churn", path, always))
    return attacks
