# SPDX-License-Identifier: MIT
"""What a user sees in the end: `sacct -c`, a process of its own, over query.sock."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

from tests.harness.paths import PLUGIN
from tests.harness.slurm_conf import SlurmOptions, slurm_conf
from tests.harness.waiting import scaled


def job_ids(directory: Path, loc: Path, *, cluster: str) -> Counter[int]:
    """How often sacct lists each job, all runs of it (-D).

    Args:
        directory: for a slurm.conf; it is made.
        loc: JobCompLoc.

    Raises:
        subprocess.CalledProcessError: sacct failed; its output has the reason.
    """
    plugins = directory / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    copy = plugins / PLUGIN.name
    if not copy.exists():
        copy.symlink_to(PLUGIN)
    conf = directory / "slurm.conf"
    options = SlurmOptions(nodes=1, cluster=cluster, job_comp_loc=str(loc))
    conf.write_text(slurm_conf(directory, directory / "munge.sock", [1, 2], options))
    words = ["sacct", "-c", "-a", "-D", "-n", "-P", "-o", "jobidraw", "-S", "2000-01-01", "-E", "2099-01-01"]
    done = subprocess.run(
        words, env={**os.environ, "SLURM_CONF": str(conf), "TZ": "UTC"},
        capture_output=True, text=True, timeout=scaled(60), check=False,
    )  # fmt: skip
    if done.returncode != 0 or done.stderr:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout[-200:], done.stderr or "no message")
    return Counter(map(int, done.stdout.split()))
