# SPDX-License-Identifier: MIT
"""How long squeue takes, of a real slurmctld, while jobs end and what is behind the plugin is swamped or stands still.

Pending jobs are cancelled, some every second: each calls the record hook under slurmctld's job lock, as any job that
ends does, and needs no node. In turn: nothing ends (idle), jobs end (ending), Redis is kept busy with MATCH
as well (match), Redis is stopped (redis_stopped), slurmjcd is stopped (daemon_stopped). Whole processes are timed, each
state beside the idle time right before it. At the end every job has to be in the store.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from bench import store
from bench.store import PREFIX, QUESTIONS
from tests.harness.process import Process
from tests.harness.rundir import run_dir
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import Stack, running_stack

_EVERY_S: Final = 0.25  # between two scancel
_MATCH_CLIENTS: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each state lasts, per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ends", type=int, default=20, metavar="N", help="jobs that end per second")
    parser.add_argument("--jobs", type=int, default=200_000, metavar="N", help="jobs in the store beforehand")


class Ending:
    """Jobs that end at a steady rate, by scancel of those that were held back for it."""

    def __init__(self, stack: Stack, per_s: int) -> None:
        self.ended = 0
        self._stack = stack
        self._chunk = max(1, round(per_s * _EVERY_S))
        self._held: list[int] = []

    def hold(self, seconds: float) -> None:
        """Submit as many as end in so many seconds."""
        while len(self._held) < (seconds / _EVERY_S + 1) * self._chunk:
            self._held.append(self._stack.cluster.sbatch("true", "--hold"))

    def _some(self) -> None:
        some, self._held = self._held[: self._chunk], self._held[self._chunk :]
        if not some:
            raise RuntimeError("every job has ended before its time")
        self._stack.cluster.run("scancel", *map(str, some))
        self.ended += len(some)

    @contextmanager
    def running(self) -> Iterator[None]:
        done = threading.Event()
        failed: list[Exception] = []

        def go() -> None:
            try:
                while not done.wait(_EVERY_S):
                    self._some()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if failed:
            raise failed[0]


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)


@contextmanager
def matching(stack: Stack) -> Iterator[None]:
    """As many MATCH as Redis answers."""
    words = ("SLURMJC.MATCH", PREFIX, "load", *QUESTIONS["day_user"])
    command = ["redis-benchmark", "-s", str(stack.redis.socket), "-c", str(_MATCH_CLIENTS), "-n", "1000000000", "-q"]
    load = subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        if load.poll() is not None:
            raise RuntimeError(f"redis-benchmark ended with status {load.returncode}")
    finally:
        load.kill()
        load.wait()


def squeue_ms(stack: Stack, seconds: float) -> list[float]:
    """Times of one squeue after the other; each has to succeed."""
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        begin = time.perf_counter()
        stack.cluster.run("squeue", "-h")
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.02)
    return times


def measure_stack(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    states: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "ending": nullcontext,
        "match": lambda: matching(stack),
        "redis_stopped": lambda: stopped(stack.redis.process),
        "daemon_stopped": lambda: stopped(stack.daemon.process),
    }
    store.load(stack.redis, options.jobs, "put")
    before = stack.stored()
    ending = Ending(stack, options.ends)
    idle: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in states}
    over: dict[str, list[float]] = {name: [] for name in states}
    for _ in options.machine.rounds(options.rounds):
        for name, state in states.items():
            ending.hold(options.seconds)
            quiet = squeue_ms(stack, options.seconds / 4)
            idle += quiet
            with state(), ending.running():
                taken = squeue_ms(stack, options.seconds)
            times[name] += taken
            over[name] += [each - statistics.median(quiet) for each in taken]
            stack.wait_stored(before + ending.ended)
    found: dict[str, Any] = {"idle": {"p50_ms": statistics.median(idle), "max_ms": max(idle), "asked": len(idle)}}
    for name, taken in times.items():
        found[name] = {
            "p50_ms": statistics.median(taken),
            "max_ms": max(taken),
            "max_over_idle_ms": max(over[name]),
            "asked": len(taken),
        }
    return {**found, "ended": ending.ended, "stored": stack.stored() - before}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    # so that jobs that have ended don't pile up in what squeue is sent
    slurm = SlurmOptions(extra={"MinJobAge": "2"})
    with run_dir("sj-bench-") as directory, running_stack(directory / "site", slurm_options=slurm) as stack:
        return measure_stack(stack, options)
