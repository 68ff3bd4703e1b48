# SPDX-License-Identifier: MIT
"""slurmjc watch: jobs as they are stored, in the forms of slurmjc jobs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import wait_until
from tests.harness.rundir import run_dir
from tests.slurmjcd.client.ending import NOW, EndingSite, ending


@pytest.fixture(scope="module")
def site() -> Iterator[EndingSite]:
    with run_dir() as path, ending(path) as site:
        yield site


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
    before = site.waiting()
    watching = site.begin("watch", "-n")
    assert watching.stdout is not None
    assert watching.stderr is not None
    watching.stdout.close()
    watching.wait(timeout=30)
    assert watching.stderr.read() == ""
    wait_until(lambda: site.waiting() <= before, what="the daemon to see that it is gone")


@pytest.mark.parametrize("flags", [("-S", "now"), ("-s", "XX"), ("-o", "nosuch"), ("--retry", "-1"), ("extra",)])
def test_bad_flags(site: EndingSite, flags: tuple[str, ...]) -> None:
    done = site.run("watch", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error:" in done.stderr


def test_it_goes_on_over_a_restart_without_hole_or_double(rundir: Path) -> None:
    with ending(rundir) as site:
        watching = site.begin("watch", "-nP", "-o", "jobid")
        seen = []
        for number in range(1, 10):
            site.end({"job_id": 10 * number})
            seen += lines(watching, 1)
            if number % 4 == 0:
                site.daemon.kill()
                site.end({"job_id": 10 * number + 1})
                site.daemon.start()
                seen += lines(watching, 1)
        assert seen == ["10", "20", "30", "40", "41", "50", "60", "70", "80", "81", "90"]


def test_what_the_stream_no_longer_has_is_said(rundir: Path) -> None:
    with ending(rundir) as site:
        site.end({"job_id": 1})
        watching = site.begin("watch", "-nP", "-o", "jobid")
        site.daemon.kill()
        site.end(*({"job_id": number} for number in range(10, 40)), keep=2)
        site.daemon.start()
        assert lines(watching, 2) == ["38", "39"]
        assert watching.stderr is not None
        assert "some are missing here" in watching.stderr.readline()
