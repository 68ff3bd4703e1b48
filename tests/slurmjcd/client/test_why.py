# SPDX-License-Identifier: MIT
"""`slurmjc why` as a process, against a running daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.slurmjcd.client.site import Site, serving

NOW = int(time.time())
JOBS: list[dict[str, Any]] = [
    {"job_id": 1, "state": 5, "exit_code": 127 << 8, "nodes": "n1", "end": NOW - 5000, "extra": {}},
    {
        "job_id": 2,
        "state": 5,
        "exit_code": 11,
        "nodes": "n[2-3]",
        "end": NOW - 5000,
        "extra": {"std_err": "/tmp/e\x1b"},
    },
    {"job_id": 3, "state": 5, "exit_code": (128 + 9) << 8, "nodes": "n9", "end": NOW - 4990, "time_limit": 60},
    {"job_id": 4, "state": 6, "nodes": "n9", "end": NOW - 4000, "time_limit": 1},
    {"job_id": 5, "state": 4, "start": 0, "nodes": None, "end": NOW - 4000, "extra": {"cancelled_by": 42}},
    {"job_id": 6, "state": 7, "nodes": "n3", "end": NOW - 4800, "extra": {"failed_node": "n3"}},
    {"job_id": 7, "state": 3, "nodes": "n3", "end": NOW - 4900},
    {"job_id": 8, "state": 5, "exit_code": 5 << 8, "nodes": "n3", "end": NOW - 3000},
    {"job_id": 9, "state": 11, "nodes": "n1", "end": NOW - 900, "tres_req": "cpu=1,mem=4G"},
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(JOBS) as serving_site:
        yield serving_site


@pytest.mark.parametrize(
    ("jobid", "said"),
    [
        ("1", ["FAILED", "exit code 127: a command was not found"]),
        ("2", ["ended by signal 11, SIGSEGV: it touched memory", "its error output went to /tmp/e\\x1b"]),
        ("3", ["exit code 137: its last command ended by signal 9, SIGKILL", "of 01:00:00, after waiting 00:00:40"]),
        ("4", ["TIMEOUT", "it reached its time limit", "ran 00:01:00 of 00:01:00"]),
        ("5", ["CANCELLED by uid 42", "it never started; it had waited 00:01:40"]),
        ("6", ["NODE_FAIL", "a node failed: n3"]),
        ("8", ["exit code 5, which the job itself chose", "no other job died on its nodes within 10 minutes"]),
        ("9", ["OUT_OF_MEMORY", "--mem", "asked for cpu=1,mem=4G"]),
    ],
)
def test_how_it_ended_in_words(site: Site, jobid: str, said: list[str]) -> None:
    done = site.run("why", jobid)
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stdout


def test_others_that_died_there_and_then(site: Site) -> None:
    """Not those on other nodes, at other times, or that ended well."""
    lines = site.run("why", "2").stdout.splitlines()
    at = lines.index("  1 other job died on its nodes within 10 minutes:")
    assert lines[at + 1].startswith("    6 NODE_FAIL on n3 20")
    assert len(lines) == at + 2


def test_a_job_that_is_not_there(site: Site) -> None:
    done = site.run("why", "4711")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "slurmjc: job 4711 isn't there, or isn't yours to see\n"


@pytest.mark.parametrize("jobid", ["x", "", "1,,", "-1"])
def test_what_is_no_job_id(site: Site, jobid: str) -> None:
    done = site.run("why", "--", jobid)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"Error: '{jobid}' is no job: 100, 100-109, 100_5, 100_[1-3,7] or 100+1"
