# SPDX-License-Identifier: MIT
"""The pieces that ingest, drain and query are measured with: the hook's driver, counts of the store, /proc."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.store import PREFIX, Client
from tests.harness.paths import CMAKE_BUILD, PLUGIN

DRIVER: Final = CMAKE_BUILD / "bench" / "driver"
AHEAD_JOBS: Final = 40_000  # called and not yet visible, at most; they fit the plugin's ring of 32 MiB
CHUNK_JOBS: Final = 4_000
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Feeder:
    """bench/hook's driver under command: calls jobcomp_redis.so's record hook with reference jobs.

    Args:
        rings: directory on tmpfs for its ring.
        location: JobCompLoc, the daemon's run_dir.
        options: further options of the driver.
        jobs: size of the reference set, and so the most calls there can be.
    """

    def __init__(self, directory: Path, rings: Path, location: Path, *options: str, jobs: int) -> None:
        state = directory / "state"
        state.mkdir(parents=True)
        self.called = 0
        self._log = (directory / "driver.log").open("wb")
        self.process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "TERM", "--", str(DRIVER), "--commands", f"--plugin=redis={PLUGIN}",
                f"--loc=redis={location}", f"--params=redis=ring_dir={rings / directory.name}", f"--state={state}",
                f"--conf-dir={directory}", f"--calls={jobs}", *options,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip

    def call(self, jobs: int) -> None:
        """Call the hook so many times.

        Raises:
            RuntimeError: a call was refused, or the driver is gone.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"call %d\n" % jobs)
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        if len(words) != 2 or words[1] != b"0":
            raise RuntimeError(f"the hook's driver said {b' '.join(words)!r}, not '<calls> 0'; see its log")
        self.called = int(words[0])

    def stop(self) -> None:
        """End of input: the plugin's fini runs, then the driver ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


def info(client: Client) -> dict[bytes, Any]:
    flat = client.ask("SLURMJC.INFO", PREFIX)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def stored(client: Client) -> int:
    """Jobs in the store, which are those that MATCH sees."""
    return int(info(client)[b"jobs"])


def matched(client: Client) -> int:
    """Jobs that a MATCH of everything finds, counted by fetching them."""
    rows = 0
    if client.ask("SLURMJC.MATCH", PREFIX, "count", "limit", "1000000000") is not None:
        while page := client.ask("SLURMJC.FETCH", PREFIX, "count", "10000", "RECORDS"):
            rows += len(page)
    return rows


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = 300.0, every_s: float = 0.005) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(every_s)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, all its threads."""
    return cpu_s_of(Path(f"/proc/{pid}/stat"))


def cpu_s_of(stat: Path) -> float:
    words = stat.read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def thread_cpu_s(pid: int) -> dict[str, float]:
    """Processor time of a process by thread: `main`, and the others together."""
    main = cpu_s_of(Path(f"/proc/{pid}/task/{pid}/stat"))
    return {"main": main, "others": cpu_s(pid) - main}


def rss_mib(pid: int, *, highest: bool = False) -> float:
    """Memory of a process, now or at its highest."""
    key = "VmHWM:" if highest else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {key} of process {pid}")


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """The median of each figure, and under `min` and `max` the ends of its range."""
    found: dict[str, Any] = {}
    for name, pick in (("", statistics.median), ("min", min), ("max", max)):
        figures = {key: pick([each[key] for each in rounds]) for key in rounds[0]}
        found.update({name: figures} if name else figures)
    return found
