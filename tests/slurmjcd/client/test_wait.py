# SPDX-License-Identifier: MIT
"""slurmjc wait: woken by the end of a job, not by a clock, and ended as the job did."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import wait_until
from tests.harness.rundir import run_dir
from tests.slurmjcd.client.ending import NOW, EndingSite, ending

REQUEUED = 1 << 10


@pytest.fixture(scope="module")
def shared() -> Iterator[EndingSite]:
    with run_dir() as path, ending(path) as site:
        yield site


@pytest.fixture
def site(shared: EndingSite) -> Iterator[EndingSite]:
    with shared.redis.client() as client:
        keys = client.keys("job:seg:*")
        if keys:
            client.delete(*keys)
    yield shared
    shared.finish()


def test_it_is_woken_and_returns_the_jobs_own_status(site: EndingSite) -> None:
    waiting = site.wait("7")
    site.end({"job_id": 8, "exit_code": 1 << 8, "state": 5}, {"job_id": 7, "exit_code": 42 << 8, "state": 5})
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out, err) == (42, "7 FAILED 42:0\n", "")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"exit_code": 0, "state": 3}, 0),
        ({"exit_code": 3 << 8, "state": 5}, 3),
        ({"exit_code": 9, "state": 5}, 137),
        ({"exit_code": 0, "state": 6}, 1),  # TIMEOUT
        ({"exit_code": 0, "state": 4}, 1),  # CANCELLED
        ({"exit_code": None, "state": 7}, 125),
        ({"exit_code": None, "state": 3}, 0),
    ],
)
def test_a_job_that_has_ended_returns_at_once(site: EndingSite, fields: dict[str, Any], status: int) -> None:
    site.end({"job_id": 7, **fields})
    assert site.run("wait", "--no-squeue", "7", "-q").returncode == status


def test_of_several_the_highest_status_counts(site: EndingSite) -> None:
    site.end({"job_id": 1, "exit_code": 2 << 8, "state": 5})
    waiting = site.wait("1", "2,3")
    site.end({"job_id": 3, "exit_code": 9, "state": 5})
    site.end({"job_id": 2})
    assert waiting.communicate(timeout=30)[0].splitlines() == ["1 FAILED 2:0", "3 FAILED 0:9", "2 COMPLETED 0:0"]
    assert waiting.returncode == 137


def test_a_requeued_job_is_not_at_its_end(site: EndingSite) -> None:
    requeued = {"job_id": 7, "state": 4, "extra": {"state_flags": REQUEUED}, "start": NOW - 50}
    site.end(requeued)
    waiting = site.wait("7")
    site.end(requeued | {"start": NOW - 40, "restart_count": 1})
    site.end({"job_id": 7, "restart_count": 2, "start": NOW - 1})
    assert waiting.communicate(timeout=30)[0] == "7 COMPLETED 0:0\n"


def test_tasks_of_an_array_are_waited_for_one_by_one(site: EndingSite) -> None:
    waiting = site.wait("100_[1-2,4]", "100_7")
    for task, job_id in ((3, 103), (1, 101), (4, 104), (7, 100)):
        site.end({"job_id": job_id, "array_job_id": 100, "array_task_id": task})
    assert waiting.poll() is None
    site.end({"job_id": 102, "array_job_id": 100, "array_task_id": 2, "exit_code": 1 << 8, "state": 5})
    out, _ = waiting.communicate(timeout=30)
    assert [line.split()[0] for line in out.splitlines()] == ["100_1", "100_4", "100_7", "100_2"]
    assert waiting.returncode == 1


def test_a_task_or_a_part_by_its_own_number(site: EndingSite) -> None:
    """The one that sacct calls JobIDRaw, and SLURM_JOB_ID in the job."""
    waiting = site.wait("101", "201")
    site.end({"job_id": 101, "array_job_id": 100, "array_task_id": 1, "exit_code": 6 << 8, "state": 5})
    site.end({"job_id": 201, "het_job_id": 200, "het_job_offset": 1})
    assert waiting.wait(timeout=30) == 6
    assert site.run("wait", "--no-squeue", "101").returncode == 6


def test_an_array_that_is_over_counts_as_a_whole(site: EndingSite) -> None:
    site.end(
        {"job_id": 101, "array_job_id": 100, "array_task_id": 1, "exit_code": 5 << 8, "state": 5},
        {"job_id": 100, "array_job_id": 100, "array_task_id": 2},
    )
    done = site.run("wait", "--no-squeue", "100")
    assert (done.returncode, len(done.stdout.splitlines())) == (5, 2)


def test_parts_of_a_het_job(site: EndingSite) -> None:
    waiting = site.wait("200+1")
    site.end({"job_id": 200, "het_job_id": 200, "het_job_offset": 0, "exit_code": 1 << 8, "state": 5})
    site.end({"job_id": 201, "het_job_id": 200, "het_job_offset": 1})
    assert waiting.communicate(timeout=30)[0] == "200+1 COMPLETED 0:0\n"
    done = site.run("wait", "--no-squeue", "200")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)


def test_a_time_limit_names_what_has_not_ended(site: EndingSite) -> None:
    site.end({"job_id": 1})
    done = site.run("wait", "--no-squeue", "--timeout", "0", "1", "2")
    assert done.returncode == 124
    assert done.stderr == "slurmjc: not ended within 0 s: 2\n"
    assert site.run("wait", "--no-squeue", "--timeout", "0.2", "2").returncode == 124


def test_json_has_the_job_as_jobs_has_it(site: EndingSite) -> None:
    site.end({"job_id": 1})
    waited, listed = site.run("wait", "--no-squeue", "1", "--json"), site.run("jobs", "-j1", "--ndjson")
    assert json.loads(waited.stdout) == json.loads(listed.stdout)


def test_interrupted_it_is_quiet(site: EndingSite) -> None:
    waiting = site.wait("5")
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out, err.strip()) == (130, "", "")
    wait_until(lambda: site.waiting() == 0, what="the daemon to see that it is gone")


@pytest.mark.parametrize("word", ["x", "1_", "1_[a]", "1_[3-]", "1+", "-1", "1.2", "1_[1-999999999]"])
def test_what_is_no_job_is_a_usage_error(site: EndingSite, word: str) -> None:
    done = site.run("wait", "--", word)
    assert done.returncode == 2
    assert "Error:" in done.stderr


def test_several_clusters_share_job_ids(site: EndingSite) -> None:
    waiting = site.wait("-M", "c2", "7")
    site.end({"job_id": 7, "cluster": "c1", "exit_code": 1 << 8, "state": 5})
    site.end({"job_id": 7, "cluster": "c2"})
    assert waiting.wait(timeout=30) == 0


def test_without_a_word_it_waits_for_a_job_of_this_hosts_cluster(site: EndingSite, tmp_path: Path) -> None:
    """Another cluster's job of the same id says nothing about this one: before it is asked, and while it waits."""
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=C2\n")
    site.end({"job_id": 7, "cluster": "c1", "exit_code": 1 << 8, "state": 5})
    for env in ({"SLURM_CONF": str(conf)}, {"SLURM_CLUSTERS": "c2"}):
        waiting = site.wait("7", env=env)
        site.end({"job_id": 7, "cluster": "c1", "exit_code": 1 << 8, "state": 5, "restart_count": 1})
        site.end({"job_id": 7, "cluster": "c2", "end": NOW + 1})
        assert waiting.wait(timeout=30) == 0
    assert site.run("wait", "--no-squeue", "-M", "C1", "7", SLURM_CONF=str(conf)).returncode == 1


