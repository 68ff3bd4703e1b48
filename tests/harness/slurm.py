# SPDX-License-Identifier: MIT
"""A cluster of slurmctld and a few slurmd on this host, and what one asks it for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.harness.ports import free_ports
from tests.harness.process import Process
from tests.harness.slurm_conf import SlurmOptions, slurm_conf
from tests.harness.waiting import scaled, wait_until

# States of a job about which Slurm has said its last word.
ENDED = frozenset(
    [
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "BOOT_FAIL",
        "DEADLINE",
        "PREEMPTED",
    ]
)


class SlurmCluster:
    """slurmctld and its nodes, everything of theirs in one directory."""

    def __init__(self, directory: Path, munge_socket: Path, options: SlurmOptions | None = None) -> None:
        self.options = options or SlurmOptions()
        self.directory = directory
        (directory / "state").mkdir(parents=True, exist_ok=True)
        (directory / "jobs").mkdir(exist_ok=True)
        (directory / "jobs").chmod(0o777)
        (directory / "plugins").mkdir(exist_ok=True)
        if self.options.job_comp_type == "jobcomp/redis":
            shutil.copy2(self.options.plugin, directory / "plugins")
        self.state_dir = directory / "state"
        self.conf = directory / "slurm.conf"
        self._munge_socket = munge_socket
        self._ports = free_ports(1 + self.options.nodes)
        self.write_conf(self.options)
        # Nothing here uses control groups, but slurmd looks for them, in a container or chroot in vain, unless told
        # which plugin it is; that one looks only when it is used.
        (directory / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self.env = {"SLURM_CONF": str(self.conf), "TZ": "UTC"}
        self.slurmctld = Process(
            ["/usr/sbin/slurmctld", "-D", "-f", self.conf], log=directory / "slurmctld.out", env=self.env
        )
        self.slurmds = [
            Process(
                ["/usr/sbin/slurmd", "-D", "-N", name, "-f", self.conf],
                log=directory / f"slurmd.{name}.out",
                env=self.env,
            )
            for name in self.node_names
        ]

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.options.nodes + 1)]

    def write_conf(self, options: SlurmOptions) -> None:
        """Change the configuration; slurmctld sees it after `scontrol reconfigure` or a restart."""
        self.options = options
        self.conf.write_text(slurm_conf(self.directory, self._munge_socket, self._ports, options))

    # --- life -------------------------------------------------------------

    def start(self) -> None:
        self.start_controller()
        for slurmd in self.slurmds:
            slurmd.start()
        wait_until(
            self.nodes_idle,
            what=lambda: f"the nodes to be idle: {self.run('sinfo', '-h', '-N', '-o', '%N %T %E')}",
        )

    def start_controller(self) -> None:
        self.slurmctld.start()
        self.slurmctld.wait_ready(self.controller_answers)

    def controller_answers(self) -> bool:
        return "is UP" in self.call("scontrol", "ping").stdout

    def nodes_idle(self) -> bool:
        states = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()
        return len(states) == self.options.nodes and set(states) == {"idle"}

    def stop(self) -> None:
        """Cancel what runs, stop the daemons, and leave no process behind."""
        if self.slurmctld.running and any(slurmd.running for slurmd in self.slurmds):
            try:
                self._end_all_jobs()
            except (subprocess.SubprocessError, TimeoutError):
                pass  # the processes go anyway, below
        self.slurmctld.stop()
        for slurmd in self.slurmds:
            slurmd.stop()
        self._kill_leftovers()

    def _end_all_jobs(self) -> None:
        left = self.run("squeue", "-h", "-o", "%A").split()
        if left:
            self.call("scancel", *left)
            wait_until(lambda: not self.run("squeue", "-h"), what="the queue to be empty", timeout_s=10)

    def _kill_leftovers(self) -> None:
        """slurmstepd and jobs leave slurmd's process group; they all carry the path of our own slurm.conf."""
        mark = f"SLURM_CONF={self.conf}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue  # it has ended

    # --- asking -----------------------------------------------------------

    def call(
        self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands against this cluster, whatever its exit status."""
        return subprocess.run(
            argv,
            env={**os.environ, **self.env, **(env or {})},
            cwd=cwd or self.directory / "jobs",
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=scaled(60),
            check=False,
        )

    def run(self, *argv: str, cwd: Path | None = None) -> str:
        """Run one of Slurm's commands, which has to succeed; returns what it printed."""
        done = self.call(*argv, cwd=cwd)
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr or "no message")
        return done.stdout

    def sbatch(self, command: str, *options: str) -> int:
        """Submit `sbatch --wrap`; returns the job id."""
        return int(self.run("sbatch", "--parsable", *options, "--wrap", command).split(";")[0])

    def show(self, job_id: int) -> list[dict[str, str]]:
        """`scontrol show job`, one dictionary per job (an array has several)."""
        done = self.call("scontrol", "show", "job", "-o", str(job_id))
        return [parse_show(line) for line in done.stdout.splitlines() if line.startswith("JobId=")]

    def states(self, job_id: int) -> list[str]:
        return [job["JobState"] for job in self.show(job_id)]

    def wait_state(self, job_id: int, *states: str, timeout_s: float = 30.0) -> list[dict[str, str]]:
        """Wait until every job shown for that id is in one of these states; returns them."""

        def reached() -> list[dict[str, str]]:
            jobs = self.show(job_id)
            return jobs if jobs and all(job["JobState"] in states for job in jobs) else []

        return wait_until(
            reached,
            what=lambda: f"job {job_id} to be {'|'.join(states)}; it is {self.states(job_id)}",
            timeout_s=timeout_s,
            every_s=0.1,
        )

    def wait_ended(self, job_ids: Iterable[int], timeout_s: float = 60.0) -> dict[int, dict[str, str]]:
        """Wait until all of them have ended; returns every job (array tasks too) by its own JobId."""
        found: dict[int, dict[str, str]] = {}
        for job_id in job_ids:
            for job in self.wait_state(job_id, *ENDED, timeout_s=timeout_s):
                found[int(job["JobId"])] = job
        return found


def parse_show(line: str) -> dict[str, str]:
    """One line of `scontrol -o show job` as names and values; a value may hold blanks."""
    fields: dict[str, str] = {}
    name = ""
    for word in line.split(" "):
        head, mark, tail = word.partition("=")
        if (
            mark
            and head.replace("/", "").replace(":", "").replace("_", "").isalnum()
            and head[:1].isupper()
            and head not in fields
        ):
            name = head
            fields[name] = tail
        elif name:
            fields[name] += f" {word}"
    return {key: value.rstrip() for key, value in fields.items()}
