# SPDX-License-Identifier: MIT
"""Jobs that end in each of the ways a job can end, through real sbatch."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.harness.slurm import ENDED, SlurmCluster
from tests.harness.waiting import wait_until


@dataclass(frozen=True)
class Fate:
    """One job and what `scontrol show job` has to say about it in the end.

    Attributes:
        job_ids: of the job, or of each task of an array.
        exit_code: as scontrol prints it, code:signal.
        restarts: how often it was requeued; it has as many records more.
        recorded_exit_code: what slurmctld knew when it recorded the job's end. The batch script of a job that is
            cancelled or out of time dies after that, so every record of it, slurmdbd's too, says 0:0.
    """

    title: str
    job_ids: tuple[int, ...]
    state: str
    exit_code: str
    restarts: int = 0

    @property
    def recorded_exit_code(self) -> str:
        return "0:0" if self.state in ("CANCELLED", "TIMEOUT") else self.exit_code


def submit_all(cluster: SlurmCluster) -> list[Fate]:
    """Submit one job for each fate, give each what it needs to meet it, and wait until all have.

    Takes up to 40 s: slurmctld looks for jobs past their time limit every 30 s.
    """
    completed = cluster.sbatch("true", "-J", "fine")
    failed = cluster.sbatch("exit 3", "-J", "exits-3")
    signalled = cluster.sbatch("kill -USR1 $$", "-J", "signalled")
    running = cluster.sbatch("sleep 300", "-J", "cancelled", "-N2", "--ntasks-per-node=1")
    overtime = cluster.sbatch("sleep 300", "-J", "too-long", "--time=1")
    array = cluster.sbatch("exit $((SLURM_ARRAY_TASK_ID / 3))", "-J", "array", "--array=0-3")
    requeued = cluster.sbatch('[ -n "$SLURM_RESTART_COUNT" ] || sleep 300', "-J", "requeued", "--requeue")

    cluster.wait_state(running, "RUNNING")
    cluster.wait_state(overtime, "RUNNING")
    # wants what the two above have
    pending = cluster.sbatch("true", "-J", "never-started", "-N2", "--exclusive")
    cluster.wait_state(pending, "PENDING")
    cluster.run("scancel", str(pending))
    cluster.run("scancel", str(running))
    # a minute is the shortest limit sbatch takes; this is as if it had passed
    cluster.run("scontrol", "update", f"JobId={overtime}", "EndTime=now+1")
    requeue_once(cluster, requeued)

    cluster.wait_ended([completed, failed, signalled, pending, running, overtime, array, requeued])
    tasks = {int(job["ArrayTaskId"]): int(job["JobId"]) for job in cluster.show(array)}
    return [
        Fate("completed", (completed,), "COMPLETED", "0:0"),
        Fate("exit code 3", (failed,), "FAILED", "3:0"),
        Fate("killed by a signal", (signalled,), "FAILED", "0:10"),
        Fate("cancelled while pending", (pending,), "CANCELLED", "0:0"),
        Fate("cancelled while running", (running,), "CANCELLED", "0:15"),
        Fate("time limit", (overtime,), "TIMEOUT", "0:15"),
        Fate("array, tasks 0 to 2", tuple(tasks[number] for number in (0, 1, 2)), "COMPLETED", "0:0"),
        Fate("array, task 3", (tasks[3],), "FAILED", "1:0"),
        Fate("requeued once", (requeued,), "COMPLETED", "0:0", restarts=1),
    ]


def requeue_once(cluster: SlurmCluster, job_id: int) -> None:
    """Requeue a running job, and wait until it runs again (or has ended)."""
    cluster.wait_state(job_id, "RUNNING")
    cluster.run("scontrol", "requeue", str(job_id))
    waiting_since = 0.0

    def restarted() -> bool:
        nonlocal waiting_since
        job = cluster.show(job_id)[0]
        if job["JobState"] == "PENDING" and job["Restarts"] == "1":
            waiting_since = waiting_since or time.monotonic()
            # Slurm holds a requeued job back until its old credential has expired. slurmd takes a new one that was
            # made in a later second than the old one was revoked in (src/common/slurm_cred.c, _credential_revoked).
            if time.monotonic() > waiting_since + 2:
                cluster.call("scontrol", "update", f"JobId={job_id}", "StartTime=now")
        return job["Restarts"] == "1" and (job["JobState"] == "RUNNING" or job["JobState"] in ENDED)

    wait_until(restarted, what=f"job {job_id} to start again", timeout_s=30, every_s=0.1)
