# SPDX-License-Identifier: MIT
"""`slurmjc report` as a process, against a running daemon, compared with sums made here."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.slurmjcd.client.site import Site, made, serving

NOW = int(time.time())
JOBS: list[dict[str, Any]] = [
    made(job_id=number, end=NOW - 3600 * number, user=("ada", "bob,\nlab")[number % 3 == 0], uid=number % 3,
         state=(3, 5)[number % 2], node_count=2, cpu_count=8, account=None if number == 7 else "chem")
    for number in range(1, 13)
]  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(JOBS) as serving_site:
        yield serving_site


def test_by_user_is_the_default_and_most_jobs_come_first(site: Site) -> None:
    done = site.run("report", "-a")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["user", "jobs", "node_hours", "cpu_hours", "mean_wait_s", "mean_run_s"],
        ["ada", "8", "0.3", "1.1", "40", "60"],
        ["bob,\\nlab", "4", "0.1", "0.5", "40", "60"],
    ]
    assert "jobs that ended from" in done.stderr


def test_csv_quotes_and_escapes(site: Site) -> None:
    done = site.run("report", "user", "state", "-a", "--csv")
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows[0] == ["user", "state", "jobs", "node_seconds", "cpu_seconds", "wait_seconds", "run_seconds"]
    assert sorted(rows[1:]) == [
        ["ada", "COMPLETED", "4", "480", "1920", "160", "240"],
        ["ada", "FAILED", "4", "480", "1920", "160", "240"],
        ["bob,\\nlab", "COMPLETED", "2", "240", "960", "80", "120"],
        ["bob,\\nlab", "FAILED", "2", "240", "960", "80", "120"],
    ]


def test_json_holds_times_as_numbers_and_nothing_as_null(site: Site) -> None:
    found = json.loads(site.run("report", "account", "hour", "-a", "--json").stdout)
    assert found["schema"] == "slurmjc.report/1"
    assert found["meta"]["by"] == ["account", "hour"]
    hours = [fields["end"] // 3600 * 3600 for fields in JOBS]
    assert sorted(group["hour"] for group in found["groups"]) == sorted(hours)
    assert [group["hour"] for group in found["groups"] if group["account"] is None] == [hours[6]]


def test_days_are_in_order_of_time_and_count_every_job(site: Site) -> None:
    done = site.run("report", "day", "-a", "--csv", "-n")
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows == sorted(rows)
    assert sum(int(row[1]) for row in rows) == len(JOBS)
    assert {row[0] for row in rows} == {time.strftime("%Y-%m-%d", time.gmtime(fields["end"])) for fields in JOBS}


def test_flags_select_as_in_jobs(site: Site) -> None:
    assert site.run("report", "-a", "-s", "F", "-A", "chem", "--csv", "-n").stdout.splitlines() == [
        "ada,3,360,1440,120,180", '"bob,\\nlab",2,240,960,80,120',
    ]  # fmt: skip
    assert site.run("report", "-u", "2", "--csv", "-n").stdout.startswith("ada,4,")
    assert site.run("report", "-a", "-A", "nobody", "--csv", "-n").stdout == ""


def test_clusters_are_told_apart(site: Site) -> None:
    done = site.run("report", "cluster", "-a", "--csv", "-n")
    assert sum(int(line.split(",")[1]) for line in done.stdout.splitlines()) == len(JOBS)
    assert site.run("report", "cluster", "-a", "--csv", "-n", "-M", "all").stdout == done.stdout
    assert site.run("report", "cluster", "-a", "--csv", "-n", "-M", "nosuch").stdout == ""


def test_top_says_what_it_left_out(site: Site) -> None:
    done = site.run("report", "-a", "--top", "1", "--csv", "-n")
    assert done.stdout.startswith("ada,8,")
    assert len(done.stdout.splitlines()) == 1
    assert "1 smaller groups left out" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["colour"], "'colour' is not one of 'user', 'account'"),
        (["user", "state", "day"], "a report is by one or two fields, not by 3"),
        (["--csv", "--json"], "--csv and --json exclude each other"),
        (["--top", "0"], "--top"),
        (["-x", "1"], "only slurmdbd has associations"),
        (["-s", "GONE"], "unknown job state 'GONE'"),
    ],
)
def test_wrong_use_is_one_clear_error(site: Site, words: list[str], said: str) -> None:
    done = site.run("report", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
