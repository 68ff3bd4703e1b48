# SPDX-License-Identifier: MIT
"""Run the parity rig: `python -m tests.parity`.

Prints a table of question group x (same ids, same columns) and every difference; exit status 1 when one of them is
not among those that docs/sacct.md explains.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import people, report, sandbox
from .cluster import Cluster, logs, wait_for
from .compare import Answer, ask
from .questions import Facts, after_restart, questions
from .sandbox import RigError
from .store import Store
from .workload import Workload

OUTPUT = Path("build/parity")
TOP = Path("/run/parity")  # in the sandbox, which has a /run of its own


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description="sacct -c beside sacct -X")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="logs and the full list of differences (%(default)s)"
    )
    parser.add_argument("--hold", action="store_true", help="leave everything running afterwards, until interrupted")
    options = parser.parse_args()
    sandbox.enter("tests.parity", sys.argv[1:])
    options.output.mkdir(parents=True, exist_ok=True)
    clock = sandbox.Clock()
    sandbox.furnish(TOP, people.USERS)
    cluster = Cluster(TOP, clock, jobcomp_type="jobcomp/redis")
    store = Store(TOP, clock)
    try:
        answers = _run(cluster, store)
        status = report.write(answers, options.output / "differences.txt")
        if options.hold:
            _hold(cluster)
    finally:
        _keep_logs(TOP, options.output)
        cluster.stop()
        store.stop()
    return status


def _hold(cluster: Cluster) -> None:
    print(f"nsenter -a -t <pid of slurmctld> env SLURM_CONF={cluster.top}/slurm.conf sacct -c", file=sys.stderr)
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


def _run(cluster: Cluster, store: Store) -> list[Answer]:
    started = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", file=sys.stderr, flush=True)

    progress("starting everything")
    cluster.install_plugin(store.daemon.run_dir)
    store.start()
    cluster.start_accounting()
    people.introduce(cluster)
    cluster.start_slurm()
    people.reserve(cluster)
    first = int(cluster.clock.now()) - 1
    workload = Workload(cluster)
    workload.submit(progress)
    sandbox.forget_user(cluster.top, "gone")
    settle(cluster, store)
    facts = _facts(cluster, workload, first)
    asked = questions(facts, int(cluster.clock.now()))
    progress(f"{store.jobs()} runs stored, {len(asked)} questions")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda question: ask(cluster, question), asked))
    progress("answered; slurmctld restarts")
    workload.restarted()
    settle(cluster, store)
    answers += [ask(cluster, question) for question in after_restart(facts)]
    progress("answered")
    if cluster.died():
        raise RigError(f"died meanwhile: {', '.join(cluster.died())}")
    return answers


def settle(cluster: Cluster, store: Store) -> None:
    """Wait until both sides have everything: slurmctld tells slurmdbd what changed every 5 seconds."""
    before = ("", -1)

    def unchanged() -> bool:
        nonlocal before
        rows = cluster.try_run(
            "sacct", "-X", "-D", "-n", "-S", "1970-01-02", "-E", "2100-01-01", "-o", "jobidraw,state,eligible,start,end"
        )
        now = (rows.stdout, store.jobs())
        same, before = now == before, now
        return same

    wait_for("slurmdbd and the store to have every job", unchanged, every=6.0)


def _facts(cluster: Cluster, workload: Workload, first: int) -> Facts:
    rows = cluster.try_run(
        "sacct",
        "-X",
        "-n",
        "-P",
        "-S",
        "1970-01-02",
        "-E",
        "2100-01-01",
        "-o",
        "eligible,start,end",
        env={"SLURM_TIME_FORMAT": "%s"},
    )
    moments = sorted({int(word) for line in rows.stdout.split() for word in line.split("|") if word.isdigit()})
    inside = [when for when in moments if first < when < cluster.clock.now()]
    chosen = tuple(inside[len(inside) * part // 6] for part in range(1, 6))
    return Facts(workload.ids, first, cluster.clock.midnight, inside[-1] + 5, chosen)


def _keep_logs(top: Path, output: Path) -> None:
    for log in logs(top):
        shutil.copy(log, output)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
