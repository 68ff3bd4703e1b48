# SPDX-License-Identifier: MIT
"""bench/run scale: every job it calls is stored and found again, and the words name what took the most time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bench import scale
from bench.cli import benchmarks
from slurmjcd.store.shards import shard_prefixes

JOBS = 4_001


def test_every_job_is_stored_and_asked_for(rundir: Path) -> None:
    servers = scale.Servers(rundir / "single", cluster=False)
    servers.start()
    try:
        found = scale.measure_shards(rundir, servers, 3, JOBS)
        assert servers.memory() > 0
        with closing(scale.Counts(servers, shard_prefixes(b"job", 3))) as counts:
            assert counts() == 0  # emptied, for the next number of shards
    finally:
        servers.stop()
    assert found["jobs"] == JOBS
    for key in ("jobs_per_s", "daemon_loop_us_per_job", "servers_us_per_job", "bytes_per_job", "job_ms", "rows_per_s"):
        assert found[key] > 0, key
    assert found["busiest_server_us_per_job"] == found["servers_us_per_job"]  # there is one


def test_the_bound_is_who_takes_longest() -> None:
    figures = {
        "cores_busy": 1.5,
        "daemon_loop_us_per_job": 4.0,
        "daemon_others_us_per_job": 1.0,
        "busiest_server_us_per_job": 2.0,
    }
    said = scale.bounds(figures, 2)
    assert said["bound"] == "1.5 of 2 cores were busy; with a core for each, the daemon's event loop at 250,000 jobs/s"
    assert scale.bounds({**figures, "busiest_server_us_per_job": 5.0}, 2)["limit"] == "the busiest server"


def test_it_is_one_of_the_benchmarks() -> None:
    assert "scale" in benchmarks()
