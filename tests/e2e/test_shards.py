# SPDX-License-Identifier: MIT
"""Real sacct and slurmjc over a store of one, three and six shards: nobody who asks can tell them apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.client.connection import Connection
from tests.harness import Daemon, RedisServer, run_dir, wait_until
from tests.harness.paths import PLUGIN, program
from tests.harness.slurm_conf import SlurmOptions, slurm_conf
from tests.harness.waiting import scaled
from tests.slurmjcd.jobs import NOON, job

COUNTS = (1, 3, 6)
JOBS = 600
TOKEN = "a-token-that-nobody-knows"
WINDOW = ("-a", "-S", "2026-03-01", "-E", "2026-03-03")
KEPT = {name: os.environ[name] for name in ("PATH", "LD_PRELOAD", "ASAN_OPTIONS") if name in os.environ}


def jobs() -> list[bytes]:
    """Of several users, states and sizes; an array, a het job, runs of one job, and equal ends everywhere."""
    array = {n: {"array_job_id": 100, "array_task_id": n - 100} for n in range(100, 120)}
    het = {n: {"het_job_id": 200, "het_job_offset": n - 200} for n in range(200, 203)}
    several = [
        job(
            n, end=NOON + n // 7 * 60, start=NOON - 3600 + n, uid=1000 + n % 3, user=("ada", "bob", "cyd")[n % 3],
            account=("physics", "chem", None)[n % 5 % 3], state=(3, 5, 6, 4)[n % 4], exit_code=n % 4 * 256,
            nodes=f"n[{n % 9 + 1}-{n % 9 + 1 + n % 3}]", node_count=1 + n % 3, cpu_count=4 * (1 + n % 3),
            partition=("batch", "gpu")[n % 2], name=f"job{n % 11}", time_limit=10 * (n % 7),
            **array.get(n, {}), **het.get(n, {}),
        )
        for n in range(1, JOBS)
    ]  # fmt: skip
    again = [job(17, restart_count=count, start=NOON + count, end=NOON + 10 + count) for count in (1, 2, 3)]
    return several + again


ASKED: list[tuple[str, ...]] = [
    WINDOW,
    (*WINDOW, "-D", "-o", "jobid,jobidraw,user,account,state,exitcode,end,nodelist,alloccpus,elapsed,timelimit"),
    (*WINDOW, "-j", "17", "-D"),
    (*WINDOW, "-j", "100"),
    (*WINDOW, "-j", "100_5,100_7,200+1,3,999"),
    (*WINDOW, "-s", "F,TO"),
    (*WINDOW, "-N", "n[2-3]", "-i", "2-3"),
    (*WINDOW, "-A", "chem", "-r", "gpu", "--name", "job3,job7"),
    ("-a", "-S", "2026-03-01T12:20", "-E", "2026-03-01T12:40", "-s", "CD"),
    (*WINDOW, "-k", "20", "-K", "40"),
    (*WINDOW, "-u", "nobody"),
]
SLURMJC: list[tuple[str, ...]] = [
    ("jobs", *WINDOW, "-nP"), ("jobs", *WINDOW, "--json", "-s", "F"), ("show", "17", "--json"),
    ("report", "user", "state", *WINDOW, "--json"), ("report", "hour", *WINDOW),
]  # fmt: skip


@dataclass
class Site:
    daemons: dict[int, Daemon]
    confs: dict[int, Path]
    redis: RedisServer

    def sacct(self, shards: int, *args: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        env = {**KEPT, "SLURM_CONF": str(self.confs[shards]), "TZ": "UTC"}
        return run("sacct", "-c", "-nP", *args, env=env)

    def slurmjc(self, shards: int, *args: str) -> tuple[int, str, str]:
        env = {**os.environ, "SLURMJC_SOCKET": str(self.daemons[shards].query_socket), "TZ": "UTC"}
        return run(program("slurmjc"), *args, env=env)


def run(*words: str | Path, env: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=scaled(60), check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A daemon for each number of shards; all got the same jobs over ingest.sock."""
    with run_dir() as directory, ExitStack() as stack:
        redis = RedisServer(directory / "redis")
        stack.callback(redis.stop)
        redis.start()
        site = Site({}, {}, redis)
        for shards in COUNTS:
            place = directory / f"s{shards}"
            place.mkdir()
            (place / "token").write_text(TOKEN)
            (place / "token").chmod(0o600)
            settings: dict[str, dict[str, Any]] = {
                "redis": {"shards": shards, "prefix": f"p{shards}"}, "health": {"token_file": str(place / "token")},
            }  # fmt: skip
            daemon = site.daemons[shards] = Daemon(place, redis_address=redis.address, settings=settings)
            stack.callback(daemon.stop)
            daemon.start()
            (place / "plugins").mkdir()
            shutil.copy(PLUGIN, place / "plugins")
            site.confs[shards] = place / "slurm.conf"
            options = SlurmOptions(cluster="c1", job_comp_loc=str(daemon.run_dir))
            site.confs[shards].write_text(slurm_conf(place, place / "munge.sock", [1, 2, 3], options))
            with closing(Connection(str(daemon.ingest_socket), 20)) as ingest:
                records = jobs()
                for first in range(0, len(records), 50):
                    part = records[first : first + 50]
                    assert ingest.call(
                        b"SLURMJC.PUT", b"SPOOL", b"ring", b"%d" % (first + 1), b"RECORDS", *part
                    ) == len(part)
        for shards in COUNTS:
            wait_until(lambda shards=shards: stored(site, shards) == len(jobs()), what=f"all of {shards} shards")  # type: ignore[misc]
        yield site


