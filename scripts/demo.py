# SPDX-License-Identifier: MIT
"""Run every program on this host, let jobs end in every way, and show what sacct -c says about them.

Exits 0 when that is what Slurm said, 1 when it is not. Everything lives in one temporary directory and is stopped
at the end, also after ^C.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.harness.fates import Fate, submit_all
from tests.harness.rundir import run_dir
from tests.harness.stack import Stack, running_stack

# sacct's columns that `scontrol show job` knows too, with the names they have there
COMPARED = {
    "state": "JobState",
    "exitcode": "ExitCode",
    "nodelist": "NodeList",
    "nnodes": "NumNodes",
    "start": "StartTime",
    "end": "EndTime",
    "partition": "Partition",
    "jobname": "JobName",
}


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    try:
        with run_dir("slurmjcd-demo-") as directory:
            say(f"munge, slurmctld, two slurmd, Redis and slurmjcd start below {directory}")
            with running_stack(directory) as stack:
                problems = show(stack)
                say("stopping everything")
    except KeyboardInterrupt:
        print("interrupted; everything was stopped", file=sys.stderr)
        return 130
    for problem in problems:
        print(f"WRONG: {problem}", file=sys.stderr)
    verdict = f"{len(problems)} differences from" if problems else "every state, exit code, node list and time is"
    say(f"{verdict} what Slurm said ({time.monotonic() - began:.0f} s)")
    return 1 if problems else 0


def show(stack: Stack) -> list[str]:
    """Run the jobs and print what can be asked about them; return what is wrong."""
    say("submitting jobs of every fate; the one that runs into its time limit takes about half a minute")
    fates = submit_all(stack.cluster)
    width = max(len(fate.title) for fate in fates)
    for fate in fates:
        print(f"  {fate.title:<{width}}  {', '.join(map(str, fate.job_ids))}")
    stack.wait_stored(sum(len(fate.job_ids) * (fate.restarts + 1) for fate in fates))

    for options in (
        [],
        ["-l"],
        # with a state and no end, sacct ends the window where it starts
        [
            "--starttime=now-1hour",
            "--endtime=now",
            "--state=FAILED,TIMEOUT",
            "--format=JobID,JobName%14,State,ExitCode,NodeList,End",
        ],
    ):
        command = ["sacct", "-c", *options]
        say(" ".join(command))
        print(stack.cluster.run(*command), end="")

    failed = fates[1].job_ids[0]
    say(f"redis-cli SLURMJC.GET job {failed}")
    print(stack.redis.cli("SLURMJC.GET", "job", str(failed)), end="")

    status, body = stack.daemon.get("/readyz")
    say(f"GET /readyz: {status}")
    print(json.dumps(json.loads(body), indent=2))

    problems = [] if status == 200 else [f"/readyz answers {status}"]
    for fate in fates:
        for job_id in fate.job_ids:
            problems += compare(stack, fate, job_id)
    return problems


def compare(stack: Stack, fate: Fate, job_id: int) -> list[str]:
    """What the last row of sacct -c says, beside what scontrol says."""
    shown = stack.cluster.show(job_id)[0]
    columns = ",".join(COMPARED)
    text = stack.cluster.run("sacct", "-c", "-n", "-P", "-D", "-j", str(job_id), f"--format=jobid,{columns}")
    rows = [row for row in (line.split("|") for line in text.splitlines()) if row[0] == str(job_id)]
    problems = []
    if len(rows) != fate.restarts + 1:
        problems.append(f"{fate.title}: job {job_id} has {len(rows)} records, {fate.restarts + 1} would be right")
    if (shown["JobState"], shown["ExitCode"]) != (fate.state, fate.exit_code):
        problems.append(f"{fate.title}: Slurm itself says {shown['JobState']} {shown['ExitCode']} of job {job_id}")
    for column, value in zip(COMPARED, rows[-1][1:] if rows else [], strict=False):
        expected = fate.recorded_exit_code if column == "exitcode" else expected_value(shown, column)
        if value != expected:
            problems.append(f"{fate.title}: job {job_id} has {column} '{value}', Slurm says '{expected}'")
    return problems


def expected_value(shown: dict[str, str], column: str) -> str:
    """What sacct should print for a value of scontrol."""
    never_started = not shown["NodeList"]
    if column == "nodelist" and never_started:
        return "None assigned"
    if column == "start" and never_started:
        return "None"  # scontrol repeats the time of its end
    if column == "state" and shown["JobState"] == "CANCELLED":
        return "CANCELLED by 0"  # sacct says by whom
    return shown[COMPARED[column]]


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
