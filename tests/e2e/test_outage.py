# SPDX-License-Identifier: MIT
"""A part that is away: what people see of it, and what becomes of the records."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

from tests.harness import wait_until
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import Stack


def test_sacct_without_the_daemon_is_an_error_of_one_line(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    assert stack.cluster.call("sacct", "-c").returncode == 0
    stack.daemon.stop()
    done = stack.cluster.call("sacct", "-c", "-n")
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert str(stack.daemon.query_socket) in done.stderr
    assert done.stdout == ""


def test_sacct_without_redis_is_an_error_of_one_line(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.redis.stop()
    done = stack.cluster.call("sacct", "-c", "-n")
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "Redis" in done.stderr


def test_records_are_taken_without_redis_and_appear_when_it_is_back(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.redis.stop()
    jobs = [stack.cluster.sbatch("true") for _ in range(5)]
    stack.cluster.wait_ended(jobs)

    def spooled() -> bool:
        status, body = stack.daemon.get("/readyz")
        found = json.loads(body)
        assert (status, found["status"]) in ((200, "degraded"), (200, "ok"))
        return bool(found["components"]["spool"]["backlog_records"] == 5)

    wait_until(spooled, what="five records in the spool")
    stack.redis.start()
    stack.wait_stored(5)
    assert [len(stack.runs(job_id)) for job_id in jobs] == [1] * 5


def test_slurmctld_answers_while_jobs_end_and_redis_or_the_daemon_stands_still(
    make_stack: Callable[..., Stack],
) -> None:
    """A hook that waits keeps slurmctld's job lock: squeue gives up after MessageTimeout, and is an error here."""
    stack = make_stack(slurm_options=SlurmOptions(extra={"MessageTimeout": "5"}))
    cluster = stack.cluster
    for round_, process in enumerate((stack.redis.process, stack.daemon.process), 1):
        held = [str(cluster.sbatch("true", "--hold")) for _ in range(20)]
        process.send(signal.SIGSTOP)
        try:
            cluster.run("scancel", *held)
            assert cluster.run("squeue", "-h") == ""
            ran = cluster.sbatch("true")
            cluster.wait_ended([ran])
            assert cluster.run("squeue", "-h") == ""
        finally:
            process.send(signal.SIGCONT)
        stack.wait_stored(round_ * 21)
    assert stack.stored() == 42


def test_two_of_everything_share_a_machine(make_stack: Callable[..., Stack]) -> None:
    one, two = make_stack("one"), make_stack("two")
    job = one.cluster.sbatch("exit 1")
    others = [two.cluster.sbatch("exit 2") for _ in range(2)]
    one.cluster.wait_ended([job])
    two.cluster.wait_ended(others)
    one.wait_stored(1)
    two.wait_stored(2)
    assert (one.stored(), two.stored()) == (1, 2)
    assert len(one.cluster.run("sacct", "-c", "-n").splitlines()) == 1
    assert len(two.cluster.run("sacct", "-c", "-n").splitlines()) == 2
