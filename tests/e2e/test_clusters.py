# SPDX-License-Identifier: MIT
"""Two Slurm clusters in one store: the same job ids in both, told apart by everybody who asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.harness import Munge, SlurmCluster, run_dir
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.stack import Stack, running_stack


@dataclass(frozen=True)
class Site:
    """Two clusters, `one` in the stack, and the job ids that ended in each."""

    stack: Stack
    two: SlurmCluster
    jobs: dict[str, list[int]]


@pytest.fixture(scope="module")
def site(munge: Munge) -> Iterator[Site]:
    options = SlurmOptions(cluster="one", nodes=1)
    with run_dir() as directory, running_stack(directory, munge=munge, slurm_options=options) as stack:
        loc = str(stack.daemon.run_dir)
        two = SlurmCluster(directory / "two", munge.socket, SlurmOptions(cluster="two", nodes=1, job_comp_loc=loc))
        try:
            two.start()
            clusters = {"one": stack.cluster, "two": two}
            jobs = {name: [each.sbatch("true", "-J", name) for _ in range(3)] for name, each in clusters.items()}
            jobs["two"].append(two.sbatch("exit 1", "-J", "two"))
            for name, each in clusters.items():
                each.wait_ended(jobs[name])
            stack.wait_stored(7)
            yield Site(stack, two, jobs)
        finally:
            two.stop()


def sacct(cluster: SlurmCluster, *options: str) -> list[str]:
    return sorted(cluster.run("sacct", "-c", "-n", "-P", "-o", "Cluster,JobID", *options).splitlines())


def lines(site: Site, *names: str) -> list[str]:
    return sorted(f"{name}|{job_id}" for name in names for job_id in site.jobs[name])


def test_both_have_jobs_of_the_same_ids(site: Site) -> None:
    assert set(site.jobs["one"]) <= set(site.jobs["two"])


@pytest.mark.parametrize("asker", ["one", "two"])
def test_sacct_shows_its_own_cluster_unless_asked_for_another(site: Site, asker: str) -> None:
    cluster = site.stack.cluster if asker == "one" else site.two
    other = "two" if asker == "one" else "one"
    assert sacct(cluster) == lines(site, asker)
    assert sacct(cluster, "-M", other) == lines(site, other)
    assert sacct(cluster, "-M", "one,two") == lines(site, "one", "two")
    assert sacct(cluster, "-L") == lines(site, "one", "two")
    assert sacct(cluster, "-M", "three") == []


def test_one_job_id_is_a_job_in_each(site: Site) -> None:
    job_id = site.jobs["one"][0]
    assert sacct(site.two, "-j", str(job_id)) == [f"two|{job_id}"]
    assert sacct(site.two, "-M", "one,two", "-j", str(job_id)) == [f"one|{job_id}", f"two|{job_id}"]


def test_slurmjc_tells_them_apart(site: Site) -> None:
    shown = json.loads(site.stack.slurmjc("jobs", "--json", "-M", "two"))["jobs"]
    assert sorted(job["job_id"] for job in shown) == site.jobs["two"]
    assert {job["cluster"] for job in shown} == {"two"}
