# SPDX-License-Identifier: MIT
"""Run it: `python -m tests.federation`. Prints what was seen; exit status 1 when one of it is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from slurmjcd import record
from slurmjcd.slurm.states import NUMBERS, state_name
from tests.accounting.__main__ import Today
from tests.harness import SlurmCluster
from tests.harness.paths import program
from tests.harness.slurm_conf import SlurmOptions
from tests.parity import people, sandbox
from tests.parity.cluster import Cluster, logs, wait_for
from tests.parity.store import Store

OUTPUT = Path("build/federation")
TOP = Path("/run/federation")
MUNGE = Path("/run/munge/munge.socket.2")
NAMES = ("east", "west")
ORIGIN_BIT = 26  # a job id has its cluster's number from here on: FED_MGR_CLUSTER_ID_BEGIN of Slurm's fed_mgr.c
SINCE = ("-S", "now-1hour")
Run = tuple[str, str, str]  # cluster, job id, state


class Federation:
    """Two clusters that share their jobs, and what to ask them."""

    def __init__(self) -> None:
        clock = Today()
        self.accounting, self.store = Cluster(TOP, clock), Store(TOP, clock)
        self.clusters: dict[str, SlurmCluster] = {}
        self.wrong = 0

    def start(self) -> None:
        """A cluster that joins has to be up: slurmdbd tells its siblings where it is, and which release."""
        sacctmgr = ("sacctmgr", "-i", "add")
        self.accounting.start_accounting()
        self.store.start()
        for name in NAMES:
            self.accounting.run(*sacctmgr, "cluster", name)
        extra = {"AccountingStorageType": "accounting_storage/slurmdbd", "AccountingStorageHost": "localhost"}
        for name in NAMES:
            options = SlurmOptions(cluster=name, nodes=1, job_comp_loc=str(self.store.daemon.run_dir), extra=extra)
            self.clusters[name] = SlurmCluster(TOP / name, MUNGE, options)
            self.clusters[name].start()
        self.accounting.run(*sacctmgr, "federation", "both", f"clusters={','.join(NAMES)}")
        wait_for("the clusters to see each other", lambda: all(map(_joined, self.clusters.values())))

    def stop(self) -> None:
        for cluster in self.clusters.values():
            cluster.stop()
        self.accounting.stop()
        self.store.stop()

    def expect(self, what: str, got: Any, wanted: Any) -> None:
        """Say whether it is so."""
        good = got == wanted
        self.wrong += not good
        more = "" if good else f": {got!r} instead of {wanted!r}"
        print(f"{'ok' if good else 'WRONG':<6} {what}{more}", flush=True)

    def sacct(self, *words: str, at: str = "east") -> list[Run]:
        shown = self.clusters[at].run("sacct", "-n", "-P", "-o", "cluster,jobidraw,state", *words)
        return sorted(_run(*line.split("|")) for line in shown.splitlines())

    def slurmjc(self, *words: str) -> list[Run]:
        env = os.environ | {"SLURMJC_SOCKET": str(self.store.daemon.query_socket), "TZ": "UTC"}
        command = [program("slurmjc"), "jobs", "-a", "--json", *SINCE, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=60)
        return sorted(_run(job["cluster"], job["job_id"], job["state"]) for job in json.loads(done.stdout)["jobs"])

    def stored(self) -> list[dict[str, Any]]:
        """Every record there is."""
        with self.store.redis.client() as client:
            if client.execute_command("SLURMJC.MATCH", "job", "all", "limit", 1_000_000) is None:
                return []
            page = client.execute_command("SLURMJC.FETCH", "job", "all", 10_000, "RECORDS")
        return [record.decode(blob) for blob in page]

    def at_work(self) -> set[int]:
        """Ids of jobs that go on somewhere."""
        shown = (each.run("squeue", "--local", "-h", "-o", "%A") for each in self.clusters.values())
        return {int(word) for words in shown for word in words.split()}


def _run(cluster: str, job_id: object, state: str) -> Run:
    return cluster, str(job_id), state.partition(" by ")[0]


def _joined(cluster: SlurmCluster) -> bool:
    return cluster.run("scontrol", "show", "federation").count("PersistConnSend/Recv:Yes/Yes") == len(NAMES) - 1


def submit(fed: Federation) -> dict[str, int]:
    """Jobs for both clusters, from each; for one; an array; and one that is cancelled while it waits on both."""
    east, west = fed.clusters["east"], fed.clusters["west"]
    ids = {f"both{number}": east.sbatch("sleep 1") for number in range(6)}
    ids["from_west"] = west.sbatch("exit 3")
    ids["sent_west"] = east.sbatch("true", "-M", "west")
    ids["array"] = east.sbatch("true", "-a", "1-3")
    ids["cancelled"] = east.sbatch("true", "--begin=now+1hour")
    wait_for("all but one job to end", lambda: fed.at_work() == {ids["cancelled"]})
    east.run("scancel", str(ids["cancelled"]))
    wait_for("all jobs to end", lambda: not fed.at_work())
    return ids


def both_sides_agree(fed: Federation, ids: dict[str, int]) -> None:
    """Asked for the same, slurmdbd and the store have the same siblings."""
    for words in ((), ("-M", "east,west"), ("-L",)):
        for more in ((), ("-D",)):
            asked = (*SINCE, *words, *more)
            wait_for("slurmdbd to have it all", lambda a=asked: fed.sacct("-X", *a) == fed.sacct("-c", *a), seconds=20)  # type: ignore[misc]
            fed.expect(f"sacct -c {' '.join(asked[2:])} is sacct -X", fed.sacct("-c", *asked), fed.sacct("-X", *asked))
    own = fed.sacct("-c", *SINCE)
    fed.expect("--federation does nothing with -c, in sacct itself", fed.sacct("-c", "--federation", *SINCE), own)
    one = str(ids["both0"])
    asked = ("-j", one, "-M", "east,west", "-D")
    fed.expect("sacct -c -j of one sibling's id has both", fed.sacct("-c", *asked), fed.sacct("-X", *asked))


def each_sibling_once(fed: Federation, ids: dict[str, int]) -> None:
    """One record a cluster, and one of all that ran."""
    stored = fed.stored()
    per_cluster = Counter((job["cluster"], job["job_id"]) for job in stored)
    fed.expect("each sibling is stored once a cluster", {key for key, count in per_cluster.items() if count > 1}, set())
    for label in ("both0", "both5", "from_west"):
        states = sorted(
            state_name(job["state"], job["extra"].get("state_flags")) for job in stored if job["job_id"] == ids[label]
        )
        fed.expect(
            f"of {label} one ran and one was revoked",
            states,
            sorted(["FAILED" if label == "from_west" else "COMPLETED", "REVOKED"]),
        )
    revoked = [job for job in stored if (job["extra"].get("state_flags") or 0) & NUMBERS["REVOKED"]]
    fed.expect("some were revoked", len(revoked) >= 8, True)  # both0 to both5, from_west, cancelled
    fed.expect(
        "a revoked one never started and has no node", {(job["start"], job["nodes"]) for job in revoked}, {(0, None)}
    )
    for words in (("-D",), ()):
        # the window of sacct hides what never became eligible, that of slurmjc doesn't
        shown = [run for run in fed.slurmjc(*words) if run[1] != str(ids["cancelled"])]
        fed.expect(
            f"slurmjc jobs {' '.join(words)} has what sacct -c has", shown, fed.sacct("-c", *SINCE, "-L", *words)
        )
    fed.expect("one sibling was cancelled", [run[2] for run in fed.slurmjc("-j", str(ids["cancelled"]))], ["CANCELLED"])


def ids_with_the_cluster_in_them(fed: Federation, ids: dict[str, int]) -> None:
    origins = {label: ids[label] >> ORIGIN_BIT for label in ("both0", "from_west", "sent_west")}
    fed.expect(
        "ids have the number of the cluster where it was submitted",
        origins,
        {"both0": 1, "from_west": 2, "sent_west": 2},
    )
    for label in ("both0", "from_west"):
        ran = [run for run in fed.sacct("-c", "-L", "-j", str(ids[label])) if run[1] == str(ids[label])]
        fed.expect(f"sacct -c -j {ids[label]} finds the one that ran", len(ran), 1)


def main() -> int:
    sandbox.enter("tests.federation", sys.argv[1:])
    OUTPUT.mkdir(parents=True, exist_ok=True)
    sandbox.furnish(TOP, people.USERS)
    fed = Federation()
    try:
        fed.start()
        ids = submit(fed)
        both_sides_agree(fed, ids)
        each_sibling_once(fed, ids)
        ids_with_the_cluster_in_them(fed, ids)
    finally:
        for log in [*logs(TOP), *logs(TOP / "east"), *logs(TOP / "west")]:
            shutil.copy(log, OUTPUT / f"{log.parent.name}.{log.name}")
        fed.stop()
    return 1 if fed.wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except sandbox.RigError as problem:
        sys.exit(f"error: {problem}")
