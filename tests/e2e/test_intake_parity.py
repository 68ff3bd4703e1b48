# SPDX-License-Identifier: MIT
"""The same jobs on two clusters, one with our plugin and one with Slurm's jobcomp/elasticsearch: the same records.

Both slurmctlds number their jobs from 1, so a job that is submitted in the same turn has the same id in both.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.harness import Munge, SlurmCluster, run_dir
from tests.harness.fates import requeue_once
from tests.harness.ports import free_ports
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import Stack, running_stack
from tests.harness.waiting import wait_until

OURS: Final = "plugin"
STOCK: Final = "Stock"  # slurmctld writes a cluster's name in lower case, JobCompLoc here has it as slurm.conf
NAMELESS: Final = "54321"  # a uid and a gid that nobody gave a name
FOREIGN_NAME: Final = b'a "b" \\c/ \x07 \xc3\xa9 \xff'.decode(errors="surrogateescape")

# what that plugin does not post (22.05 leaves out more than later releases)
NEVER_POSTED: Final = {
    "priority", "features", "qos_id", "state_reason", "state_reason_prev", "state_desc", "submit_line", "comment",
    "licenses", "failed_node", "restart_count", "cancelled_by", "suspended",
}  # fmt: skip
# ... and what it posts otherwise
DIFFERENT: Final = {
    "no such directory": {"exit_code"},  # Slurm's own number, of which a signal is posted
    "two partitions": {"partition"},  # 22.05: all that would have done
    "dependency never satisfied": {"time_limit"},  # the partition's, for a job that asked for none and never ran
    "cancelled before it was eligible": {"time_limit"},
    "held": {"time_limit"},
    "held array": {"time_limit", "array_job_id"},  # no task of it was posted
}
TIMES: Final = ("submit", "eligible", "start", "end", "orig_start")  # these differ by when a scheduler had its turn


def by_themselves(cluster: SlurmCluster) -> dict[str, int]:
    """Jobs that end without help; returns ids by label."""
    sbatch = cluster.sbatch
    ids = {
        "completed": sbatch("true", "-t5", "-J", "fine"),
        "exit code": sbatch("exit 3", "-t5"),
        "signal": sbatch("kill -USR1 $$", "-t5"),
        "hangup": sbatch("kill -HUP $$", "-t5"),
        "exit code of a step": sbatch("srun sh -c 'exit 7'; sleep 1", "-t5"),
        "signal of a step": sbatch("srun sh -c 'kill -9 $$'; sleep 1", "-t5"),
        "no such directory": sbatch("true", "-t5", "-o", "/nowhere/at/all"),
        "unlimited": sbatch("true", "-t", "UNLIMITED"),
        "limit": sbatch("true", "-t", "90"),
        "limit of the partition": sbatch("true", "-p", "short"),
        "two partitions": sbatch("true", "-t5", "-p", "short,main"),
        "tasks": sbatch("true", "-t5", "-N2", "-n4", "-c2", "--ntasks-per-node=2"),
        "much asked for": sbatch("true", "-t5", "-C", "fast", "-A", "lab", "--wckey=w", "--comment=why", "-x", "n2"),
        "foreign name": sbatch("true", "-t5", "-J", FOREIGN_NAME, "-i", "/dev/null", "-e", "/dev/null"),
        "array": sbatch("exit $SLURM_ARRAY_TASK_ID", "-t5", "-a", "0-1%1"),
        "heterogeneous": int(cluster.run("sbatch", "-t5", "--parsable", "-n1", "--wrap", "true", ":", "-n1")),
    }
    ids["dependent"] = sbatch("true", "-t5", f"--dependency=afterany:{ids['completed']}")
    never = f"--dependency=afterok:{ids['exit code']}"
    ids["dependency never satisfied"] = sbatch("true", never, "--kill-on-invalid-dep=yes")
    cluster.wait_ended(ids.values())
    return ids


def _sbatch_nameless(cluster: SlurmCluster) -> int:
    who = ("setpriv", f"--reuid={NAMELESS}", f"--regid={NAMELESS}", "--clear-groups")
    return int(cluster.run(*who, "sbatch", "-H", "-t5", "--parsable", "--wrap", "true"))


def with_help(cluster: SlurmCluster) -> dict[str, int]:
    """Jobs that somebody does something to."""
    sbatch = cluster.sbatch
    ids = {
        "cancelled before it was eligible": sbatch("true", "--begin=now+1hour"),
        "held": sbatch("true", "-H"),
        "held array": sbatch("true", "-H", "-a", "1-3"),
        "user without a name": _sbatch_nameless(cluster),  # slurmd could not run it
        "cancelled": sbatch("sleep 300", "-t5"),
        "suspended": sbatch("sleep 300", "-t5"),
        "too long": sbatch("sleep 300", "-t1"),
        "requeued": sbatch('[ -n "$SLURM_RESTART_COUNT" ] || sleep 300', "-t5", "--requeue"),
    }
    for label in ("cancelled", "suspended", "too long"):
        cluster.wait_state(ids[label], "RUNNING")
    cluster.run("scontrol", "suspend", str(ids["suspended"]))
    requeue_once(cluster, ids["requeued"])
    cluster.run("scontrol", "resume", str(ids["suspended"]))
    cluster.run("scontrol", "update", f"JobId={ids['too long']}", "EndTime=now+1")
    for label in ids.keys() - {"requeued", "too long"}:
        cluster.run("scancel", str(ids[label]))
    cluster.wait_ended(ids.values())
    return ids


@dataclass(frozen=True)
class Site:
    """Both clusters, what ended in them, by label, and the records."""

    stack: Stack
    ids: dict[str, int]

    def runs(self, cluster: str, label: str) -> list[dict[str, Any]]:
        """Of a job, with an array's tasks and a het job's parts, which have the ids before or behind it."""
        found = [run for job_id in range(1, 100) for run in self.stack.runs(job_id)]
        mine = [run for run in found if run["cluster"] == cluster.lower()]
        job_id = self.ids[label]
        whole = [run for run in mine if job_id in (run["job_id"], run.get("array_job_id"), run.get("het_job_id"))]
        return sorted(whole, key=lambda run: (run["job_id"], run["end"], run["submit"]))


@pytest.fixture(scope="module")
def site(munge: Munge) -> Iterator[Site]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    loc = f"http://{address}/intake/{STOCK}"
    stock_options = SlurmOptions(cluster=STOCK, nodes=3, job_comp_type="jobcomp/elasticsearch", job_comp_loc=loc)
    with (
        run_dir() as directory,
        running_stack(
            directory,
            munge=munge,
            slurm_options=SlurmOptions(cluster=OURS, nodes=3),
            daemon_settings={"intake": {"listen": address}},
        ) as stack,
    ):
        stock = SlurmCluster(directory / "stock", munge.socket, stock_options)
        try:
            stock.start()
            yield Site(stack, run_all(stack, (stack.cluster, stock)))
        finally:
            stock.stop()


def run_all(stack: Stack, clusters: tuple[SlurmCluster, ...]) -> dict[str, int]:
    """Everything on each, at the same time."""
    ids: dict[str, int] = {}
    with ThreadPoolExecutor(len(clusters)) as pool:
        for phase in (by_themselves, with_help):
            ours, theirs = pool.map(phase, clusters)
            assert ours == theirs
            ids |= ours
        resized = list(pool.map(lambda each: each.sbatch("sleep 300", "-t5", "-N3", "-n3", "-J", "resized"), clusters))
        ids["resized"] = job_id = resized[0]
        assert resized == [job_id] * len(clusters)
        for each in clusters:  # once: without slurmdbd slurmctld takes no second resize of a job
            each.wait_state(job_id, "RUNNING")
            time.sleep(1.1)  # parts of a job are told apart by whole seconds
            each.run("scontrol", "update", f"JobId={job_id}", "NumNodes=2")
        time.sleep(1.1)
        for each in clusters:
            each.run("scancel", str(job_id))
            each.wait_ended([job_id])
    _wait_settled(stack, job_id)
    return ids


def _wait_settled(stack: Stack, last: int) -> None:
    """Wait until both clusters have told of both parts of the last job, and so of all."""

    def told() -> Counter[str]:
        return Counter(run["cluster"] for run in stack.runs(last))

    wanted = Counter(dict.fromkeys((OURS, STOCK.lower()), RUNS["resized"]))
    wait_until(lambda: told() == wanted, what=lambda: f"{wanted}, there are {told()}", timeout_s=60)


def comparable(run: dict[str, Any], label: str) -> dict[str, Any]:
    """A record without what differs by nature; times as what can be said of them."""
    same = {name: value for name, value in run.items() if name not in NEVER_POSTED | DIFFERENT.get(label, set())}
    same |= {name: bool(run[name]) for name in TIMES if name in run}
    if "orig_start" in run:
        same["eligible"] = run["eligible"] == run["start"]
        same["orig_start"] = run["submit"] <= run["orig_start"] < run["start"]
    same["ends after it began"] = run["start"] <= run["end"]
    texts = {name: value for name, value in same.items() if isinstance(value, str)}
    same |= {name: value.replace("/stock/", "/slurm/") for name, value in texts.items() if name != "cluster"}
    if same.get("nodes") in ("n1", "n2", "n3"):
        same["nodes"] = "one"  # whichever was idle
    return same | {"cluster": None}


LABELS: Final = [
    "completed", "exit code", "signal", "hangup", "exit code of a step", "signal of a step", "no such directory",
    "unlimited", "limit", "limit of the partition", "two partitions", "tasks", "much asked for", "foreign name",
    "user without a name", "array", "heterogeneous", "dependent", "dependency never satisfied",
    "cancelled before it was eligible", "held", "held array", "cancelled", "suspended", "too long", "requeued",
    "resized",
]  # fmt: skip
RUNS: Final = {"array": 2, "heterogeneous": 2, "requeued": 2, "resized": 2}


@pytest.mark.parametrize("label", LABELS)
def test_the_record_is_the_one_that_our_plugin_makes(site: Site, label: str) -> None:
    ours, theirs = (site.runs(cluster, label) for cluster in (OURS, STOCK))
    assert [comparable(run, label) for run in theirs] == [comparable(run, label) for run in ours]
    assert len(theirs) == RUNS.get(label, 1)


def test_all_jobs_were_compared(site: Site) -> None:
    assert site.ids.keys() == set(LABELS)


def test_the_parts_of_a_resized_job_follow_each_other(site: Site) -> None:
    for cluster in (OURS, STOCK):
        parts = site.runs(cluster, "resized")
        assert [part["node_count"] for part in parts] == [3, 2]
        assert [part["start"] for part in parts[1:]] == [part["end"] for part in parts[:-1]]
        assert {part["orig_start"] for part in parts[1:]} == {parts[0]["start"]}
