# SPDX-License-Identifier: MIT
"""slurmjc export in each of its formats, and slurmjc verify: how long for all jobs, and how much memory.

Each is a process of its own beside a running daemon; memory is the most that it had resident (VmHWM in proc(5)).
What export writes is counted, not kept. verify compares the store with jobcomp/filetxt's log of the same jobs, which it
first reads; nothing is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench import store
from bench.pipeline import summary
from bench.store import PREFIX, WRITE_JOBS
from tests.harness.daemon import Daemon
from tests.harness.rundir import run_dir

FORMATS: Final = ("ndjson", "csv", "xdmod", "parquet")

_PROGRAM: Final = """
import atexit, pathlib, sys
from slurmjcd.client.main import main
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print(*[line for line in status.read_text().splitlines() if "VmHWM" in line], file=sys.stderr))
main()
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="jobs in the store")
    parser.add_argument("--rounds", type=int, default=1)


def run(argv: list[str], output: Path) -> dict[str, float]:
    """Seconds, MiB and bytes that slurmjc took, had and wrote; it has to end with 0."""
    begin = time.perf_counter()
    with output.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM, *argv], stdout=out, stderr=subprocess.PIPE)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}: {said}")
    return {
        "s": time.perf_counter() - begin,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "resident_mib": int(said.splitlines()[-1].split()[1]) / 1024,
        "bytes": output.stat().st_size,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in (*FORMATS, "verify")}
    with run_dir("sj-bench-") as directory, store.running(directory / "redis") as redis:
        store.load(redis, options.jobs, "put")
        log, output = directory / "log", directory / "out"
        with log.open("wb") as out:
            subprocess.run([str(WRITE_JOBS), str(options.jobs), "filetxt", PREFIX, "1", "0"], stdout=out, check=True)
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        daemon.start()
        try:
            slurmjc = ["--socket", str(daemon.query_socket)]
            for _ in options.machine.rounds(options.rounds):
                for form in FORMATS:
                    found = run([*slurmjc, "export", "-a", "-S", "1970-01-02", "-f", form], output)
                    rounds[form].append(found | {"bytes_per_job": found.pop("bytes") / options.jobs})
                words = ["verify", "--against", str(log), "--cluster", "cluster", "--timezone", "UTC", "--json"]
                rounds["verify"].append(run([*slurmjc, *words], output))
                _check(json.loads(output.read_text()), options.jobs)
        finally:
            daemon.stop()
    return {"jobs": options.jobs, **{name: summary(each) for name, each in rounds.items()}}


def _check(said: dict[str, Any], jobs: int) -> None:
    there = sum(hour["there"] for hour in said["hours"])
    if (there, said["meta"]["missing"], said["meta"]["only_in_store"]) != (jobs, 0, 0):
        raise RuntimeError(f"verify says of {jobs} jobs: {there} in the log, {said['meta']}")
