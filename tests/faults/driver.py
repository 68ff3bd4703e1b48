# SPDX-License-Identifier: MIT
"""slurmctld's stand-in: the C driver that loads the real plugin, calls its hook and writes down what was promised."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from tests.harness.paths import CMAKE_BUILD, PLUGIN
from tests.harness.process import Process
from tests.harness.waiting import scaled, wait_until

DRIVER: Final = CMAKE_BUILD / "bench" / "driver"
FIRST_JOB_ID: Final = 1_000_000  # REFERENCE_FIRST_JOB_ID
_BENCH_JOBS: Final = 4_000_000  # what a run without promises takes its jobs from
_FOR_EVER_S: Final = 3600


class Driver:
    """One slurmctld: its state directory, its ring, and one run of the driver after the other.

    Args:
        loc: JobCompLoc, the directory of the daemon's sockets.
        ring_dir: on tmpfs.
        params: further JobCompParams.
        promises: whether it writes its log, a synchronous write between calls. Its jobs come in the order in which
            they ended then, as slurmctld has them.
        jobs: size of the reference set, which all runs share: so many calls with promises there can be.
    """

    def __init__(
        self,
        directory: Path,
        loc: Path,
        ring_dir: Path,
        *,
        params: str = "",
        cluster: str = "bench",
        promises: bool = True,
        jobs: int = 300_000,
    ) -> None:
        directory.mkdir(parents=True)
        self.directory, self.loc, self.ring_dir = directory, loc, ring_dir
        self.state_dir = directory / "state"
        self.state_dir.mkdir(mode=0o700)
        self.params, self.cluster = params, cluster
        self._promises, self._jobs = promises, jobs if promises else _BENCH_JOBS
        self.runs: list[Process] = []
        self.env: dict[str, str] = {}
        self._next = self._begun_at = 0  # index of the next job, and of the latest run's first one

    def start(
        self,
        calls: int,
        *,
        rate: int = 0,
        linger_s: float = _FOR_EVER_S,
        fini: bool = True,
        wrap: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
    ) -> Process:
        """A new process that makes `calls` calls and then waits; it continues where the jobs of the last one ended.

        Args:
            wrap: a program that runs the driver, and its arguments.
            options: further ones of the driver's own.
        """
        number = len(self.runs)
        if self._promises and self.runs and not self.process.running:
            # one call more may have been made than was written down
            self._next = min(self._next, self._begun_at + len(self._promised_of(number - 1)) + 1)
        if self._promises and self._next + calls > self._jobs:
            raise ValueError(f"the driver has {self._jobs} jobs")
        params = f"ring_dir={self.ring_dir}" + (f",{self.params}" if self.params else "")
        words: list[str | Path] = [
            *wrap, DRIVER, "--plugin", f"redis={PLUGIN}", "--loc", f"redis={self.loc}", "--params", f"redis={params}",
            "--state", self.state_dir, "--cluster", self.cluster, "--conf-dir", self.directory, "--calls", str(calls),
            "--rounds", "1", "--rate", str(rate), "--first", str(self._next), "--jobs", str(self._jobs),
            "--linger", str(linger_s), *options,
        ]  # fmt: skip
        if self._promises:
            words += ["--log", self._log(number), "--by-completion"]
        if not fini:
            words.append("--no-fini")
        self._begun_at, self._next = self._next, self._next + calls
        process = Process(words, log=self.directory / f"driver.{number}.log", env=self.env)
        process.start()
        self.runs.append(process)
        return process

    def _log(self, number: int) -> Path:
        # on tmpfs, where a synchronous write costs nothing: it has to survive SIGKILL, not the host
        return self.ring_dir.parent / f"promised.{number}"

    @property
    def process(self) -> Process:
        return self.runs[-1]

    def stop(self) -> None:
        """End every process without a word to the plugin, as SIGKILL would."""
        for process in self.runs:
            process.kill()

    # ---- what was promised ---------------------------------------------------------------------------------------

    def promised(self) -> dict[int, str]:
        """Job id to the SHA-256 of its record, of every call that returned success."""
        found: dict[int, str] = {}
        for number in range(len(self.runs)):
            found.update(self._promised_of(number))
        return found

    def promised_last(self) -> dict[int, str]:
        """The same of the latest run alone."""
        return self._promised_of(len(self.runs) - 1)

    def _promised_of(self, number: int) -> dict[int, str]:
        log = self._log(number)
        found: dict[int, str] = {}
        for line in log.read_text().splitlines(keepends=True) if log.exists() else []:
            if line.endswith("\n"):  # else the driver was killed while it wrote
                _, job_id, digest = line.split()
                found[int(job_id)] = digest
        return found

    @property
    def calls(self) -> int:
        """How many calls returned success so far."""
        return len(self.promised())

    def possible(self) -> range:
        """Every job id that a call may be made with."""
        return range(FIRST_JOB_ID, FIRST_JOB_ID + self._jobs)

    def wait_calls(self, count: int, *, timeout_s: float = 60.0) -> None:
        """Wait until so many calls in all have returned success."""

        def reached() -> bool:
            if not self.process.running and self.process.returncode:
                raise RuntimeError(f"the driver ended with {self.process.returncode}: {self.process.log_tail()}")
            return self.calls >= count

        wait_until(reached, what=lambda: f"{count} calls; {self.calls} were made", timeout_s=timeout_s, every_s=0.05)

    def report(self, process: Process, *, timeout_s: float = 120.0) -> dict[str, Any]:
        """What the driver printed when its calls were made: calls, failed, p50_us …"""

        def line() -> str:
            """The whole of it: a line without its end is still being written."""
            lines = process.log_text().splitlines(keepends=True)
            return next((text for text in lines if text.startswith("{") and text.endswith("\n")), "")

        wait_until(line, what="the driver's report", timeout_s=timeout_s)
        return dict(json.loads(line())["plugins"]["redis"])

    def wait_reported(self, process: Process, *, timeout_s: float = 120.0) -> None:
        """Wait until a run has made its calls."""
        self.report(process, timeout_s=timeout_s)

    def rings(self) -> list[Path]:
        return sorted(self.ring_dir.glob("*.ring"))

    def spills(self) -> list[Path]:
        return sorted(self.state_dir.glob("*.spill"))


def hold(seconds: float) -> None:
    """Let a fault last: the one place where time itself is the input."""
    time.sleep(scaled(seconds))
