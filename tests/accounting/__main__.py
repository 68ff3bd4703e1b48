# SPDX-License-Identifier: MIT
"""Run it: `python -m tests.accounting`. Prints what was seen; exit status 1 when one of it is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from slurmjcd.exporting.xdmod import FORMAT
from slurmjcd.importing.sacct import RECOMMENDED
from tests.harness.paths import program
from tests.parity import people, sandbox
from tests.parity.__main__ import settle
from tests.parity.cluster import CLUSTER, Cluster, logs, wait_for
from tests.parity.people import BOB
from tests.parity.store import Store
from tests.parity.workload import Workload

OUTPUT = Path("build/accounting")
TOP = Path("/run/accounting")
# of the workload's jobs those that wait until they are cancelled
_STUCK = (
    "cancel_held", "cancel_begin", "cancel_pending", "cancel_pending_two", "dep_never", "array_pending", "array_held",
    "het_cancelled",
)  # fmt: skip
SINCE = ("-S", "now-1hour", "-E", "tomorrow")


class Today(sandbox.Clock):
    """The machine's own time: nothing here depends on midnight."""

    def __init__(self) -> None:
        self.offset = 0

    def running(self) -> dict[str, str]:
        return {}


class Rig:
    """Cluster, store, and what to ask them."""

    def __init__(self) -> None:
        clock = Today()
        self.cluster, self.store = Cluster(TOP, clock), Store(TOP, clock)
        self.work = Workload(self.cluster)
        self.wrong = 0

    def expect(self, what: str, got: Any, wanted: Any) -> None:
        """Say whether it is so."""
        good = got == wanted
        self.wrong += not good
        print(
            f"{'ok' if good else 'WRONG':<6} {what}" + ("" if good else f": {got!r} instead of {wanted!r}"), flush=True
        )

    def slurmjc(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | self.cluster.env() | {"SLURMJC_SOCKET": str(self.store.daemon.query_socket)}
        return subprocess.run(
            [program("slurmjc"), *words], capture_output=True, text=True, env=env, cwd=TOP, timeout=120, check=False
        )

    def verify(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit status and document; {} when there is none."""
        done = self.slurmjc("verify", "--config", str(self.store.daemon.conf), "--json", *words)
        sys.stderr.write(done.stderr)
        return done.returncode, json.loads(done.stdout or "{}")

    def all_ended(self) -> None:
        left: list[str] = []

        def none_left() -> bool:
            left[:] = self.work.unfinished_jobs()
            return not left

        try:
            wait_for("all jobs to end", none_left, seconds=150, every=0.5)
        except sandbox.RigError as exc:
            raise sandbox.RigError(f"{exc}: {', '.join(left)}") from exc


def before(rig: Rig) -> list[int]:
    """Jobs of the time without slurmjcd; their ids."""
    ids = [rig.work.sbatch(f"before{number}", "-J", f"a|b {number}", user=BOB) for number in range(3)]
    rig.all_ended()
    return ids


def install(rig: Rig) -> None:
    """slurmjcd comes."""
    rig.store.start()
    rig.cluster.install_plugin(rig.store.daemon.run_dir)
    rig.cluster.jobcomp_type = "jobcomp/redis"
    rig.cluster.configure()
    rig.cluster.restart_slurmctld()


def after(rig: Rig) -> None:
    """Jobs of many fates, which both sides hear of."""
    work = rig.work
    people.reserve(rig.cluster)
    work.plain()
    work.heterogeneous()
    work.arrays()
    work.cancelled()
    work.changed()
    work.known_to_slurmdbd("requeued", "resized", state="RUNNING")
    work.scontrol("requeue", str(work.ids["requeued"]))
    work.scontrol("update", f"JobId={work.ids['resized']}", "NumNodes=2")
    work.scancel("-f", "-s", "USR1", str(work.ids["resized"]))
    for label in _STUCK:
        work.scancel(str(work.ids[label]))
    rig.all_ended()
    settle(rig.cluster, rig.store)


def verified(rig: Rig, ids: list[int]) -> None:
    """The holes are found in every way, mended, and gone."""
    wanted = sorted(str(number) for number in ids)
    status, found = rig.verify(*SINCE)
    rig.expect("verify finds what ended before the installation", (status, _ids(found)), (1, wanted))
    rig.expect("and counts it by the hour", sum(hour["missing"] for hour in found["hours"]), len(ids))
    saved = TOP / "saved"
    options = ("-aXDP", "--delimiter=\x1f", *SINCE, "-o", RECOMMENDED)
    saved.write_text(rig.cluster.try_run("sacct", *options).stdout)
    status, found = rig.verify("--against", str(saved), "--timezone", "UTC", "--cluster", CLUSTER)
    rig.expect("and in a file that sacct wrote", (status, _ids(found)), (1, wanted))
    status, found = rig.verify(*SINCE, "--backfill")
    rig.expect("--backfill brings it in", (status, _ids(found), found["meta"]["mended"]), (0, wanted, len(ids)))
    status, found = rig.verify(*SINCE)
    rig.expect("then nothing is missing", (status, _ids(found)), (0, []))
    rig.expect("and nothing is there twice", found["meta"]["only_in_store"], 0)
    shown = rig.slurmjc("jobs", "-a", "-nPo", "jobid,jobname,state", "-j", str(ids[0])).stdout
    rig.expect("the job is as slurmdbd has it", shown, f"{ids[0]}|a\\x7cb 0|COMPLETED\n")


def _ids(found: dict[str, Any]) -> list[str]:
    return sorted(hole["id"] for hole in found["missing"])


def exported(rig: Rig) -> None:
    """Open XDMoD's lines are those that sacct prints, field by field."""
    command = ("--allusers", "--parsable2", "--noheader", "--allocations", "--duplicates", "--format", FORMAT)
    wanted = rig.cluster.run("sacct", "-M", CLUSTER, *command, *SINCE).splitlines()
    ours = rig.slurmjc("export", "-a", "-S", "now-1hour", "-f", "xdmod").stdout.splitlines()
    by_run = {_key(row): row for row in map(_row, wanted)}
    differences = [
        (row["jobid"], name, value, theirs.get(name))
        for row in map(_row, ours)
        for theirs in [by_run.get(_key(row), {})]
        for name, value in row.items()
        if theirs.get(name) != value
        and not _explained(name, value, theirs, never_ran=row["nodelist"] == "None assigned")
    ]
    rig.expect("there are lines to compare", len(ours) > 50, True)
    rig.expect(f"XDMoD's {len(ours)} lines are sacct's, but for what docs/export.md explains", differences, [])


def _key(row: dict[str, str]) -> tuple[str, ...]:
    """Tells runs apart, also the parts of a job that was resized twice in a second."""
    return row["jobidraw"], row["end"], row["nnodes"]


def _row(line: str) -> dict[str, str]:
    names = FORMAT.split(",")
    return dict(zip(names, line.split("|", len(names) - 1), strict=True))


def _explained(name: str, ours: str, theirs: dict[str, str], *, never_ran: bool) -> bool:
    """Differences that docs/export.md names, and what slurmdbd lost or keeps in another form."""
    if not theirs:  # sacct's window hides what never became eligible, and the shredder leaves it out
        return never_ran
    known = {
        "exitcode": int(ours.partition(":")[0] or 0) - 128 == int(theirs["exitcode"].partition(":")[0] or 0)
        if name == "exitcode"
        else False,
        "start": theirs["start"] == theirs["end"] and ours == "None",  # cancelled at once
        "submit": theirs["submit"] > ours,  # a part of a resized job
        "state": (ours, theirs["state"]) == ("FAILED", "REQUEUED"),  # by RequeueExit
        "jobid": "[" in theirs["jobid"],  # what was left of a waiting array
    }
    # a job that slurmdbd heard of only at its end has no user and no limit there
    return known.get(name, False) or (name in ("user", "uid", "timelimit") and theirs[name] == "")


def without_slurmdbd(rig: Rig) -> None:
    """slurmdbd away is no hole."""
    rig.cluster.kill("slurmdbd")
    done = rig.slurmjc("verify", "--config", str(rig.store.daemon.conf), *SINCE)
    rig.expect("slurmdbd away: exit status", done.returncode, 3)
    rig.expect("and one line that says so", done.stderr.startswith("slurmjc: sacct gave no answer"), True)


def main() -> int:
    sandbox.enter("tests.accounting", sys.argv[1:])
    OUTPUT.mkdir(parents=True, exist_ok=True)
    sandbox.furnish(TOP, people.USERS)
    rig = Rig()
    try:
        rig.cluster.start_accounting()
        people.introduce(rig.cluster)
        rig.cluster.start_slurm()
        ids = before(rig)
        install(rig)
        after(rig)
        verified(rig, ids)
        exported(rig)
        without_slurmdbd(rig)
    finally:
        for log in logs(TOP):
            shutil.copy(log, OUTPUT)
        rig.cluster.stop()
        rig.store.stop()
    return 1 if rig.wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except sandbox.RigError as problem:
        sys.exit(f"error: {problem}")
