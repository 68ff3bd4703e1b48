# SPDX-License-Identifier: MIT
"""Slurm's own jobcomp/elasticsearch in the real slurmctld, posting to slurmjcd: no plugin of ours anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import expected
from tests.harness import Munge, run_dir
from tests.harness.fates import Fate
from tests.harness.ports import free_ports
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import Stack, running_stack
from tests.harness.waiting import wait_until

# what that plugin does not post (22.05 leaves out more than later releases)
NEVER_POSTED = {
    "features", "priority", "qos_id", "state_reason", "submit_line", "alloc_node", "comment", "licenses",
    "cancelled_by", "state_reason_prev", "failed_node",
}  # fmt: skip


@pytest.fixture(scope="module")
def stack(munge: Munge) -> Iterator[Stack]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    options = SlurmOptions(job_comp_type="jobcomp/elasticsearch", job_comp_loc=f"http://{address}/intake/demo")
    with (
        run_dir() as directory,
        running_stack(
            directory, munge=munge, slurm_options=options, daemon_settings={"intake": {"listen": address}}
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def fates(stack: Stack) -> dict[str, Fate]:
    cluster = stack.cluster
    completed, failed = cluster.sbatch("true", "-J", "fine"), cluster.sbatch("exit 3", "-J", "exits-3")
    signalled = cluster.sbatch("kill -USR1 $$", "-J", "signalled")
    array = cluster.sbatch("true", "--array=0-2", "-J", "array")
    running = cluster.sbatch("sleep 300", "-J", "cancelled", "-N2", "--ntasks-per-node=1")
    cluster.wait_state(running, "RUNNING")
    pending = cluster.sbatch("true", "-N2", "--exclusive", "-J", "never-started")
    cluster.wait_state(pending, "PENDING")
    cluster.run("scancel", str(pending), str(running))
    cluster.wait_ended([completed, failed, signalled, array, pending, running])
    found = [
        Fate("completed", (completed,), "COMPLETED", "0:0"),
        Fate("exit code 3", (failed,), "FAILED", "3:0"),
        Fate("killed by a signal", (signalled,), "FAILED", "0:10"),
        Fate("array", tuple(int(job["JobId"]) for job in cluster.show(array)), "COMPLETED", "0:0"),
        Fate("cancelled while pending", (pending,), "CANCELLED", "0:0"),
        Fate("cancelled while running", (running,), "CANCELLED", "0:15"),
    ]
    stack.wait_stored(sum(len(fate.job_ids) for fate in found))
    return {fate.title: fate for fate in found}


@pytest.mark.parametrize(
    "title",
    [
        "completed", "exit code 3", "killed by a signal", "array", "cancelled while pending",
        "cancelled while running",
    ],
)  # fmt: skip
def test_every_field_that_is_posted_is_what_slurm_said(stack: Stack, fates: dict[str, Fate], title: str) -> None:
    for job_id in fates[title].job_ids:
        wanted = expected.record(stack.cluster.show(job_id)[0], fates[title], cluster="demo")
        if wanted["time_limit"] == "Partition_Limit":
            # that plugin posts the partition's own, and of what a job had, not what it asked for
            wanted = {name: value for name, value in wanted.items() if name not in ("node_count", "cpu_count")}
            wanted["time_limit"] = "UNLIMITED"
        (found,) = stack.runs(job_id)
        assert {name: found[name] for name in found if name in wanted} == {
            name: value for name, value in wanted.items() if name in found
        }
        assert wanted.keys() - found.keys() <= NEVER_POSTED


def test_slurmjc_answers_for_them(stack: Stack, fates: dict[str, Fate]) -> None:
    shown: list[dict[str, Any]] = json.loads(stack.slurmjc("jobs", "--json", "--state", "FAILED"))["jobs"]
    failed = [*fates["exit code 3"].job_ids, *fates["killed by a signal"].job_ids]
    assert sorted(job["job_id"] for job in shown) == sorted(failed)


def test_the_books_balance(stack: Stack, fates: dict[str, Fate]) -> None:
    assert fates
    books = json.loads(stack.slurmjc("audit", "--json", "--config", str(stack.daemon.conf)))
    assert books["stored"] == stack.stored()


def test_a_script_as_long_as_slurm_takes_them_keeps_no_job_away(stack: Stack, fates: dict[str, Fate]) -> None:
    """4 MiB, of which JSON makes six times as much: nobody has a job that goes unrecorded because of its script."""
    assert fates
    script = stack.cluster.directory / "jobs" / "long.sh"
    script.write_bytes(b"#!/bin/sh\nexit 0\n" + b"\x01" * (4 * 2**20 - 100))
    job_id = int(stack.cluster.run("sbatch", "--parsable", "-J", "long", str(script)))
    stack.cluster.wait_ended([job_id])
    wait_until(lambda: stack.runs(job_id), what="the job with the long script")
    (run,) = stack.runs(job_id)
    assert run["name"] == "long"
