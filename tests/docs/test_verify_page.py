# SPDX-License-Identifier: MIT
"""The commands of docs/verify.md that need no slurmdbd (tests/accounting has one), in their order."""

from __future__ import annotations

import os
from pathlib import Path

from tests.docs.blocks import blocks, run
from tests.harness.paths import program
from tests.slurmjcd.client.site import serving
from tests.slurmjcd.client.test_verify import JOBS, logged, sacct

PAGE = Path("docs/verify.md")


def test_each_command_on_the_page_does_what_it_says(tmp_path: Path) -> None:
    sacct(tmp_path / "sacct.txt", JOBS)
    log = tmp_path / "jobcomp.log"
    log.write_text("".join(logged(each) + "\n" for each in JOBS))
    said: dict[str, str] = {}
    with serving(JOBS[:-1]) as site:
        path = f"{Path(program('slurmjc')).parent}:{os.environ['PATH']}"
        env = {"SLURMJC_SOCKET": str(site.daemon.query_socket), "PATH": path, "TZ": "UTC"}
        options = f"slurmjc verify --config {site.daemon.conf} --cluster c1"
        paths = {"/var/log/slurm/jobcomp.log": str(log), "slurmjc verify": options}
        for block in blocks(PAGE):
            if block.runs:
                said[block.name] = run(block, paths=paths, env=env, cwd=tmp_path)
    last = f"missing: {JOBS[-1]['job_id']} of ada"
    assert all(last in said[name] for name in ("file", "log", "mend"))
    assert "1 of the missing are in the store now" in said["mend"]
    assert "missing:" not in said["again"]