def stored(site: Site, shards: int) -> int:
    with closing(Connection(str(site.daemons[shards].query_socket), 20)) as query:
        flat = query.call(b"SLURMJC.INFO")
    return int(dict(zip(flat[::2], flat[1::2], strict=True))[b"jobs"])


def test_the_jobs_are_spread(site: Site) -> None:
    with site.redis.client() as client:
        tags = {key.split(b"}")[0] for key in client.keys("{p6-*:seg:*")}
    assert len(tags) == 6


@pytest.mark.parametrize("args", ASKED, ids=" ".join)
def test_sacct_prints_the_same(site: Site, args: tuple[str, ...]) -> None:
    one, *others = [site.sacct(shards, *args) for shards in COUNTS]
    assert one[::2] == (0, "")
    assert bool(one[1]) == ("nobody" not in args)
    assert others == [one, one]


@pytest.mark.parametrize("args", SLURMJC, ids=" ".join)
def test_slurmjc_prints_the_same(site: Site, args: tuple[str, ...]) -> None:
    one, *others = [site.slurmjc(shards, *args) for shards in COUNTS]
    assert one[0] == 0, one[2]
    assert one[1].count("\n") > 2 or len(one[1]) > 500
    assert others == [one, one]


@pytest.mark.parametrize(
    "path", ["/api/jobs?starttime=2026-03-01&limit=50", "/api/report?starttime=2026-03-01&by=state"]
)
def test_the_page_shows_the_same(site: Site, path: str) -> None:
    answers = []
    for shards in COUNTS:
        status, _, body = site.daemons[shards].request(path, {"Authorization": f"Bearer {TOKEN}"})
        assert status == 200, body
        answers.append(json.loads(body))
    assert len(str(answers[0])) > 500
    assert answers == answers[:1] * 3


def test_slurmjc_counts_all_shards(site: Site) -> None:
    told = []
    for shards in COUNTS:
        status, out, _ = site.slurmjc(shards, "stats", "--json")
        assert status == 0
        told.append({name: json.loads(out)["store"][name] for name in ("jobs",)})
    assert told == told[:1] * 3


def test_a_wrong_number_of_shards_is_an_error_and_no_empty_list(site: Site) -> None:
    with site.redis.client() as client:
        client.set("p6:shards", 3)
    try:
        wait_until(lambda: site.sacct(6, *WINDOW)[0] != 0, what="sacct fails")
        status, out, err = site.sacct(6, *WINDOW)
        assert (status, out) == (1, "")
        assert "set redis.shards = 3" in err
    finally:
        with site.redis.client() as client:
            client.set("p6:shards", 6)
    wait_until(lambda: site.sacct(6, *WINDOW)[0] == 0, what="sacct has jobs again")
