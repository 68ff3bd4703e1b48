# SPDX-License-Identifier: MIT
"""`slurmjc jobs -j ID`, whole process: people call it in loops. Beside it an interpreter that does nothing."""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from typing import Any

from bench import store
from bench.pipeline import summary
from bench.store import FIRST_JOB_ID
from tests.harness.daemon import Daemon
from tests.harness.paths import program
from tests.harness.rundir import run_dir

HEAVIEST = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=100_000, metavar="N", help="jobs in the store")
    parser.add_argument("--rounds", type=int, default=20)


def wall_ms(*argv: str) -> float:
    begin = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.decode().strip()}")
    return (time.perf_counter() - begin) * 1000


def imports(*argv: str) -> dict[str, float]:
    """Milliseconds that importing took in all, and the modules that took most by themselves."""
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=True)
    own = {name: int(us) / 1000 for us, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", done.stderr)}
    heaviest = sorted(own, key=lambda name: -own[name])[:HEAVIEST]
    return {"import_ms": sum(own.values()), **{f"import.{name}_ms": own[name] for name in heaviest}}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rounds: list[dict[str, float]] = []
    with run_dir("sj-bench-") as directory, store.running(directory / "redis") as redis:
        store.load(redis, options.jobs, "put")
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        daemon.start()
        try:
            command = (
                program("slurmjc"), "--socket", str(daemon.query_socket), "jobs", "-j", str(FIRST_JOB_ID + 500)
            )  # fmt: skip
            for _ in options.machine.rounds(options.rounds):
                rounds.append({"wall_ms": wall_ms(*command), "python_ms": wall_ms(sys.executable, "-c", "pass")})
            found = [imports(*command) for _ in range(5)]
        finally:
            daemon.stop()
    result = summary(rounds)
    result["import_ms"] = statistics.median(each["import_ms"] for each in found)
    result.update({name: value for name, value in found[-1].items() if name != "import_ms"})
    return result
