# SPDX-License-Identifier: MIT
"""Jobs that end in every way, through real slurmctld and sbatch, and every field of what is kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e import expected
from tests.harness import ROOT
from tests.harness.fates import Fate, submit_all
from tests.harness.stack import Stack

TITLES = [
    "completed",
    "exit code 3",
    "killed by a signal",
    "cancelled while pending",
    "cancelled while running",
    "time limit",
    "array, tasks 0 to 2",
    "array, task 3",
    "requeued once",
]
WAIT_TIME = 9  # enum job_state_reason
# what scontrol doesn't show, so that other assertions look at it
ELSEWHERE = {"cancelled_by", "state_reason_prev", "tres_req", "submit_line", "ntasks", "ntasks_per_node"}


@pytest.fixture(scope="module")
def fates(module_stack: Stack) -> dict[str, Fate]:
    found = {fate.title: fate for fate in submit_all(module_stack.cluster)}
    module_stack.wait_stored(sum(len(fate.job_ids) * (fate.restarts + 1) for fate in found.values()))
    return found


def last_run(stack: Stack, job_id: int) -> dict[str, Any]:
    return stack.runs(job_id)[-1]


def sacct(stack: Stack, *options: str) -> list[list[str]]:
    return [line.split("|") for line in stack.cluster.run("sacct", "-c", "-n", "-P", *options).splitlines()]


def test_there_are_fates_for_all_titles(fates: dict[str, Fate]) -> None:
    assert list(fates) == TITLES


@pytest.mark.parametrize("title", TITLES)
def test_every_field_is_what_slurm_said(module_stack: Stack, fates: dict[str, Fate], title: str) -> None:
    for job_id in fates[title].job_ids:
        shown = module_stack.cluster.show(job_id)[0]
        assert (shown["JobState"], shown["ExitCode"]) == (fates[title].state, fates[title].exit_code)
        found = last_run(module_stack, job_id)
        kept = {name: value for name, value in found.items() if name not in ELSEWHERE}
        assert kept == expected.record(shown, fates[title], cluster="demo")


@pytest.mark.parametrize("title", TITLES)
def test_what_scontrol_does_not_show_is_kept_too(module_stack: Stack, fates: dict[str, Fate], title: str) -> None:
    for job_id in fates[title].job_ids:
        found = last_run(module_stack, job_id)
        nodes = found["node_count"]
        assert found["tres_req"] == f"cpu={nodes},mem={nodes}G,node={nodes},billing={nodes}"
        assert found["submit_line"].startswith(f"sbatch --parsable -J {found['name']} ")
        if title == "cancelled while running":
            assert (found["ntasks"], found["ntasks_per_node"]) == (2, 1)
        else:
            assert "ntasks_per_node" not in found
        # a requeued job waits for its begin time, unless the scheduler comes too late to say so
        assert found.get("state_reason_prev") in ((None, WAIT_TIME) if title == "requeued once" else (None,))


def test_only_fields_of_the_schema_are_kept(module_stack: Stack, fates: dict[str, Fate]) -> None:
    schema = json.loads((ROOT / "schema" / "record.json").read_text())
    known = {field["name"] for field in schema["fields"] + schema["extra"]}
    for fate in fates.values():
        for job_id in fate.job_ids:
            assert set(last_run(module_stack, job_id)) <= known


def test_a_requeued_job_keeps_both_runs(module_stack: Stack, fates: dict[str, Fate]) -> None:
    (job_id,) = fates["requeued once"].job_ids
    first, second = module_stack.runs(job_id)
    assert (first["restart_count"], second["restart_count"]) == (0, 1)
    # JOB_REQUEUE of slurm.h: the job went back into the queue
    assert (first["state"], first["state_flags"]) == (expected.STATES["PENDING"], 0x400)
    assert first["nodes"]
    assert first["start"] <= first["end"] <= second["submit"] <= second["start"]


def test_every_record_is_there_once(module_stack: Stack, fates: dict[str, Fate]) -> None:
    wanted = sum(len(fate.job_ids) * (fate.restarts + 1) for fate in fates.values())
    assert module_stack.stored() == wanted
    for fate in fates.values():
        for job_id in fate.job_ids:
            assert len(module_stack.runs(job_id)) == fate.restarts + 1


def test_sacct_prints_what_slurm_said(module_stack: Stack, fates: dict[str, Fate]) -> None:
    columns = "jobid,jobname,partition,nnodes,nodelist,state,exitcode,end"
    for fate in fates.values():
        for job_id in fate.job_ids:
            shown = module_stack.cluster.show(job_id)[0]
            rows = sacct(module_stack, "-j", str(job_id), f"--format={columns}")
            assert [
                str(job_id),
                shown["JobName"],
                shown["Partition"],
                shown["NumNodes"],
                shown["NodeList"] or "None assigned",
                # sacct says by whom, scontrol doesn't
                "CANCELLED by 0" if fate.state == "CANCELLED" else fate.state,
                fate.recorded_exit_code,
                shown["EndTime"],
            ] in rows


def test_sacct_filters(module_stack: Stack, fates: dict[str, Fate]) -> None:
    # with -s and -S alone, sacct's window ends where it starts
    window = ("-S", "now-1hour", "-E", "now+1minute")

    def ids(*options: str) -> set[int]:
        return {int(row[0]) for row in sacct(module_stack, *window, "--format=jobid", *options)}

    def of(*titles: str) -> set[int]:
        return {job_id for title in titles for job_id in fates[title].job_ids}

    array = of("array, tasks 0 to 2", "array, task 3")
    assert ids() == of(*TITLES)
    assert ids("-s", "TIMEOUT") == of("time limit")
    assert ids("-s", "F") == of("exit code 3", "killed by a signal", "array, task 3")
    assert ids("--name=fine,cancelled") == of("completed", "cancelled while running")
    assert ids("-j", str(min(array))) == array
    assert ids("-N", "n2") >= of("cancelled while running")
    # the one that never started had asked for two nodes, and got none
    assert ids("-i", "2") == of("cancelled while running")
    assert ids("-u", "nobody") == set()
    assert ids("-r", "short") == set()
    assert ids("-S", "2000-01-01", "-E", "2001-01-01") == set()


def test_slurmjc_says_the_same(module_stack: Stack, fates: dict[str, Fate]) -> None:
    text = module_stack.slurmjc("jobs", "--json", "-S", "now-1hour")
    states = {job["job_id"]: job["state"] for job in json.loads(text)["jobs"]}
    for fate in fates.values():
        for job_id in fate.job_ids:
            assert states[job_id] == fate.state
