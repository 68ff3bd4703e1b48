# SPDX-License-Identifier: MIT
"""slurmjc wait with real Slurm jobs: it ends as they do, arrays and all. Everything runs at the same time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.harness.fates import requeue_once
from tests.harness.paths import program
from tests.harness.stack import Stack

UNKNOWN = 4_000_000
SCRIPTS = {
    "succeeds": ("sleep 1", 0, "COMPLETED 0:0"),
    "fails": ("sleep 1; exit 42", 42, "FAILED 42:0"),
    "is killed": ("sleep 1; kill -USR1 $$", 138, "FAILED 0:10"),
}
# task 0 runs longest, and its number is not the array's
ARRAY = "case $SLURM_ARRAY_TASK_ID in 0) sleep 3; exit 7;; *) exit $SLURM_ARRAY_TASK_ID;; esac"
REQUEUED = '[ -n "$SLURM_RESTART_COUNT" ] || sleep 300; exit 5'


@dataclass(frozen=True)
class Waited:
    """A slurmjc that waits for a job."""

    job: int
    process: subprocess.Popen[str]

    def end(self) -> tuple[int, list[str]]:
        """Exit status and lines, in any order."""
        out, err = self.process.communicate(timeout=60)
        assert err == "" or self.process.returncode, err
        return self.process.returncode, sorted(out.splitlines())


def begin(stack: Stack, job: int, *words: str) -> Waited:
    command = [program("slurmjc"), "--socket", str(stack.daemon.query_socket), "wait", *(words or [str(job)])]
    env = {**os.environ, **stack.cluster.env}
    return Waited(job, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env))


@pytest.fixture(scope="module")
def waits(module_stack: Stack) -> Iterator[dict[str, Waited]]:
    cluster = module_stack.cluster
    het = cluster.run("sbatch", "--parsable", "-n1", "--wrap", "sleep 1; exit 3", ":", "-n1")
    jobs = {name: cluster.sbatch(script) for name, (script, _, _) in SCRIPTS.items()} | {
        "unknown": UNKNOWN,
        "array": cluster.sbatch(ARRAY, "--array=0-2"),
        "het": int(het.split(";")[0]),
        "cancelled": cluster.sbatch("sleep 300"),
    }
    with ExitStack() as stack:
        begun = {}
        for name, job in jobs.items():
            begun[name] = begin(module_stack, job)
            stack.callback(begun[name].process.communicate)
            stack.callback(begun[name].process.kill)
        cluster.wait_state(jobs["cancelled"], "RUNNING")
        cluster.run("scancel", str(jobs["cancelled"]))
        yield begun


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_ends_as_the_job_does(module_stack: Stack, waits: dict[str, Waited], name: str) -> None:
    job, (_, status, line) = waits[name].job, SCRIPTS[name]
    assert waits[name].end() == (status, [f"{job} {line}"])
    assert begin(module_stack, job).end() == (status, [f"{job} {line}"])  # once more, when it is over


def test_an_array_is_over_when_its_last_task_is(module_stack: Stack, waits: dict[str, Waited]) -> None:
    job = waits["array"].job
    tasks = [f"{job}_0 FAILED 7:0", f"{job}_1 FAILED 1:0", f"{job}_2 FAILED 2:0"]
    assert waits["array"].end() == (7, tasks)
    assert begin(module_stack, job).end() == (7, tasks)
    assert begin(module_stack, job, f"{job}_[1-2]").end() == (2, tasks[1:])


def test_a_het_job_is_over_when_its_parts_are(waits: dict[str, Waited]) -> None:
    status, lines = waits["het"].end()
    assert status == 3
    assert [line.split()[0] for line in lines] == [f"{waits['het'].job}+0", f"{waits['het'].job}+1"]


@pytest.mark.long
def test_a_requeue_is_no_end(module_stack: Stack) -> None:
    job = module_stack.cluster.sbatch(REQUEUED, "--requeue")
    waited = begin(module_stack, job)
    requeue_once(module_stack.cluster, job)
    assert waited.end() == (5, [f"{job} FAILED 5:0"])
    assert len(module_stack.runs(job)) == 2


def test_a_job_that_is_cancelled_did_not_succeed(waits: dict[str, Waited]) -> None:
    status, [line] = waits["cancelled"].end()
    assert status
    assert line.startswith(f"{waits['cancelled'].job} CANCELLED")


def test_a_job_that_nobody_knows_is_5(waits: dict[str, Waited]) -> None:
    _, err = waits["unknown"].process.communicate(timeout=60)
    assert err == f"slurmjc: job {UNKNOWN}: Slurm doesn't know it, and it isn't stored\n"
    assert waits["unknown"].process.returncode == 5


def test_the_daemon_may_restart_meanwhile(module_stack: Stack, waits: dict[str, Waited]) -> None:
    for waited in waits.values():
        waited.process.wait(timeout=60)
    job = module_stack.cluster.sbatch("sleep 1; exit 9")
    waited = begin(module_stack, job)
    module_stack.cluster.wait_state(job, "RUNNING")
    module_stack.daemon.kill()
    module_stack.cluster.wait_ended([job])
    assert waited.process.poll() is None
    module_stack.daemon.start()
    assert waited.end() == (9, [f"{job} FAILED 9:0"])
