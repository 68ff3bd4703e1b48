# SPDX-License-Identifier: MIT
"""slurmjc import of jobcomp/filetxt's log: how fast, and what is there when it was killed on the way.

In turns, each into an empty store beside a running daemon: in one piece; and killed (SIGKILL) after a third and after
two thirds, then run once more. At the end of each every job in the store is compared with the log. The import in one
piece is then made again, which has to find each job there.
"""

from __future__ import annotations

import argparse
import calendar
import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgpack

from bench.pipeline import info, summary, wait_for
from bench.store import PREFIX, WRITE_JOBS, Client
from tests.harness.daemon import Daemon
from tests.harness.paths import program
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import run_dir

_RUN: Final = re.compile(rb"^JobId=(\d+) .* EndTime=(\S+) ", re.MULTILINE)
_JOB_ID, _END = 1, 26  # places in the record, as schema/record.json has them
_PAGE: Final = "10000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="lines in the log")
    parser.add_argument("--rounds", type=int, default=1, help="of each way")


class Site:
    """A Redis and a daemon; the import runs beside them as an administrator's would."""

    def __init__(self, directory: Path, log: Path) -> None:
        self._log, self._directory = log, directory
        self._redis = RedisServer(directory / "redis", options={"appendonly": "yes"})
        self._daemon = Daemon(directory / "jc", redis_address=self._redis.address)
        self._redis.start()
        self._daemon.start()
        self.client = Client(self._redis.socket)

    def start(self) -> subprocess.Popen[str]:
        words = [
            "import",
            str(self._log),
            "--config",
            str(self._daemon.conf),
            "--timezone",
            "UTC",
            "--cluster",
            "cluster",
        ]
        command = [program("slurmjc"), *words, "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=self._directory)

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """What the import says at its end."""
        out, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"slurmjc import ended with {process.returncode}: {out}")
        said: dict[str, Any] = json.loads(out)
        return said

    def taken(self) -> int:
        """Lines that an import has taken so far."""
        marks = info(self.client)[b"watermarks"]
        return max(
            (int(mark) for name, mark in zip(marks[::2], marks[1::2], strict=True) if name[:7] == b"import-"), default=0
        )

    def stop(self) -> None:
        self._daemon.stop()
        self._redis.stop()


def expected(log: Path) -> Counter[tuple[int, int]]:
    """Job id and end of every line, read without any of what is measured."""
    ends: dict[bytes, int] = {}
    found: Counter[tuple[int, int]] = Counter()
    for job_id, end in _RUN.findall(log.read_bytes()):
        if end not in ends:
            ends[end] = calendar.timegm(time.strptime(end.decode(), "%Y-%m-%dT%H:%M:%S"))
        found[int(job_id), ends[end]] += 1
    return found


def runs(client: Client) -> Counter[tuple[int, int]]:
    """Job id and end of every record."""
    found: Counter[tuple[int, int]] = Counter()
    if client.ask("SLURMJC.MATCH", PREFIX, "count", "limit", "1000000000") is not None:
        while page := client.ask("SLURMJC.FETCH", PREFIX, "count", _PAGE, "RECORDS"):
            rows = (msgpack.unpackb(blob, unicode_errors="surrogateescape") for blob in page)
            found.update((row[_JOB_ID], row[_END]) for row in rows)
    return found


def kill_after(site: Site, lines: int) -> int:
    """Run an import until it has taken that many, and kill it; how many it has taken."""
    process = site.start()
    wait_for(lambda: site.taken() >= lines, f"{lines} lines to be taken")
    process.kill()
    process.communicate()
    return site.taken()


def measure_round(directory: Path, log: Path, wanted: Counter[tuple[int, int]], *, kills: int) -> dict[str, float]:
    jobs = wanted.total()
    site = Site(directory, log)
    try:
        begin = time.perf_counter()
        cuts = [kill_after(site, jobs * (number + 1) // (kills + 1)) for number in range(kills)]
        said = site.finish(site.start())
        seconds = time.perf_counter() - begin
        found = runs(site.client)
        result = {
            "jobs_per_s": jobs / seconds,
            "seconds": seconds,
            "missing": (wanted - found).total(),
            "double": (found - wanted).total(),
            **{f"killed_after.{number}": cut for number, cut in enumerate(cuts, 1)},
        }
        if not kills:
            begin = time.perf_counter()
            again = site.finish(site.start())
            result["again_jobs_per_s"] = jobs / (time.perf_counter() - begin)
            result["again_stored"] = again["stored"]
            result["again_already_there"] = again["already_there"]
        else:
            result["stored_after_last_kill"] = said["stored"]
        return result
    finally:
        site.stop()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of an import in one piece, and under `killed` those of one that was killed twice."""
    ways: dict[int, list[dict[str, float]]] = {0: [], 2: []}
    with run_dir("sj-bench-") as directory:
        log = directory / "jobcomp.log"
        with log.open("wb") as file:
            subprocess.run([WRITE_JOBS, str(options.jobs), "filetxt"], stdout=file, check=True)
        wanted = expected(log)
        if wanted.total() != options.jobs:
            raise RuntimeError(f"the log has {wanted.total()} jobs, not {options.jobs}")
        for number in options.machine.rounds(options.rounds):
            for kills, rounds in ways.items():
                rounds.append(measure_round(directory / f"{kills}-{number}", log, wanted, kills=kills))
        size = log.stat().st_size
    return {
        "jobs": options.jobs, "log_mib": size / 2**20, **summary(ways[0]), "killed": summary(ways[2]),
    }  # fmt: skip
