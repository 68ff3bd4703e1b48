# SPDX-License-Identifier: MIT
"""A daemon with a hot window: days go into files by themselves, and the real sacct -c asks both."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.config import checks
from slurmjcd.config.settings import Config
from tests.harness import Daemon, RedisServer, wait_until
from tests.harness.paths import ENGINE, PLUGIN, program
from tests.harness.slurm_conf import SlurmOptions, slurm_conf
from tests.module.records import job
from tests.slurmjcd.cold.conftest import Store
from tests.slurmjcd.wire import Wire, text

MakeDaemon = Callable[..., Daemon]
MakeRedis = Callable[..., RedisServer]

TWO_YEARS = 2 * 365


def settings(directory: Path, **more: Any) -> dict[str, dict[str, Any]]:
    return {"cold": {"dir": str(directory), "engine": str(ENGINE), "check_s": 0.2, **more}}


def cold(daemon: Daemon) -> dict[str, float]:
    """The daemon's figures of files."""
    _, page = daemon.get("/metrics")
    rows = (line.split() for line in page.splitlines() if line.startswith("slurmjcd_cold"))
    return {name.removeprefix("slurmjcd_cold_"): float(value) for name, value in rows}


def stage(daemon: Daemon) -> dict[str, Any]:
    said = subprocess.run(
        [program("slurmjc"), "--socket", str(daemon.query_socket), "stats", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(said.stdout)["cold"]
    return found


def sacct(
    directory: Path, daemon: Daemon, *words: str, columns: str = "jobid,state,end", zone: str = "UTC"
) -> list[list[str]]:
    plugins = directory / "plugins"
    if not plugins.exists():
        plugins.mkdir(parents=True)
        (plugins / PLUGIN.name).symlink_to(PLUGIN)
        options = SlurmOptions(cluster="c", job_comp_type="jobcomp/redis", job_comp_loc=str(daemon.run_dir))
        (directory / "slurm.conf").write_text(slurm_conf(directory, directory / "munge.sock", [1, 2, 3], options))
    env = {**os.environ, "SLURM_CONF": str(directory / "slurm.conf"), "TZ": zone}
    done = subprocess.run(
        ["sacct", "-c", "-a", "-n", "-P", "-o", columns, *words], env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def test_sacct_over_two_years_with_a_week_in_memory(
    make_redis: MakeRedis, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    server, files, now = make_redis(), tmp_path / "files", int(time.time())
    files.mkdir()
    ends = [now - days * 86400 - 60 for days in range(TWO_YEARS, 0, -4)]
    jobs = [
        job(number * 10 + copy + 1, end, state=5 if number % 7 == 0 else 3, exit_code=256 if number % 7 == 0 else 0)
        for number, end in enumerate(ends)
        for copy in range(3)
    ]
    with server.client() as client:
        Store(client).put(*jobs)
    daemon = make_daemon(redis_address=server.address, settings=settings(files))
    site = tmp_path / "site"

    def days_in_redis() -> set[int]:
        with server.client() as client:
            return {row[0] for row in Store(client).info("SEGMENTS")["segment_sizes"]}

    # asked meanwhile, everything is there too
    assert len(sacct(site, daemon, "-S", "now-750days", "-E", "now")) == len(jobs)
    wait_until(lambda: min(days_in_redis()) >= now // 86400 - 8, what="only a week in Redis", timeout_s=60)
    assert len(list(files.glob("*.parquet"))) == len({end // 86400 for end in ends}) - len(days_in_redis())
    found = sacct(site, daemon, "-S", "now-750days", "-E", "now")
    assert [int(row[0]) for row in found] == [record["job_id"] for record in jobs]
    failed = sacct(site, daemon, "-S", "now-750days", "-E", "now", "-s", "F")
    assert [int(row[0]) for row in failed] == [record["job_id"] for record in jobs if record["state"] == 5]
    assert [row[0] for row in sacct(site, daemon, "-j", "12,1801")] == ["12", "1801"]
    wait_until(lambda: stage(daemon)["due_days"] == 0, what="nothing due")
    wait_until(lambda: cold(daemon)["days"] == len(list(files.glob("*.parquet"))), what="a count of the files")
    assert cold(daemon)["moved_records_total"] == 3 * cold(daemon)["days"]
    assert cold(daemon)["failures_total"] == 0
    # what comes late for a day that has a file
    with server.client() as client:
        Store(client).put(job(9999, ends[5], submit=ends[5] - 600))
    assert len(sacct(site, daemon, "-S", "now-750days", "-E", "now")) == len(jobs) + 1
    wait_until(lambda: min(days_in_redis()) >= now // 86400 - 8, what="the late one moved")
    assert len(sacct(site, daemon, "-S", "now-750days", "-E", "now")) == len(jobs) + 1


async def test_a_directory_that_goes_away_stops_nothing_but_its_questions(
    make_redis: MakeRedis, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    server, files, now = make_redis(), tmp_path / "files", int(time.time())
    files.mkdir()
    daemon = make_daemon(redis_address=server.address, settings=settings(files))
    with server.client() as client:
        store = Store(client)
        store.put(job(1, now - 30 * 86400), job(2, now))
        wait_until(lambda: store.ids() == [2], what="an old job in a file")
        moved = files.rename(tmp_path / "elsewhere")
        store.put(job(3, now - 40 * 86400))
        wait_until(lambda: cold(daemon)["failures_total"] > 0, what="a failure that is counted")
        wire = await Wire.connect(daemon.query_socket)
        said = text(await wire.call("SLURMJC.MATCH", "q"))
        assert said == f"UNAVAILABLE Redis and files: {files} can't be read: No such file or directory"
        assert await wire.call("SLURMJC.MATCH", "q", "start", str(now - 86400)) == b"job:mat:q"
        moved.rename(files)
        wait_until(lambda: store.ids() == [2], what="the old job moved after all")
        await wire.call("SLURMJC.MATCH", "q")
        assert len(await wire.call("SLURMJC.FETCH", "q", 10, "RECORDS")) == 3
        await wire.close()
    assert (
        f"cold: {files} can't be read: No such file or directory; days that are due stay in Redis"
        in (daemon.directory / "slurmjcd.log").read_text()
    )


async def test_an_empty_directory_in_its_place_is_not_taken_for_it(
    make_redis: MakeRedis, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """As when its file system isn't mounted: on a login node, on the controller, and there after a restart."""
    server, files, now = make_redis(), tmp_path / "files", int(time.time())
    files.mkdir()
    daemon = make_daemon(redis_address=server.address, settings=settings(files))
    with server.client() as client:
        store = Store(client)
        store.put(job(1, now - 30 * 86400), job(2, now))
        wait_until(lambda: store.ids() == [2], what="an old job in a file")
        moved = files.rename(tmp_path / "elsewhere")
        files.mkdir()
        store.put(job(3, now - 40 * 86400))
        wait_until(lambda: cold(daemon)["failures_total"] > 0, what="a failure that is counted")
        login = make_daemon(
            "login", redis_address=server.address, settings={**settings(files), "daemon": {"roles": ["query"]}}
        )
        daemon.stop()
        daemon.start()
        for each, why in (
            (login, "has no files and no mark (.slurmjcd) of a daemon that moves days: is it mounted?"),
            (daemon, "is not the directory that days were moved to, its mark (.slurmjcd) is missing: mount that one"),
        ):
            wire = await Wire.connect(each.query_socket)
            said = text(await wire.call("SLURMJC.MATCH", "q"))
            assert said.startswith(f"UNAVAILABLE Redis and files: {files} {why}"), said
            await wire.close()
        assert not list(files.iterdir())
        files.rmdir()
        moved.rename(files)
        wait_until(lambda: store.ids() == [2], what="the old job moved after all")
        for each in (login, daemon):
            wire = await Wire.connect(each.query_socket)
            await wire.call("SLURMJC.MATCH", "q")
            assert len(await wire.call("SLURMJC.FETCH", "q", 10, "RECORDS")) == 3
            await wire.close()


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"engine": "/nowhere/engine.so"}, "cold.engine: /nowhere/engine.so can't be read: install slurmjc_engine.so"),
        ({"dir": "/nowhere/files"}, "cold.dir: directory /nowhere/files doesn't exist: mkdir -p /nowhere/files"),
        ({"dir": "files"}, "cold.dir: must be an absolute path"),
        ({"keep_days": 7}, "cold: keep_days (7) must be more than after_days (7)"),
        ({"redis": {"ttl_s": 8 * 86400}}, "redis.ttl_s (691200) must be 0, or more than 691200"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_can_not_work_is_refused(tmp_path: Path, section: dict[str, Any], why: str) -> None:
    files = tmp_path / "files"
    files.mkdir()
    redis = section.pop("redis", {})
    daemon = Daemon(tmp_path / "jc", settings={**settings(files, **section), "redis": redis})
    done = subprocess.run(
        [program("slurmjcd"), "check-config", "--config", str(daemon.conf)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert why in done.stderr


def test_without_pyarrow_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files").chmod(0o755)
    config = Config.model_validate({"cold": {"dir": str(tmp_path / "files"), "engine": str(ENGINE)}})
    assert checks.about_cold(config) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = checks.about_cold(config)
    assert problem.startswith("cold.dir: files of older days need pyarrow: pip install 'slurmjcd[parquet]'")
