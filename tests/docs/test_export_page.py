# SPDX-License-Identifier: MIT
"""The commands of docs/export.md, one after the other as they stand there."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.docs.blocks import blocks, run
from tests.harness.paths import program
from tests.slurmjcd.client.site import made, serving

PAGE = Path("docs/export.md")


def test_each_command_on_the_page_does_what_it_says(tmp_path: Path) -> None:
    now = int(time.time())
    jobs = [made(job_id=number, end=now - number, account="physics") for number in (4711, 4712, 5000)]
    with serving(jobs) as site:
        path = f"{Path(program('slurmjc')).parent}:{os.environ['PATH']}"
        env = {"SLURMJC_SOCKET": str(site.daemon.query_socket), "PATH": path}
        said = "".join(
            run(
                block,
                paths={"slurmjc import": f"slurmjc import --config {site.daemon.conf} --cluster c1"},
                env=env,
                cwd=tmp_path,
            )
            for block in blocks(PAGE)
            if block.runs
        )
    assert "3 jobs in jobs.parquet" in said
    assert "already_there 3" in " ".join(said.split())
    assert '"job_id": 4711' in said
    assert (tmp_path / "jobs.parquet").read_bytes().startswith(b"PAR1")
    assert len((tmp_path / "physics.csv").read_text().splitlines()) == 1 + len(jobs)
    assert (tmp_path / "slurm.log").read_text() == ""  # none of them ended that day
