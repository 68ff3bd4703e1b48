# SPDX-License-Identifier: MIT
"""Two Slurm clusters in one store: the same job ids in both, told apart by everybody who asks.

Each has a slurmjcd of its own, as on two controllers. Names are mixed case and not only letters: slurmctld makes them
lower case, sacct and sacctmgr as well.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.harness import Daemon, Munge, SlurmCluster, run_dir
from tests.harness.paths import program
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import Stack, running_stack
from tests.harness.waiting import scaled

ONE: Final = "one"
TWO: Final = "two_2-b.c"


@dataclass(frozen=True)
class Site:
    """Two clusters, `One` in the stack, and the job ids that ended in each."""

    stack: Stack
    two: SlurmCluster
    jobs: dict[str, list[int]]

    def slurmjc(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """What our own client says on the first one's host."""
        command = [program("slurmjc"), "--socket", str(self.stack.daemon.query_socket), *words]
        env = {**os.environ, **self.stack.cluster.env, **env}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=scaled(60), check=False)


@pytest.fixture(scope="module")
def site(munge: Munge) -> Iterator[Site]:
    options = SlurmOptions(cluster="One", nodes=1)
    with run_dir() as directory, running_stack(directory, munge=munge, slurm_options=options) as stack:
        daemon = Daemon(directory / "jc2", redis_address=stack.redis.address)
        loc = str(daemon.run_dir)
        two = SlurmCluster(
            directory / "two", munge.socket, SlurmOptions(cluster="Two_2-b.c", nodes=1, job_comp_loc=loc)
        )
        try:
            daemon.start()
            two.start()
            clusters = {ONE: stack.cluster, TWO: two}
            jobs = {name: [each.sbatch("true", "-J", name) for _ in range(3)] for name, each in clusters.items()}
            jobs[TWO].append(two.sbatch("exit 1", "-J", TWO))
            for name, each in clusters.items():
                each.wait_ended(jobs[name])
            stack.wait_stored(7)
            yield Site(stack, two, jobs)
        finally:
            two.stop()
            daemon.stop()


def sacct(cluster: SlurmCluster, *options: str) -> list[str]:
    return sorted(cluster.run("sacct", "-c", "-n", "-P", "-o", "Cluster,JobID", *options).splitlines())


def lines(site: Site, *names: str) -> list[str]:
    return sorted(f"{name}|{job_id}" for name in names for job_id in site.jobs[name])


def test_both_have_jobs_of_the_same_ids(site: Site) -> None:
    assert set(site.jobs[ONE]) <= set(site.jobs[TWO])


@pytest.mark.parametrize("asker", [ONE, TWO])
def test_sacct_shows_its_own_cluster_unless_asked_for_another(site: Site, asker: str) -> None:
    cluster = site.stack.cluster if asker == ONE else site.two
    other = TWO if asker == ONE else ONE
    assert sacct(cluster) == lines(site, asker)
    assert sacct(cluster, "-M", other) == lines(site, other)
    assert sacct(cluster, "-M", other.upper()) == lines(site, other)
    for words in (("-M", f"{ONE},{TWO}"), ("-M", f"{ONE},three,{TWO}"), ("-M", "all"), ("-L",)):
        assert sacct(cluster, *words) == lines(site, ONE, TWO)
    assert sacct(cluster, "-M", "three") == []


def test_one_job_id_is_a_job_in_each(site: Site) -> None:
    job_id = site.jobs[ONE][0]
    assert sacct(site.two, "-j", str(job_id)) == [f"{TWO}|{job_id}"]
    assert sacct(site.two, "-M", "all", "-j", str(job_id)) == [f"{ONE}|{job_id}", f"{TWO}|{job_id}"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), (ONE, TWO)), (("-M", "all"), (ONE, TWO)), (("-L",), (ONE, TWO)), (("-M", TWO), (TWO,)),
        (("-M", "ONE"), (ONE,)), (("--cluster", f"one,{TWO}"), (ONE, TWO)), (("-M", "three"), ()),
    ],
)  # fmt: skip
def test_slurmjc_tells_them_apart(site: Site, words: tuple[str, ...], names: tuple[str, ...]) -> None:
    shown = site.slurmjc("jobs", "-n", "-P", "-o", "cluster,jobid", *words)
    assert sorted(shown.stdout.splitlines()) == lines(site, *names)


def test_a_report_can_be_by_cluster(site: Site) -> None:
    rows = site.slurmjc("report", "cluster", "state", "--csv", "-n").stdout.splitlines()
    counts = {tuple(row.split(",")[:2]): int(row.split(",")[2]) for row in rows}
    assert counts == {(ONE, "COMPLETED"): 3, (TWO, "COMPLETED"): 3, (TWO, "FAILED"): 1}


def test_wait_waits_for_this_hosts_job_and_watch_for_whose_it_is_told(site: Site) -> None:
    """The next job of `one` has the id of a failed one of the other; and while it runs the other's next one ends."""
    env = {**os.environ, **site.stack.cluster.env}
    socket = str(site.stack.daemon.query_socket)
    command = [program("slurmjc"), "--socket", socket, "watch", "-n", "-P", "-o", "cluster,jobid", "-M", ONE]
    watch = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert watch.stdout is not None
        job_id = site.stack.cluster.sbatch("sleep 3; exit 7", "-J", ONE)
        assert job_id == site.jobs[TWO][-1]
        site.jobs[ONE].append(job_id)
        assert site.slurmjc("wait", str(job_id)).returncode == 7
        assert site.slurmjc("wait", "-M", TWO, str(job_id)).returncode == 1
        assert site.slurmjc("wait", str(job_id), SLURM_CLUSTERS=TWO).returncode == 1
        assert watch.stdout.readline() == f"{ONE}|{job_id}\n"
    finally:
        watch.kill()
        watch.communicate()
