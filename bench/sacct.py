# SPDX-License-Identifier: MIT
"""sacct -c as people type it, whole process: our plugin, and Debian's filetxt and mysql over the same jobs.

The floor is what sacct itself needs to print rows that it has been handed: a plugin around ours notes when it hands
them over, and the floor runs from there to sacct's end. A peer's floor is the same for the rows of that peer's plugin.
`blank_ms` is sacct with a question that has no answer: its own start, our plugin and one round trip.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import time
from contextlib import ExitStack
from typing import Any, Final

from bench import sacct_peers, store
from bench.pipeline import summary
from bench.sacct_site import Asked, Site, know_users
from bench.store import DAY_START, FIRST_JOB_ID
from tests.harness.daemon import Daemon
from tests.harness.paths import PLUGIN
from tests.harness.rundir import run_dir

DAY: Final = ("-S", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(DAY_START)),
              "-E", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(DAY_START + 86_400)))  # fmt: skip
WEEK: Final = ("-S", "2026-01-01", "-E", "2027-01-01")
_OFTEN: Final = 5  # short questions a round


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="jobs to ask about")
    parser.add_argument("--rounds", type=int, default=3, help="everybody in turn; short questions 5 times each")
    parser.add_argument("--no-peers", action="store_true", help="leave out the peers, which take seconds a question")


def questions(jobs: int) -> dict[str, tuple[str, ...]]:
    return {
        "blank": ("-j", "1"),
        "id": ("-j", str(FIRST_JOB_ID + jobs // 2 + 50)),
        "user": ("-u", "user007", *DAY),
        "failed_day": ("-s", "F", *DAY),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians; rows beside each, so that nobody is fast by printing nothing."""
    left_out = {name: "not wanted" for name in sacct_peers.NAMES if options.no_peers}
    asked = questions(options.jobs)
    try:
        know_users()
    except (PermissionError, subprocess.CalledProcessError):
        left_out["user_ms"] = "only root can make the reference users known to sacct"
        del asked["user"]
    with ExitStack() as stack:
        directory = stack.enter_context(run_dir("sj-bench-"))
        redis = stack.enter_context(store.running(directory / "redis"))
        store.load(redis, options.jobs, "put")
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        daemon.start()
        stack.callback(daemon.stop)
        ours = Site(directory / "ours", PLUGIN, "jobcomp/redis", str(daemon.run_dir))
        floor = Site(directory / "floor", PLUGIN, "jobcomp/redis", str(daemon.run_dir), floor=True)
        before = measure_round(ours, floor, asked, options.jobs)  # not counted: everything is read for the first time
        # the largest of all children so far: sacct with every job in its memory
        peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        peers: dict[str, Site] = {}
        for name in sacct_peers.NAMES:
            if name not in left_out and (why := sacct_peers.missing(name)):
                left_out[name] = why
            if name not in left_out:
                peers[name] = stack.enter_context(sacct_peers.running(name, directory / name, options.jobs))
        rounds = []
        for _ in options.machine.rounds(options.rounds):
            found = measure_round(ours, floor, asked, options.jobs)
            for name, site in peers.items():
                found.update(measure_peer(name, site, asked))
                found[f"everything_over_{name}_floor"] = found["everything_s"] / found[f"{name}_floor_s"]
            rounds.append(found)
    result: dict[str, Any] = {"jobs": options.jobs, **summary(rounds), "peak_mib": peak_mib}
    result["first.everything_s"] = before["everything_s"]
    result["left_out"] = "; ".join(f"{name} ({why})" for name, why in left_out.items()) or "nothing"
    return result


def measure_round(ours: Site, floor: Site, asked: dict[str, tuple[str, ...]], jobs: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, words in asked.items():
        runs = [ours.sacct(*words) for _ in range(_OFTEN)]
        found[f"{name}_ms"] = statistics.median(run.seconds for run in runs) * 1000
        found[f"{name}_rows"] = runs[0].rows
    whole = ours.sacct(*WEEK)
    alone = floor.sacct(*WEEK)
    if whole.rows != jobs or alone.rows != jobs:
        raise RuntimeError(f"sacct printed {whole.rows} and {alone.rows} of {jobs} jobs")
    floor_s = printing_s(alone)
    found |= {
        "everything_s": whole.seconds,
        "everything_cpu_s": whole.cpu_s,
        "floor_s": floor_s,
        "everything_over_floor": whole.seconds / floor_s,
    }
    return found


def printing_s(run: Asked) -> float:
    if run.printing_s is None:
        raise RuntimeError("the plugin around the plugin said nothing")
    return run.printing_s


def measure_peer(name: str, site: Site, asked: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """The same questions. The peers know `-j` and partitions only: to all others they answer with every job."""
    found: dict[str, float] = {}
    for question in ("id", "user"):
        if question in asked:
            run = site.sacct(*asked[question])
            found[f"{name}_{question}_ms"] = run.seconds * 1000
            found[f"{name}_{question}_rows"] = run.rows
    run = site.sacct(*WEEK)
    found |= {f"{name}_everything_s": run.seconds, f"{name}_floor_s": printing_s(run)}
    return found
