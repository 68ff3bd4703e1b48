# SPDX-License-Identifier: MIT
"""What people give sacct -c that can't be right, and stores that leave: an error and a status, or the right rows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Daemon, RedisServer, run_dir, wait_until
from tests.harness.paths import PLUGIN, program
from tests.harness.slurm_conf import SlurmOptions, slurm_conf
from tests.harness.waiting import scaled
from tests.slurmjcd.jobs import NOON, job

FIRST = 1001
JOBS = 20_000
WINDOW = ("-S", "2026-03-01", "-E", "2026-03-02")
KEPT = {name: os.environ[name] for name in ("PATH", "LD_PRELOAD", "ASAN_OPTIONS") if name in os.environ}


@dataclass
class Site:
    """JOBS jobs that ended at NOON or a little later, on nodes n1 to n100, and sacct."""

    redis: RedisServer
    daemon: Daemon
    conf: Path

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sacct", "-c", "-nP", "-o", "jobid", *args],
            env={**KEPT, "SLURM_CONF": str(self.conf), "TZ": "UTC"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *args: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        with self.start(*args) as sacct:
            out, err = sacct.communicate(timeout=scaled(300))
        return sacct.returncode, out, err


def build(directory: Path, **settings: Any) -> Site:
    redis = RedisServer(directory / "redis", options={"appendonly": "yes"})
    redis.start()
    daemon = Daemon(directory / "jc", redis_address=redis.address, settings=settings)
    plugins = directory / "plugins"
    plugins.mkdir()
    shutil.copy(PLUGIN, plugins)
    conf = directory / "slurm.conf"
    options = SlurmOptions(cluster="c1", job_comp_loc=str(daemon.run_dir))
    conf.write_text(slurm_conf(directory, directory / "munge.sock", [1, 2, 3], options))
    with redis.client() as client:
        records = [job(FIRST + n, end=NOON + n // 100, nodes=f"n{n % 100 + 1}") for n in range(JOBS)]
        for at in range(0, JOBS, 500):
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records[at : at + 500])
    daemon.start()
    return Site(redis, daemon, conf)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with run_dir() as directory:
        site = build(directory)
        yield site
        site.daemon.stop()
        site.redis.stop()


# --- questions that can't be right -----------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-u", "no-such-user"], "Invalid user id: no-such-user"),
        (["-g", "no-such-group"], "Invalid group id: no-such-group"),
        (["-s", "HAPPY"], "unrecognized job state value 'HAPPY'"),
        (["-S", "2026-03-02", "-E", "2026-03-01"], "is after end time"),
        (["-S", "soon"], "Invalid time specification"),
        (["-j", "abc"], "Bad job/step specified: abc"),
        (["-j", "1_[1-"], "Bad job array element specified"),
        (["-N", "n[1"], "criterion 'node': a bracket in a node list is not closed"),
        (["-N", "n[5-2]"], "criterion 'node': brackets in a node list hold something else than"),
        (["-N", "n[a-b]"], "criterion 'node': brackets in a node list hold something else than"),
        (["-N", "n[1]]"], "criterion 'node': a node list closes a bracket it did not open"),
        (["-N", ",,"], "criterion 'node': a node list names no node"),
        (["-N", "n" * 1000], "criterion 'node': a node name holds a ] or is longer than"),
        (["-i", "5-2"], "criterion 'nodes_count' wants n, min-max"),
        (["-k", "soon"], "Invalid time limit"),
        (["-x", "7"], "can't be selected by association ids"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_an_error(site: Site, args: list[str], said: str) -> None:
    code, out, err = site.run("-a", *(WINDOW if "-S" not in args else ()), *args)
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.parametrize(
    "args", [["-A", "no-such-account"], ["-M", "nowhere"], ["--name", "x" * 100_000], ["-j", "999999999"],
             ["-N", "n101"], ["-r", "b\xe4tch"], ["-S", "1960-01-01", "-E", "1961-01-01"]],
    ids=lambda value: " ".join(value)[:20],
)  # fmt: skip
def test_what_nothing_matches_is_no_error(site: Site, args: list[str]) -> None:
    assert site.run("-a", *(WINDOW if "-S" not in args else ()), *args) == (0, "", "")


@pytest.mark.parametrize("window", [["-S", "1960-01-01"], ["-S", "1970-01-02", "-E", "9999-01-01"]])
def test_a_window_beyond_all_time_has_every_job(site: Site, window: list[str]) -> None:
    code, out, err = site.run("-a", *window)
    assert (code, out.count("\n"), err) == (0, JOBS, "")


@pytest.mark.parametrize("nodes", ["n[1-3]", "n[3,2,1]", "n1,n[2-3]", "n[001-3],n[1-3]", "n[1-3],n[0-0]"])
def test_nodes_in_any_form(site: Site, nodes: str) -> None:
    code, out, err = site.run("-a", *WINDOW, "-N", nodes)
    assert (code, out.count("\n"), err) == (0, JOBS * 3 // 100, "")


def test_a_hundred_thousand_ids(site: Site) -> None:
    """More than one word of a command line can hold, so there are several. sacct itself takes half a minute for it."""
    ids = [str(n) for n in range(1, 100_001)]
    lists = [word for at in range(0, len(ids), 15_000) for word in ("-j", ",".join(ids[at : at + 15_000]))]
    code, out, err = site.run("-a", *lists)
    assert (code, err) == (0, "")
    assert out.split() == [str(n) for n in range(FIRST, FIRST + JOBS)]


# --- a reader that leaves -----------------------------------------------------------


def test_output_into_a_closed_pipe(site: Site) -> None:
    """sacct ends of it without a word, and the next one is answered."""
    with site.start("-a", *WINDOW) as sacct:
        assert sacct.stdout is not None
        assert sacct.stdout.readline() == f"{FIRST}\n"
        sacct.stdout.close()
        assert sacct.wait(scaled(60)) == -13  # SIGPIPE
        assert sacct.stderr is not None
        assert sacct.stderr.read() == ""
    assert site.run("-a", *WINDOW, "-j", str(FIRST)) == (0, f"{FIRST}\n", "")


# --- a store that leaves in the middle ------------------------------------------------


def pages_sent(redis: RedisServer) -> int:
    with redis.client() as client:
        stats = client.info("commandstats")
    return sum(int(figures["calls"]) for name, figures in stats.items() if name.lower() == "cmdstat_slurmjc.fetch")


def redis_dies(site: Site) -> None:
    site.redis.kill()


def redis_comes_back(site: Site) -> None:
    """With all jobs, but it has forgotten who was reading them."""
    site.redis.kill()
    site.redis.start()


def daemon_dies(site: Site) -> None:
    site.daemon.kill()


def daemon_stops(site: Site) -> None:
    site.daemon.stop()


@pytest.mark.parametrize("event", [redis_dies, redis_comes_back, daemon_dies, daemon_stops])
def test_a_store_that_leaves_in_the_middle(rundir: Path, stopper: Any, event: Callable[[Site], None]) -> None:
    """A row a page makes the fetch long. No row is printed, and the status says that it wasn't all."""
    site = build(rundir, query={"page_rows": 1})
    stopper.callback(site.redis.stop)
    stopper.callback(site.daemon.stop)
    before = pages_sent(site.redis)
    with site.start("-a", *WINDOW) as sacct:
        wait_until(lambda: pages_sent(site.redis) > before + 100, what="pages to be on their way")
        event(site)
        out, err = sacct.communicate(timeout=scaled(60))
    assert (sacct.returncode, out) == (1, "")
    assert err.startswith("sacct: error: can't read completed jobs from ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("event", "statuses"),
    # back again it may have been missed, or asked about a query that it doesn't know
    [(redis_dies, {3}), (redis_comes_back, {1, 3}), (daemon_dies, {3})],
)
def test_slurmjc_and_a_store_that_leaves_in_the_middle(
    rundir: Path, stopper: Any, event: Callable[[Site], None], statuses: set[int]
) -> None:
    site = build(rundir, query={"page_rows": 1})
    stopper.callback(site.redis.stop)
    stopper.callback(site.daemon.stop)
    before = pages_sent(site.redis)
    command = [
        program("slurmjc"),
        "--socket",
        str(site.daemon.query_socket),
        "jobs",
        "-nP",
        "-o",
        "jobid",
        "-a",
        *WINDOW,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as slurmjc:
        wait_until(lambda: pages_sent(site.redis) > before + 100, what="pages to be on their way")
        event(site)
        out, err = slurmjc.communicate(timeout=scaled(60))
    assert slurmjc.returncode in statuses
    assert out == ""
    assert err.splitlines()[-1].startswith("slurmjc: ")
    assert "jobs that ended" not in err.splitlines()[-1]