def test_a_federations_job_may_run_in_any_of_its_clusters(site: EndingSite, tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=c2\n")
    job_id = (1 << 26) + 7
    for words in ((str(job_id),), ("-M", "all", str(job_id)), ("-M", "c1,c2", str(job_id))):
        waiting = site.wait(*words, env={"SLURM_CONF": str(conf)})
        site.end({"job_id": job_id, "cluster": "c1", "exit_code": 9 << 8, "state": 5})
        assert waiting.wait(timeout=30) == 9


def test_without_squeue_it_waits_all_the_same(site: EndingSite) -> None:
    waiting = site.begin("wait", "7", env={"PATH": "/nonexistent"})
    site.end({"job_id": 7})
    assert waiting.wait(timeout=30) == 0


def test_nobody_there_is_3(site: EndingSite, tmp_path: Path) -> None:
    done = site.run("--socket", str(tmp_path / "none"), "wait", "--no-squeue", "1")
    assert done.returncode == 3


def test_without_events_it_says_so(rundir: Path) -> None:
    with ending(rundir, settings={"redis": {"events": 0}}) as site:
        done = site.run("wait", "--no-squeue", "7")
        assert (done.returncode, done.stderr) == (1, "slurmjc: events are off: redis.events is 0 in slurmjcd.toml\n")
