# SPDX-License-Identifier: MIT
"""slurmjc stats, of a site with some days of jobs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from slurmjcd.client.connection import Connection
from slurmjcd.client.stats import stats
from tests.harness import Daemon, RedisServer
from tests.slurmjcd.client.site import Site, serving
from tests.slurmjcd.doctor.clinic import DAY_S

TODAY = int(time.time()) // DAY_S
DAYS = 20


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    jobs: list[dict[str, Any]] = [
        {"job_id": day * 100 + n + 1, "end": (TODAY - day) * DAY_S + n} for day in range(DAYS) for n in range(50)
    ]
    with serving(jobs) as site:
        yield site


def told(site: Site, *args: str) -> dict[str, Any]:
    done = site.run("stats", "--json", *args)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["schema"] == "slurmjc.stats/1"
    return document


def test_stats_as_json(site: Site) -> None:
    document = told(site)
    store, grows = document["store"], document["growth"]
    assert (store["jobs"], store["segments"]) == (50 * DAYS, DAYS)
    assert store["bytes_per_job"] == pytest.approx(store["bytes"] / store["jobs"])
    assert (grows["days"], grows["jobs_per_day"]) == (7, 50.0)
    assert grows["memory"]["limit"] == "host"
    assert grows["memory"]["days_left"] > 1000
    assert grows["disk"]["free_bytes"] > 0
    assert [segment["jobs"] for segment in document["segments"]] == [50] * DAYS
    assert sum(segment["bytes"] for segment in document["segments"]) == store["bytes"]
    assert document["segments"][-1]["day"] == time.strftime("%Y-%m-%d", time.gmtime(TODAY * DAY_S))
    assert document["retention_s"] is None


def test_a_limit_of_memory_ends_some_day(site: Site) -> None:
    with RedisServer(site.daemon.directory.parent / "redis").client() as client:
        used = told(site)["growth"]["memory"]["used_bytes"]
        rate = told(site)["growth"]["bytes_per_day"]
        client.config_set("maxmemory", int(used + 100 * rate))
        try:
            memory = told(site)["growth"]["memory"]
        finally:
            client.config_set("maxmemory", 0)
    assert memory["limit"] == "maxmemory"
    assert 50 < memory["days_left"] < 110


def test_stats_for_people_fit_40_columns(site: Site) -> None:
    done = site.run("stats", "--days", "3")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[0] == "jobs          1,000"
    assert "jobs a day    50" in lines
    assert "memory lasts  more than 10 years" in lines
    assert lines[-1] == f"and {DAYS - 3} earlier (--days)"
    assert len([line for line in lines if line.startswith("20")]) == 3
    assert "\x1b" not in done.stdout


def test_an_empty_store() -> None:
    with serving([]) as empty:
        done = empty.run("stats")
        assert (done.returncode, done.stderr) == (0, "")
        assert "growth        known after a day" in done.stdout.splitlines()
        assert told(empty)["store"]["bytes_per_job"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who is no operator")
def test_who_is_no_operator_is_told_of_the_daemon_only(site: Site) -> None:
    redis = RedisServer(site.daemon.directory.parent / "redis")
    settings = {"access": {"private_data": True}}
    other = Daemon(site.daemon.directory.parent / "private", redis_address=redis.address, settings=settings)
    other.start()
    try:
        os.seteuid(64103)
        try:
            done = CliRunner().invoke(stats, [], obj=lambda: Connection(str(other.query_socket), 10))
        finally:
            os.seteuid(0)
    finally:
        other.stop()
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].startswith("received")
    assert done.stderr == "slurmjc: what is stored is told to operators only (access.operators)\n"
