# SPDX-License-Identifier: MIT
"""The scripts of docs/workflows.md, as they stand there, with real jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness import ROOT, wait_until
from tests.harness.paths import program
from tests.harness.stack import Stack

pytestmark = pytest.mark.long

_BLOCK = re.compile(r"^```bash file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all of them."""
    place = tmp_path_factory.mktemp("workflows")
    text = (ROOT / "docs" / "workflows.md").read_text()
    for name, body in _BLOCK.findall(text):
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
        path.chmod(0o755)
    return place


@pytest.fixture
def env(module_stack: Stack, scripts: Path) -> Mapping[str, str]:
    path = f"{Path(program('slurmjc')).parent}:{os.environ['PATH']}"
    return {
        **os.environ,
        **module_stack.cluster.env,
        "PATH": path,
        "SLURMJC_SOCKET": str(module_stack.daemon.query_socket),
    }


def run(*words: str | Path, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def batch(directory: Path, name: str, body: str) -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n#SBATCH -o /dev/null\n{body}\n")
    return str(path)


def job_of(stack: Stack, name: str) -> str:
    """The id of the job that runs under this name."""
    return wait_until(lambda: stack.cluster.run("squeue", "-h", "-t", "R", "-n", name, "-o", "%i"), what=name).strip()


def test_run_ends_as_its_job_does(module_stack: Stack, scripts: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    script = batch(tmp_path, "fails", "exit $1")
    assert run(scripts / "slurmjc-run", "-n1", script, "17", env=env, cwd=tmp_path).returncode == 17
    assert run(scripts / "slurmjc-run", "-n1", script, "0", env=env, cwd=tmp_path).returncode == 0
    assert run(scripts / "slurmjc-run", "--no-such-option", env=env, cwd=tmp_path).returncode != 0


def test_run_that_is_stopped_cancels_its_job(
    module_stack: Stack, scripts: Path, env: Mapping[str, str], tmp_path: Path
) -> None:
    script = batch(tmp_path, "long", "sleep 300")
    process = subprocess.Popen([scripts / "slurmjc-run", "-J", "stopped", script], env=env, cwd=tmp_path)
    job = job_of(module_stack, "stopped")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert module_stack.cluster.wait_ended([int(job)])[int(job)]["JobState"] == "CANCELLED"


def test_snakemake_is_told_the_status(
    module_stack: Stack, scripts: Path, env: Mapping[str, str], tmp_path: Path
) -> None:
    cluster = module_stack.cluster
    running, good, bad = (cluster.sbatch(body) for body in ("sleep 300", "true", "exit 2"))
    run(program("slurmjc"), "wait", str(good), str(bad), env=env, cwd=tmp_path)

    def status(job: int, more: str = "") -> str:
        return run(scripts / "slurmjc-status", f"{job}{more}", env=env, cwd=tmp_path).stdout.strip()

    assert (status(running), status(good), status(bad)) == ("running", "success", "failed")
    assert status(good, ";demo") == "success"  # as sbatch --parsable has it with several clusters
    away = {**env, "SLURMJC_SOCKET": str(tmp_path / "none")}
    assert run(scripts / "slurmjc-status", str(good), env=away, cwd=tmp_path).stdout.strip() == "running"
    cluster.run("scancel", str(running))


def test_nextflow_is_told_why(module_stack: Stack, scripts: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    cluster = module_stack.cluster
    good, bad = cluster.sbatch("true"), cluster.sbatch("exit 127")
    rows = [
        ("1", str(good), "a", "COMPLETED", "0"),
        ("2", str(bad), "b", "FAILED", "-"),
        ("3", "-", "c", "ABORTED", "-"),
    ]
    lines = ["\t".join(row) for row in [("task_id", "native_id", "name", "status", "exit"), *rows]]
    (tmp_path / "trace.txt").write_text("\n".join(lines).replace(" ", "\t") + "\n")
    out = run(scripts / "nextflow-why", env=env, cwd=tmp_path).stdout
    assert f"job {bad} " in out
    assert "exit code 127: a command was not found" in out
    assert f"job {good} " not in out


def test_toil_gets_what_it_asks_sacct_for(
    module_stack: Stack, scripts: Path, env: Mapping[str, str], tmp_path: Path
) -> None:
    cluster = module_stack.cluster
    good, bad, running = (cluster.sbatch(body) for body in ("true", "exit 2", "sleep 300"))
    run(program("slurmjc"), "wait", str(good), str(bad), env=env, cwd=tmp_path)
    # the command line of src/toil/batchSystems/slurm.py, _getJobDetailsFromSacct
    words = ["-n", "-j", f"{good},{bad},{running}", "--format", "JobIDRaw,State,ExitCode", "-P", "-S", "1970-01-01"]
    shadowed = {**env, "PATH": f"{scripts / 'bin'}:{env['PATH']}"}
    done = run("sacct", *words, env=shadowed, cwd=tmp_path)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == sorted([f"{good}|COMPLETED|0:0", f"{bad}|FAILED|2:0"])
    cluster.run("scancel", str(running))


def test_every_script_is_plain_shell(scripts: Path) -> None:
    found = [path for path in sorted(scripts.rglob("*")) if path.is_file()]
    assert [path.name for path in found] == ["sacct", "nextflow-why", "slurmjc-run", "slurmjc-status"]
    for path in found:
        subprocess.run(["bash", "-n", str(path)], check=True)
