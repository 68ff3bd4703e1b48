# SPDX-License-Identifier: MIT
"""slurmjc watch: jobs as they are stored, in the forms of slurmjc jobs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from slurmjcd.client.connection import Connection
from slurmjcd.client.following import Follower
from slurmjcd.record import decode
from tests.harness import wait_until
from tests.harness.rundir import run_dir
from tests.slurmjcd.client.ending import NOW, EndingSite, ending


@pytest.fixture(scope="module")
def shared() -> Iterator[EndingSite]:
    with run_dir() as path, ending(path) as site:
        yield site


@pytest.fixture
def site(shared: EndingSite) -> Iterator[EndingSite]:
    yield shared
    shared.finish()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next lines; each comes as soon as its job is stored."""
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def test_each_job_is_printed_as_it_is_stored(site: EndingSite) -> None:
    watching = site.begin("watch", "-o", "jobid,state,exitcode")
    site.end({"job_id": 1})
    assert [line.split() for line in lines(watching, 3)][::2] == [
        ["JobID", "State", "ExitCode"],
        ["1", "COMPLETED", "0:0"],
    ]
    site.end({"job_id": 2, "state": 5, "exit_code": 256})
    assert lines(watching, 1)[0].split() == ["2", "FAILED", "1:0"]


def test_filters_are_those_of_jobs(site: EndingSite) -> None:
    watching = site.begin("watch", "-r", "gpu", "-s", "F,TO", "-nP", "-o", "jobid")
    site.end({"job_id": 3, "partition": "gpu"}, {"job_id": 4, "state": 5})
    site.end({"job_id": 5, "state": 6, "partition": "gpu"}, {"job_id": 6, "state": 5, "partition": "gpu"})
    assert lines(watching, 2) == ["5", "6"]


def test_a_job_that_ended_long_ago_and_is_stored_now_is_new(site: EndingSite) -> None:
    watching = site.begin("watch", "-nP", "-o", "jobid")
    site.end({"job_id": 7, "end": NOW - 10 * 86400})
    assert lines(watching, 1) == ["7"]


def test_json_has_one_object_a_line(site: EndingSite) -> None:
    watching = site.begin("watch", "--json")
    site.end({"job_id": 8, "name": "a\nb"}, {"job_id": 9})
    seen = [json.loads(line) for line in lines(watching, 2)]
    assert [(job["id"], job["name"]) for job in seen] == [("8", "a\nb"), ("9", "job9")]


def test_interrupted_it_is_quiet(site: EndingSite) -> None:
    watching = site.begin("watch", "-n")
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=30) == ("", "")
    assert watching.returncode == 130


def test_it_ends_when_nobody_reads_any_more(site: EndingSite) -> None:
    """At once, not only when the next job makes it write."""
    watching = site.begin("watch", "-n")
    assert watching.stdout is not None
    assert watching.stderr is not None
    watching.stdout.close()
    watching.wait(timeout=30)
    assert watching.stderr.read() == ""
    wait_until(lambda: site.waiting() == 0, what="the daemon to see that it is gone")


@pytest.mark.parametrize("flags", [("-S", "now"), ("-s", "XX"), ("-o", "nosuch"), ("--retry", "-1"), ("extra",)])
def test_bad_flags(site: EndingSite, flags: tuple[str, ...]) -> None:
    done = site.run("watch", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error:" in done.stderr


def test_what_ends_while_it_starts_is_told(site: EndingSite) -> None:
    """The answer that only wanted the place may have jobs in it already."""
    follower = Follower(lambda: Connection(str(site.daemon.query_socket), 10.0), [], patience_s=1.0)
    follower.start()
    site.end({"job_id": 50})
    follower.start()
    assert [decode(record)["job_id"] for record in follower.next(None)] == [50]
    follower.connection.close()
