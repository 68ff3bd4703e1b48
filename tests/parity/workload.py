# SPDX-License-Identifier: MIT
"""Jobs of every fate, submitted as users submit them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .cluster import Cluster, wait_for
from .people import ALICE, BOB, CAROL, DAVE, GONE, RESERVATION
from .sandbox import RigError

_NAMES = ("Solver", "solver", "post_proc", "100%", "a,b", "it's", "größe", "x" * 70)
_FAST_JOBS = 64


class Workload:
    """Submits, steers and waits.

    `ids` maps a label (what became of the job) to its job id: what questions about single jobs ask for.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ids: dict[str, int] = {}

    def sbatch(self, label: str, *options: str, wrap: str = "true", user: int = ALICE) -> int:
        """Submit a batch job and remember its id under `label`."""
        command = ["sbatch", "--parsable", "-o", "/dev/null", "-t", "10", *options]
        out = self.cluster.run(*command, "--wrap", wrap, user=user)
        self.ids[label] = int(out.split(";")[0])
        return self.ids[label]

    def begin(self, seconds: int) -> str:
        """The option of a job that may start `seconds` from now."""
        return f"--begin={self.cluster.clock.text(seconds)}"

    def scancel(self, *what: str, user: int = 0) -> None:
        self.cluster.run("scancel", *what, user=user)

    def scontrol(self, *words: str) -> None:
        self.cluster.run("scontrol", *words)

    def state(self, job: int | str) -> str:
        """State of a job as squeue knows it, ended ones included."""
        return self.cluster.try_run("squeue", "-h", "-t", "all", "-o", "%T", "-j", str(job)).stdout.split("\n")[0]

    def when(self, job: int | str, state: str) -> None:
        """Wait until a job is in that state."""
        wait_for(f"job {job} to be {state}, it is {self.state(job)}", lambda: self.state(job) == state, seconds=90)

    # --- in bulk ----------------------------------------------------------------

    def many(self) -> None:
        """Short jobs over all users, accounts, partitions, QOS, names and sizes, and wide arrays."""
        owners = ((ALICE, "lab1"), (ALICE, "chem"), (BOB, "lab1"), (CAROL, "physics"), (CAROL, "lab1"), (DAVE, "chem"))
        partitions, qos, exits = ("main", "debug", "Long"), ("normal", "high"), (0, 0, 0, 1, 200)
        cycle = zip(
            range(_FAST_JOBS), itertools.cycle(owners), itertools.cycle(partitions), itertools.cycle(qos),
            itertools.cycle(_NAMES), itertools.cycle(exits), strict=False,
        )  # fmt: skip
        with ThreadPoolExecutor(3) as pool:
            for number, (user, account), partition, quality, name, code in cycle:
                size = ("-N", str(number % 2 + 1), "-n", str(number % 5 + 2), "-t", str(1 + number % 7))
                options = ("-A", account, "-p", partition, "-q", quality, "-J", name, *size)
                pool.submit(self.sbatch, f"fast{number}", *options, wrap=f"exit {code}", user=user)
        for number, (user, account) in enumerate(owners):
            self.sbatch(f"array{number}", "-A", account, "--array=0-19", "-J", f"array{number}", user=user)

    # --- one by one -------------------------------------------------------------

    def plain(self) -> None:
        """Endings that come by themselves, and everything a job can carry."""
        self.sbatch("completed", "--wckey=wk1", "-J", "plain", "--chdir=/usr", wrap="sleep 1")
        self.sbatch("wckey2", "--wckey=wk2", "--comment=why not")
        self.sbatch("exit3", wrap="exit 3", user=BOB)
        self.sbatch("exit137", wrap="exit 137", user=BOB)
        self.sbatch("signal", wrap="kill -9 $$", user=BOB)
        self.sbatch("step_fails", wrap="srun sh -c 'exit 5'; true")
        self.sbatch("steps", wrap="srun true; srun true; exit 1", user=BOB)
        self.sbatch("fast_feature", "-C", "fast", "-N", "2")
        self.sbatch("two_features", "-C", "fast&BigMem", user=BOB)
        self.sbatch("slow_feature", "-C", "slow", "-N", "3", "--ntasks-per-node=2")
        self.sbatch("nodelist", "-w", "n2,n4", "-N", "2")
        self.sbatch("exclusive", "--exclusive", "-w", "n3")
        self.sbatch("licence", "-L", "ansys:1")
        self.sbatch("memory", "--mem=100M", "-c", "3")
        self.sbatch("two_partitions", "-p", "debug,main")
        self.sbatch("reservation", f"--reservation={RESERVATION}")
        self.sbatch("leaver", "-A", "chem", user=GONE)
        self.sbatch("unlimited", "-t", "UNLIMITED")
        self.sbatch("as_root", "-A", "root", user=0)
        self.cluster.try_run("srun", "-t", "5", "-J", "srun_ok", "true", user=ALICE)
        self.cluster.try_run("srun", "-t", "5", "-J", "srun_fails", "false", user=BOB)
        self.cluster.try_run("salloc", "-t", "5", "-J", "salloc", "-Q", "sleep", "1", user=CAROL)

    def default_limit(self) -> None:
        """A job that names no time limit gets the partition's."""
        out = self.cluster.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true", user=DAVE)
        self.ids["default_limit"] = int(out)

    def cancelled(self) -> None:
        """Cancelled in every phase, by the owner and by root; those that wait are cancelled in `later`."""
        self.sbatch("cancel_held", "-H")
        self.sbatch("cancel_begin", self.begin(3600), user=BOB)
        self.sbatch("cancel_pending", "-p", "closed", "-N", "2")
        self.sbatch("cancel_pending_two", "-p", "closed,Long", self.begin(7200), user=CAROL)
        failed = self.sbatch("dep_parent", wrap="exit 1")
        self.sbatch("dep_never", f"--dependency=afterok:{failed}")
        self.sbatch("dep_killed", f"--dependency=afterok:{failed}", "--kill-on-invalid-dep=yes", user=BOB)
        self.sbatch("dep_fine", f"--dependency=afterany:{failed}")
        running = self.sbatch("cancel_running", wrap="sleep 300")
        by_root = self.sbatch("cancel_by_root", wrap="sleep 300", user=BOB)
        signalled = self.sbatch("cancel_signal", wrap="sleep 300", user=CAROL)
        at_once = self.sbatch("cancel_at_once", "-p", "closed", user=DAVE)
        self.scancel(str(at_once), user=DAVE)
        for job in (running, by_root, signalled):
            self.when(job, "RUNNING")
        self.scancel(str(running), user=ALICE)
        self.scancel(str(by_root))
        self.scancel("-s", "TERM", "-f", str(signalled), user=CAROL)

    def later(self) -> None:
        """What happens to jobs that slurmdbd already knows, as it does in real life: it is told every 5 seconds."""
        waiting = {
            "cancel_held": ALICE, "cancel_begin": 0, "cancel_pending": ALICE, "cancel_pending_two": CAROL,
            "dep_never": ALICE, "array_pending": CAROL, "array_held": BOB, "het_cancelled": BOB,
        }  # fmt: skip
        self.known_to_slurmdbd(*waiting)
        self.known_to_slurmdbd("requeued", "resized", state="RUNNING")
        self.scontrol("requeue", str(self.ids["requeued"]))
        self.scontrol("update", f"JobId={self.ids['resized']}", "NumNodes=2")
        self.scancel(f"{self.ids['array_pending']}_2", user=CAROL)
        for label, user in waiting.items():
            self.scancel(str(self.ids[label]), user=user)
        time.sleep(1.1)  # slurmdbd tells the parts of one job apart by whole seconds
        self.scontrol("update", f"JobId={self.ids['resized']}", "NumNodes=1")
        time.sleep(1.1)
        self.scancel("-f", "-s", "USR1", str(self.ids["resized"]))

    def restarted(self) -> None:
        """A job resized before and after a restart of slurmctld, which forgets when it was resized before.

        Comes after the other questions: after a restart slurmctld reports the jobs it still knows to slurmdbd once
        more, without saying who cancelled them.
        """
        job = self.sbatch("resized_twice", "-w", "n[2-4]", "-J", "resized", wrap="sleep 600", user=ALICE)
        self.when(job, "RUNNING")
        self.known_to_slurmdbd("resized_twice", state="RUNNING")

        def resized(nodes: int) -> bool:
            """slurmctld refuses while it waits for slurmdbd."""
            time.sleep(1.1)
            update = ("scontrol", "update", f"JobId={job}", f"NumNodes={nodes}")
            return self.cluster.try_run(*update).returncode == 0

        wait_for("the first resize", lambda: resized(2))
        self.cluster.restart_slurmctld()
        wait_for("the resize after slurmctld's restart", lambda: resized(1))
        time.sleep(1.1)
        self.scancel(str(job))

    def known_to_slurmdbd(self, *labels: str, state: str = "") -> None:
        """Wait until plain sacct shows these jobs, in that state if one is named."""
        ids = [str(self.ids[label]) for label in labels]
        # the sandbox's clock is ahead of a client's here
        options = ("-X", "-n", "-P", "-o", "jobidraw,state", "-E", "2100-01-01", "-j", ",".join(ids))

        def all_known() -> bool:
            rows = dict(line.split("|") for line in self.cluster.try_run("sacct", *options).stdout.splitlines())
            return all(job in rows and state in ("", rows[job]) for job in ids)

        wait_for(f"slurmdbd to know {', '.join(labels)} {state}", all_known, every=0.3)

    def arrays(self) -> None:
        """Tasks that fail, tasks cancelled pending and running, whole arrays cancelled."""
        self.sbatch("array_mixed", "--array=1-6", wrap='[ "$SLURM_ARRAY_TASK_ID" != 3 ] || exit 7')
        self.sbatch("array_stride", "--array=2-10:4%1", user=BOB)
        self.sbatch("array_pending", "--array=0-3", "-p", "closed", user=CAROL)
        self.sbatch("array_held", "--array=0-2", "-H", user=BOB)
        running = self.sbatch("array_running", "--array=0-3%2", wrap="sleep 300")
        self.when(f"{running}_1", "RUNNING")
        self.scancel(f"{running}_0", user=ALICE)
        self.scancel(f"{running}_3", user=ALICE)
        self.scancel(str(running))

    def heterogeneous(self) -> None:
        """Heterogeneous jobs: one that runs, one cancelled while it waits."""
        runs = ("sbatch", "--parsable", "-o", "/dev/null", "-t", "5")
        parts = ("-n1", "-J", "het", ":", "-n4", "-N2", ":", "-n2", "-p", "Long")
        self.ids["het"] = int(self.cluster.run(*runs, *parts, "--wrap", "sleep 1", user=ALICE))
        waits = ("-n1", "-p", "closed", ":", "-n2", "-p", "closed")
        self.ids["het_cancelled"] = int(self.cluster.run(*runs, *waits, "--wrap", "true", user=BOB))

    def changed(self) -> None:
        """Requeued and resized (in `later`), suspended."""
        self.sbatch("requeued", wrap="[ $SLURM_RESTART_COUNT ] || sleep 300")
        self.sbatch("resized", "-w", "n[1-3]", "-J", "resized", wrap="sleep 600", user=BOB)
        self.sbatch("requeue_exit", wrap="[ $SLURM_RESTART_COUNT ] || exit 99", user=BOB)
        suspended = self.sbatch("suspended", wrap="sleep 4")
        for job in (self.ids["requeued"], self.ids["resized"], suspended):
            self.when(job, "RUNNING")
        self.scontrol("suspend", str(suspended))
        time.sleep(2.1)  # a suspension that shows in whole seconds
        self.scontrol("resume", str(suspended))

    def preempted(self) -> None:
        """Low QOS gives way to high: one job is cancelled by it, one requeued."""
        self.when(self.ids["het"], "COMPLETED")  # or it waits for the nodes, and the victims for it
        victims = (
            self.sbatch("preempted", "-q", "low", "--exclusive", "-w", "n4", wrap="sleep 300", user=BOB),
            self.sbatch(
                "preempt_requeued",
                "-q",
                "scavenger",
                "--exclusive",
                "-w",
                "n5",
                wrap="[ $SLURM_RESTART_COUNT ] || sleep 300",
                user=DAVE,
            ),
        )
        for job in victims:
            self.when(job, "RUNNING")
        self.known_to_slurmdbd("preempted", "preempt_requeued", state="RUNNING")
        for node in ("n4", "n5"):
            self.sbatch(f"preemptor_{node}", "-q", "high", "--exclusive", "-w", node, wrap="sleep 1")

    def limited(self) -> None:
        """Time limit and deadline; slurmctld looks for both every half minute."""
        self.sbatch("timeout", "-t", "1", "-w", "n1", wrap="sleep 300")
        # n7 is reserved for others, so this one waits until it is too late
        self.sbatch("deadline", "-t", "1", "-w", "n7", f"--deadline={self.cluster.clock.text(65)}", user=CAROL)

    def over_midnight(self) -> None:
        """Jobs that run and wait over midnight UTC."""
        seconds = int(self.cluster.clock.midnight - self.cluster.clock.now())
        if seconds < 2:
            raise RigError(f"midnight was {-seconds} s ago before the jobs that shall cross it were there")
        self.sbatch("over_midnight", wrap=f"sleep {seconds + 2}")
        self.sbatch("waits_over_midnight", self.begin(seconds + 3), user=BOB)
        self.sbatch("array_over_midnight", "--array=0-2", wrap=f"sleep {seconds + 1}", user=CAROL)
        self.sbatch("cancel_over_midnight", "-p", "closed", user=DAVE)

    def node_failure(self) -> None:
        """A node dies under two jobs: one may be requeued, one may not."""
        fails = self.sbatch("node_fail", "--no-requeue", "-w", "n8", wrap="sleep 300")
        again = self.sbatch("node_fail_requeued", "--requeue", "-w", "n8", wrap="sleep 300", user=BOB)
        for job in (fails, again):
            self.when(job, "RUNNING")
        self.cluster.kill("slurmd.n8")
        self.scontrol("update", "NodeName=n8", "State=DOWN", "Reason=gone")
        self.when(fails, "NODE_FAIL")
        self.when(again, "PENDING")
        self.known_to_slurmdbd("node_fail_requeued", state="PENDING")
        self.scancel(str(again))

    def unfinished(self) -> None:
        """Jobs that are still there when the questions are asked: no completed job, so none of ours."""
        self.sbatch("still_running", wrap="sleep 3000")
        self.sbatch("still_pending", "-p", "closed", user=BOB)
        again = self.sbatch("back_in_queue", wrap="sleep 3000")
        self.when(again, "RUNNING")
        self.known_to_slurmdbd("back_in_queue", state="RUNNING")
        self.scontrol("requeuehold", str(again))
        self.sbatch("array_half_done", "--array=0-1", wrap="[ $SLURM_ARRAY_TASK_ID = 0 ] || sleep 3000")

    def submit(self, progress: Callable[[str], None]) -> None:
        """All of it, in an order that keeps the waiting short."""
        steps = (
            self.over_midnight, self.limited, self.plain, self.default_limit, self.heterogeneous, self.arrays,
            self.cancelled, self.changed, self.preempted, self.many, self.later,
        )  # fmt: skip
        for step in steps:
            progress(step.__name__)
            step()
        progress("waiting for midnight")
        clock = self.cluster.clock
        wait_for("midnight", lambda: clock.now() > clock.midnight + 4, seconds=120, every=0.5)
        self.scancel(str(self.ids["cancel_over_midnight"]), user=DAVE)
        progress("node_failure")
        self.node_failure()
        progress("waiting for the last jobs")
        wait_for("all jobs to end", lambda: not self.unfinished_jobs(), seconds=150, every=0.5)
        self.unfinished()
        half_done = self.ids["array_half_done"]
        self.when(f"{half_done}_0", "COMPLETED")
        self.when(f"{half_done}_1", "RUNNING")
        self.ids["first_half"] = self.task(half_done, 0)
        self.known_to_slurmdbd("first_half", state="COMPLETED")

    def task(self, array: int, index: int) -> int:
        """The job id of an array's task."""
        shown = self.cluster.run("scontrol", "show", "job", "-o", f"{array}_{index}")
        return int(shown.removeprefix("JobId=").split()[0])

    def unfinished_jobs(self) -> list[str]:
        return self.cluster.try_run("squeue", "-h", "-o", "%i %T %r").stdout.splitlines()
