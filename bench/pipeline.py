# SPDX-License-Identifier: MIT
"""The pieces that ingest, drain and query are measured with: the hook's driver, counts of the store, /proc."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bench.store import PREFIX, Client, info_number
from tests.harness.paths import CMAKE_BUILD, PLUGIN

DRIVER: Final = CMAKE_BUILD / "bench" / "driver"
AHEAD_JOBS: Final = 40_000  # called and not yet visible, at most; they fit the plugin's ring of 32 MiB
CHUNK_JOBS: Final = 4_000
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Caller:
    """bench/hook's driver under command: calls the record hook of one plugin with reference jobs.

    Args:
        directory: for the plugin's state, its own files and the driver's log.
        name, plugin, location: the plugin's file and its JobCompLoc.
        options: further options of the driver.
        jobs: size of the reference set, and so the most calls there can be.
        env: for the driver, over ours.
    """

    def __init__(
        self, directory: Path, name: str, plugin: Path, location: str, *options: str, jobs: int,
        env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        state = directory / "state"
        state.mkdir(parents=True)
        self.called = self._refused = 0
        self._log_path = directory / "driver.log"
        # killed with us also while it is stopped, which a SIGTERM would wait for
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL", "--", str(DRIVER), "--commands", f"--plugin={name}={plugin}",
                    *([f"--loc={name}={location}"] if location else []), f"--state={state}", f"--conf-dir={directory}",
                    f"--calls={jobs}", *options,
                ],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **(env or {})},
            )  # fmt: skip

    def _ask(self, command: str) -> bytes:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # then no line comes either
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        return self.process.stdout.readline()

    def call(self, jobs: int) -> None:
        """Call the hook so many times.

        Raises:
            RuntimeError: a call was refused, or the driver is gone.
        """
        if refused := self.try_call(jobs):
            raise RuntimeError(f"the hook refused {refused} calls; the driver's log ends: {self._log_tail()}")

    def try_call(self, jobs: int) -> int:
        """The same; returns how many calls were refused.

        Raises:
            RuntimeError: the driver is gone.
        """
        words = self._ask(f"call {jobs}").split()
        if len(words) != 2:
            raise RuntimeError(f"the hook's driver is gone; its log ends: {self._log_tail()}")
        refused, self._refused = int(words[1]) - self._refused, int(words[1])
        self.called = int(words[0])
        return refused

    def _log_tail(self) -> str:
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-3:])

    def times(self) -> dict[str, float]:
        """How long the calls since the last question took: calls, p50_us, p99_us, p999_us, max_us."""
        found: dict[str, float] = json.loads(self._ask("times"))
        return found

    def report(self) -> dict[str, Any]:
        """The same of all calls, at the end of input; nothing can be called any more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        (found,) = json.loads(self.process.stdout.readline())["plugins"].values()
        return dict(found)

    def stop(self) -> None:
        """End of input: the plugin's fini runs, unless the driver has --no-fini, and it ends."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Feeder(Caller):
    """A Caller of jobcomp_redis.so.

    Args:
        rings: directory on tmpfs for its ring.
        location: JobCompLoc, the daemon's run_dir.
    """

    def __init__(self, directory: Path, rings: Path, location: Path, *options: str, jobs: int) -> None:
        params = f"--params=redis=ring_dir={rings / directory.name}"
        super().__init__(directory, "redis", PLUGIN, str(location), params, *options, jobs=jobs)


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


def file_bytes(directory: Path, pattern: str) -> list[int]:
    """Sizes of the files in it, at any depth."""
    return [path.stat().st_size for path in directory.rglob(pattern) if path.is_file()]


def net_bytes(client: Client) -> tuple[int, int]:
    """What Redis has received and sent on all its connections so far."""
    received, sent = (info_number(client, "stats", f"total_net_{way}_bytes") for way in ("input", "output"))
    return int(received), int(sent)


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """The median of each figure, and under `min` and `max` the ends of its range."""
    found: dict[str, Any] = {}
    for name, pick in (("", statistics.median), ("min", min), ("max", max)):
        figures = {key: pick([each[key] for each in rounds]) for key in rounds[0]}
        found.update({name: figures} if name else figures)
    return found
