# SPDX-License-Identifier: MIT
"""Jobs that end while slurmjcd is down, at a site whose slurmctld has Slurm's own jobcomp/elasticsearch."""

from __future__ import annotations

from pathlib import Path

from tests.harness import Munge
from tests.harness.ports import free_ports
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import running_stack


def test_jobs_that_end_while_the_daemon_is_down_arrive_once_it_is_back(rundir: Path, munge: Munge) -> None:
    """The plugin brings a job again 30 s after it failed to, and keeps what is left when slurmctld ends in order."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    options = SlurmOptions(job_comp_type="jobcomp/elasticsearch", job_comp_loc=f"http://{address}/intake/demo")
    settings = {"intake": {"listen": address}}
    with running_stack(rundir, munge=munge, slurm_options=options, daemon_settings=settings) as stack:
        cluster = stack.cluster
        before = [cluster.sbatch("true") for _ in range(3)]
        cluster.wait_ended(before)
        stack.wait_stored(3)
        stack.daemon.kill()
        away = [cluster.sbatch("true") for _ in range(5)]
        cluster.wait_ended(away)
        cluster.slurmctld.stop()
        cluster.start_controller()
        again = cluster.sbatch("exit 1")
        cluster.wait_ended([again])
        stack.daemon.start()
        stack.wait_stored(9, timeout_s=90)
        jobs = [*before, *away, again]
        assert [len(stack.runs(job_id)) for job_id in jobs] == [1] * 9
