# SPDX-License-Identifier: MIT
"""sacct -c as people type it, whole process: our plugin, and Debian's filetxt over the same jobs.

The floor is what sacct itself needs to print rows that it has been handed: a plugin around ours notes when it hands
them over, and the floor runs from there to sacct's end.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import store
from bench.pipeline import summary
from bench.store import DAY_START, FIRST_JOB_ID, WRITE_JOBS
from tests.harness.daemon import Daemon
from tests.harness.paths import CMAKE_BUILD, PLUGIN
from tests.harness.rundir import run_dir
from tests.harness.slurm_conf import SlurmOptions, slurm_conf, slurm_plugin_dir

FLOOR = CMAKE_BUILD / "bench" / "jobcomp_floor.so"
FIRST_UID = 20_000
_CLONE_NEWNS = 0x20000
DAY = ("-S", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(DAY_START)),
       "-E", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(DAY_START + 86_400)))  # fmt: skip
WEEK = ("-S", "2026-01-01", "-E", "2027-01-01")
FORMAT = ("-n", "-P", "-o", "jobid,uid,jobname,partition,account,ncpus,state,exitcode,start,end,nodelist")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="jobs to ask about")
    parser.add_argument("--rounds", type=int, default=5, help="each question so often; everything a third of that")
    parser.add_argument("--no-filetxt", action="store_true", help="leave the peer out, which takes seconds a question")


class Site:
    """A slurm.conf of its own and sacct under it."""

    def __init__(self, directory: Path, plugin: Path | None, kind: str, location: str) -> None:
        (directory / "plugins").mkdir(parents=True)
        if plugin is not None:
            os.symlink(plugin, directory / "plugins" / plugin.name)
        options = SlurmOptions(cluster="cluster", job_comp_type=kind, job_comp_loc=location)
        self.conf = directory / "slurm.conf"
        self.conf.write_text(slurm_conf(directory, directory / "munge.sock", [1, 2, 3], options))

    def sacct(self, *words: str, env: dict[str, str] | None = None) -> tuple[int, float, str]:
        """Lines printed, seconds, and what came on stderr."""
        begin = time.perf_counter()
        done = subprocess.run(
            ["sacct", "-c", "-a", *FORMAT, *words],
            env={**os.environ, "SLURM_CONF": str(self.conf), "TZ": "UTC", **(env or {})},
            capture_output=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
        if done.returncode != 0:
            raise RuntimeError(f"sacct {' '.join(words)}: {done.stderr.decode().strip() or done.returncode}")
        return done.stdout.count(b"\n"), seconds, done.stderr.decode()


def questions(jobs: int) -> dict[str, tuple[str, ...]]:
    return {
        "user_ms": ("-u", "user007", *DAY),
        "id_ms": ("-j", str(FIRST_JOB_ID + jobs // 2 + 50)),
        "failed_day_ms": ("-s", "F", *DAY),
    }


def know_users() -> None:
    """Make sacct know the reference users, in a mount namespace of ours: it takes no user the system doesn't know.

    Raises:
        PermissionError: only root may.
    """
    passwd = Path("/etc/passwd").read_text() + "".join(
        f"user{number:03}:x:{FIRST_UID + number}:65534::/:/bin/false\n" for number in range(500)
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise PermissionError(ctypes.get_errno(), "unshare")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(passwd)
        file.flush()
        Path(file.name).chmod(0o644)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "--bind", file.name, "/etc/passwd"], check=True)


def ask(site: Site, words: tuple[str, ...], rounds: int) -> tuple[int, float]:
    """Rows, and the median of its milliseconds."""
    times = [site.sacct(*words) for _ in range(rounds)]
    return times[0][0], statistics.median(seconds for _, seconds, _ in times) * 1000


def floor_s(site: Site) -> tuple[int, float]:
    """Rows, and the seconds from their handing over to sacct's end."""
    rows, seconds, said = site.sacct(*WEEK, env={"JOBCOMP_FLOOR_PLUGIN": str(PLUGIN)})
    ended = time.perf_counter()
    handed = float(said.split("handed over at ")[1].split()[0])
    return rows, min(ended - handed, seconds)


def everything(ours: Site, floor: Site, rounds: int, jobs: int) -> dict[str, Any]:
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        rows, seconds, _ = ours.sacct(*WEEK)
        floor_rows, alone = floor_s(floor)
        if rows != jobs or floor_rows != jobs:
            raise RuntimeError(f"sacct printed {rows} and {floor_rows} of {jobs} jobs")
        found.append({"everything_s": seconds, "floor_s": alone, "everything_over_floor": seconds / alone})
    return summary(found)


def measure_filetxt(directory: Path, jobs: int, rounds: int) -> dict[str, Any]:
    """The same user and day from jobcomp/filetxt, which reads its whole file and takes neither: all jobs come back."""
    file = directory / "jobcomp.txt"
    directory.mkdir()
    with file.open("wb") as out:
        subprocess.run([str(WRITE_JOBS), str(jobs), "filetxt"], stdout=out, check=True)
    site = Site(directory / "slurm", None, "jobcomp/filetxt", str(file))
    asked = questions(jobs)
    found: dict[str, Any] = {}
    for name in ("user_ms", "id_ms"):
        found[f"filetxt_{name.removesuffix('_ms')}_rows"], found[f"filetxt_{name}"] = ask(site, asked[name], rounds)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians; rows beside each, so that nobody is fast by printing nothing."""
    left_out = ["mysql (no benchmark of it yet)"]
    asked = questions(options.jobs)
    try:
        know_users()
    except (PermissionError, subprocess.CalledProcessError):
        left_out.append("user_ms (only root can make reference users known to sacct)")
        del asked["user_ms"]
    result: dict[str, Any] = {"jobs": options.jobs}
    with run_dir("sj-bench-") as directory, store.running(directory / "redis") as redis:
        store.load(redis, options.jobs, "put")
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        daemon.start()
        try:
            ours = Site(directory / "ours", PLUGIN, "jobcomp/redis", str(daemon.run_dir))
            floor = Site(directory / "floor", FLOOR, "jobcomp/floor", str(daemon.run_dir))
            for name, words in asked.items():
                result[f"{name.removesuffix('_ms')}_rows"], result[name] = ask(ours, words, options.rounds * 3)
            result.update(everything(ours, floor, max(1, options.rounds // 2), options.jobs))
            # the largest of all children: sacct with every job in its memory
            result["peak_mib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        finally:
            daemon.stop()
        if options.no_filetxt or not (slurm_plugin_dir() / "jobcomp_filetxt.so").exists():
            left_out.append("filetxt (not installed or not wanted)")
        elif "user_ms" in asked:
            result.update(measure_filetxt(directory / "filetxt", options.jobs, max(1, options.rounds // 2)))
    result["left_out"] = "; ".join(left_out)
    return result
