# SPDX-License-Identifier: MIT
"""How long after slurmctld's plugin is told of a job's end `slurmjc wait` has ended, and what waiting costs.

`ended_…` is the whole way: hook, ring, daemon's spool, Redis, event, answer, and the end of the process. `told_…` is
the same up to the answer at a client that stays. Meanwhile so many others wait for jobs that never end, and so many
jobs end in a second that nobody waits for.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import hiredis

from bench.ingest import PROBE_ID_OFFSET, Pipeline, in_ms
from bench.pipeline import Feeder, cpu_s, wait_for
from bench.store import FIRST_JOB_ID, Client
from slurmjcd import protocol
from tests.harness import run_dir
from tests.harness.paths import program

NEVER: Final = 4_000_000_000  # job ids of which none ends
BACKGROUND_JOBS: Final = 1_000_000
COST_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probes", type=int, default=100, help="processes that wait for a job, one at a time")
    parser.add_argument("--told", type=int, default=1000, help="the same with a client that stays")
    parser.add_argument("--others", type=int, default=400, help="connections that wait for other jobs meanwhile")
    parser.add_argument("--rate", type=int, default=100, help="other jobs that end in a second")
    parser.set_defaults(aof=False, no_events=False)


class Waiter:
    """A connection that waits."""

    def __init__(self, path: Path) -> None:
        self._socket, self._reader = socket.socket(socket.AF_UNIX), hiredis.Reader()
        self._socket.connect(str(path))
        self.ask("SLURMJC.HELLO", 1, "bench/1")
        self.answer()

    def ask(self, *words: str | int) -> None:
        self._socket.sendall(protocol.command(*words))

    def answer(self) -> Any:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def wait(self, job: int, cursor: bytes = b"$") -> None:
        self.ask("SLURMJC.WATCH", cursor.decode(), 10, 600_000, "job", str(job))


def waiting(pipeline: Pipeline) -> int:
    _, text = pipeline.daemon.get("/metrics")
    return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("slurmjcd_waiting"))


def ended(pipeline: Pipeline, probe: Feeder, first: int, count: int, others: int) -> list[float]:
    times = []
    env = {**os.environ, "SLURMJC_SOCKET": str(pipeline.daemon.query_socket)}
    for number in range(count):
        job = str(first + number)
        process = subprocess.Popen([program("slurmjc"), "wait", "--no-squeue", "-q", job], env=env)
        wait_for(lambda: waiting(pipeline) > others, f"slurmjc to wait for {job}")
        begin = time.perf_counter()
        probe.call(1)
        try:
            process.wait(30)
        finally:
            process.kill()
        times.append(time.perf_counter() - begin)
    return times


def told(pipeline: Pipeline, probe: Feeder, first: int, count: int) -> list[float]:
    times, client = [], Waiter(pipeline.daemon.query_socket)
    cursor = b"$"
    for number in range(count):
        client.wait(first + number, cursor)
        time.sleep(0.005)
        begin = time.perf_counter()
        probe.call(1)
        reply = client.answer()
        times.append(time.perf_counter() - begin)
        if len(reply) != 3:
            raise RuntimeError(f"{reply} for job {first + number}")
        cursor = reply[0]
    return times


def cost(pipeline: Pipeline) -> dict[str, float]:
    """What all who wait cost while no job ends: processor time and Redis' commands in a second."""
    pid, client = pipeline.daemon.process.pid, Client(pipeline.redis.socket)
    client.ask("CONFIG", "RESETSTAT")
    before, began = cpu_s(pid), time.perf_counter()
    time.sleep(COST_S)
    seconds = time.perf_counter() - began
    text = client.ask("INFO", "stats").decode()
    commands = int(text.split("total_commands_processed:")[1].split()[0])
    return {"daemon_cpu": (cpu_s(pid) - before) / seconds, "redis_commands_per_s": commands / seconds}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with run_dir() as run, ExitStack() as stack:
        pipeline = Pipeline(run / "site", options)
        stack.callback(pipeline.stop)
        idle = cost(pipeline)
        others: list[Waiter] = []
        for number in range(options.others):
            others.append(Waiter(pipeline.daemon.query_socket))
            others[-1].wait(NEVER + number)
            wait_for(lambda: waiting(pipeline) == len(others), "all others to wait")
        quiet = cost(pipeline)
        probe = pipeline.feed("probe", f"--id-offset={PROBE_ID_OFFSET}", jobs=options.probes + options.told)
        if options.rate:
            words = ("--by-completion", f"--rate={options.rate}", f"--id-offset={2 * PROBE_ID_OFFSET}")
            background = pipeline.feed("background", *words, jobs=BACKGROUND_JOBS)
            stack.callback(background.process.kill)
            assert background.process.stdin is not None
            background.process.stdin.write(b"call %d\n" % BACKGROUND_JOBS)
            background.process.stdin.flush()
        first = PROBE_ID_OFFSET + FIRST_JOB_ID
        by_client = told(pipeline, probe, first, options.told)
        by_process = ended(pipeline, probe, first + options.told, options.probes, len(others))
        if options.rate:
            background.process.kill()
    return {
        "others": options.others,
        "rate_per_s": options.rate,
        **in_ms("told", by_client),
        **in_ms("ended", by_process),
        "idle": idle,
        "waiting": quiet,
    }
