# SPDX-License-Identifier: MIT
"""The commands that docs/slurmjc.md begins with, each as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks
from tests.harness import scaled
from tests.harness.paths import program
from tests.slurmjcd.client.site import Site, made, serving

PAGE = Path("docs/slurmjc.md")
SYNOPSES = [re.split(r"\s{2,}", line)[0] for line in blocks(PAGE)[0].text.splitlines()]
# run by their own tests: they need jobs that end, slurmdbd, an administrator
ELSEWHERE = {"wait", "watch", "verify", "reshard"}
COMMANDS = [line for line in SYNOPSES if line.split()[1] not in ELSEWHERE]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    now = int(time.time())
    tasks = [made(job_id=4800 + task, array_job_id=4711, array_task_id=task, end=now - 60) for task in (5, 6)]
    failed = [made(job_id=4711, state=5, exit_code=256, end=now - 30), *tasks]
    with serving(failed) as running:
        yield running


def test_the_page_begins_with_synopses() -> None:
    assert len(SYNOPSES) > 10
    assert {line.split()[0] for line in SYNOPSES} == {"slurmjc"}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_says_something_and_ends_well(site: Site, tmp_path: Path, command: str) -> None:
    path = f"{Path(program('slurmjc')).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        shlex.split(command), env={**os.environ, "PATH": path, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
        cwd=tmp_path, capture_output=True, text=True, timeout=scaled(60), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout or list(tmp_path.iterdir())
