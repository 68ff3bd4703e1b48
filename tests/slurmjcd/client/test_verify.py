# SPDX-License-Identifier: MIT
"""`slurmjc verify` as a process, beside a running daemon: a planted hole is found, named and mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Daemon, run_dir
from tests.slurmjcd.client.site import Site, serving
from tests.slurmjcd.importing.test_filetxt import line
from tests.slurmjcd.jobs import NOON, fields, job

HOUR = 3600
JOBS = [fields(number, submit=end - 100, eligible=end - 100, start=end - 60, end=end)
        for number in range(1, 41) for end in (NOON + number * 600,)]  # fmt: skip
HEADER = "JobID|JobIDRaw|Cluster|User|UID|Group|GID|State|Submit|Eligible|Start|End|NodeList|JobName"


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    with serving([]) as serving_site:
        yield serving_site


@pytest.fixture
def site(running: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """One whose store lacks jobs 7, 20 and 21."""
    monkeypatch.chdir(tmp_path)
    put(running, [each for each in JOBS if each["job_id"] not in (7, 20, 21)])
    return running


def put(site: Site, jobs: list[dict[str, Any]]) -> None:
    """These, and no others."""
    with site.redis.client() as client:
        client.flushall()
        client.execute_command("SLURMJC.PUT", "job", "RECORDS", *[job(**each) for each in jobs])


def sacct(path: Path, jobs: list[dict[str, Any]], *more: str) -> str:
    """What `sacct -P` would have printed in UTC."""

    def at(epoch: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))

    lines = [
        f"{each['job_id']}|{each['job_id']}|c1|ada|1000|users|100|COMPLETED|{at(each['submit'])}|{at(each['eligible'])}|"
        f"{at(each['start'])}|{at(each['end'])}|n1|{each['name']}"
        for each in jobs
    ]  # fmt: skip
    path.write_text("\n".join([HEADER, *lines, *more]) + "\n")
    return str(path)


def verify(site: Site, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = ["verify", "--config", str(site.daemon.conf), "--timezone", "UTC", "--cluster", "c1"]
    return site.run(*words, *args, **env)


def found(site: Site, *args: str, status: int) -> dict[str, Any]:
    done = verify(site, *args, "--json")
    assert done.returncode == status, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["schema"] == "slurmjc.verify/1"
    return document


def test_a_hole_is_named_by_hour_and_by_job(site: Site, tmp_path: Path) -> None:
    saved = sacct(tmp_path / "saved", JOBS)
    done = verify(site, "--against", saved, "--holes")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "hour                             saved     store   missing",
        "2026-03-01T13:00:00+00:00            6         5         1",
        "2026-03-01T15:00:00+00:00            6         4         2",
        "missing: 7 of ada, COMPLETED, ended 2026-03-01T13:10:00+00:00 (line 8)",
        "missing: 20 of ada, COMPLETED, ended 2026-03-01T15:20:00+00:00 (line 21)",
        "missing: 21 of ada, COMPLETED, ended 2026-03-01T15:30:00+00:00 (line 22)",
        "40 jobs in saved, 37 in the store, 3 missing",
    ]
    assert "jobs that ended from 2026-03-01T12:00:00+00:00 to before 2026-03-01T18:40:01+00:00" in done.stderr


@pytest.mark.parametrize("said", ["all", "C1", "c1,c2", "-1"])
def test_clusters_are_named_as_sacct_takes_them(site: Site, tmp_path: Path, said: str) -> None:
    report = found(site, "--against", sacct(tmp_path / "saved", JOBS), "-M", said, status=1)
    assert [hole["id"] for hole in report["missing"]] == ["7", "20", "21"]


def test_back_filled_it_is_whole(site: Site, tmp_path: Path) -> None:
    saved = sacct(tmp_path / "saved", JOBS)
    before = site.ids("-a", "-S", "2026-03-01")
    mended = found(site, "--against", saved, "--backfill", status=0)
    assert [hole["id"] for hole in mended["missing"]] == ["7", "20", "21"]
    assert mended["meta"]["mended"] == 3
    after = found(site, "--against", saved, status=0)
    assert (after["missing"], after["meta"]["only_in_store"]) == ([], 0)
    assert all(hour["there"] == hour["store"] for hour in after["hours"])
    assert sorted(site.ids("-a", "-S", "2026-03-01")) == sorted([*before, "7", "20", "21"])
    assert list(tmp_path.iterdir()) == [tmp_path / "saved"]


def test_against_a_log_of_filetxt(site: Site, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(logged(each) + "\n" for each in JOBS))
    assert [hole["id"] for hole in found(site, "--against", "log", status=1)["missing"]] == ["7", "20", "21"]
    assert found(site, "--against", "log", "--backfill", status=0)["meta"]["mended"] == 3
    assert found(site, "--against", "log", status=0)["missing"] == []


def logged(each: dict[str, Any]) -> str:
    def at(epoch: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))

    return line(
        JobId=str(each["job_id"]), Cluster="c1", SubmitTime=at(each["submit"]), EligibleTime=at(each["eligible"]),
        StartTime=at(each["start"]), EndTime=at(each["end"]),
    )  # fmt: skip


def test_a_job_that_never_became_eligible_is_no_hole(site: Site, tmp_path: Path) -> None:
    held = fields(41, eligible=0, start=0, end=NOON + HOUR, state=4, nodes=None)
    put(site, [*JOBS, held])
    line_of_it = "41|41|c1|ada|1000|users|100|CANCELLED|2026-03-01T11:58:20|Unknown|None|2026-03-01T13:00:00||x"
    document = found(site, "--against", sacct(tmp_path / "saved", JOBS, line_of_it), status=0)
    assert (document["missing"], document["meta"]["only_in_store"]) == ([], 0)


def test_a_store_that_has_more_is_no_hole(site: Site, tmp_path: Path) -> None:
    put(site, [*JOBS, fields(900, start=NOON + 5 * HOUR, end=NOON + 5 * HOUR + 9), fields(901, cluster="c2")])
    document = found(site, "--against", sacct(tmp_path / "saved", JOBS), status=0)
    assert document["meta"]["only_in_store"] == 1


def test_the_window_leaves_out_what_ended_outside(site: Site, tmp_path: Path) -> None:
    saved = sacct(tmp_path / "saved", JOBS)
    window = ("-S", "2026-03-01T15:00:00", "-E", "2026-03-01T15:30:00")
    document = found(site, "--against", saved, *window, status=1)
    assert [hole["id"] for hole in document["missing"]] == ["20"]
    assert document["meta"]["expired"] == 0
    assert document["hours"] == [{"hour": NOON + 3 * HOUR, "there": 3, "store": 2, "missing": 1}]
    assert found(site, "--against", saved, "-S", "2026-03-01T16:00:00", status=0)["missing"] == []


def test_what_has_expired_is_no_hole(site: Site, tmp_path: Path) -> None:
    conf = tmp_path / "short.toml"
    kept_s = int(time.time()) - (NOON + 2 * HOUR)
    text = site.daemon.conf.read_text()
    assert "[redis]" in text
    conf.write_text(text.replace("[redis]", f"[redis]\nttl_s = {kept_s}", 1))
    done = site.run(
        "verify", "--config", str(conf), "--timezone", "UTC", "--against", sacct(tmp_path / "saved", JOBS), "--json",
        "--cluster", "c1",
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert [hole["id"] for hole in document["missing"]] == ["20", "21"]
    assert document["meta"]["expired"] in (10, 11, 12)


def test_lines_that_can_not_be_read_are_named_and_no_success(site: Site, tmp_path: Path) -> None:
    put(site, JOBS)
    saved = sacct(tmp_path / "saved", JOBS, "99|99|c1|ada|half a line")
    done = verify(site, "--against", saved)
    assert done.returncode == 1
    assert "line 42 can't be read: 5 fields, the header has 14" in done.stderr
    assert found(site, "--against", saved, status=1)["unreadable"][0]["at"] == "42"


def test_who_is_unknown_here_is_compared_but_not_imported(site: Site, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    sacct(saved, JOBS)
    saved.write_text(saved.read_text().replace("|ada|1000|", "|nobody-here||"))
    document = found(site, "--against", str(saved), "--backfill", status=1)
    assert (document["meta"]["missing"], document["meta"]["mended"]) == (3, 0)
    assert "no user 'nobody-here'" in document["refused"][0]["reason"]
    assert "no user 'nobody-here'" in (tmp_path / "slurmjc-verify.refused").read_text()
    assert found(site, "--against", str(saved), "--backfill", "--unknown-id", "65534", status=0)["meta"]["mended"] == 3


def test_many_holes_are_cut_and_counted(site: Site, tmp_path: Path) -> None:
    done = verify(site, "--against", sacct(tmp_path / "saved", JOBS), "--holes", "--most", "1")
    assert [text for text in done.stdout.splitlines() if text.startswith("missing:")] == [
        "missing: 7 of ada, COMPLETED, ended 2026-03-01T13:10:00+00:00 (line 8)", "missing: and 2 more (--most)",
    ]  # fmt: skip


_AS_NOBODY = """
import os, sys
import slurmjcd.client.times, slurmjcd.client.verify, slurmjcd.config.configfile, slurmjcd.verifying.accounts
import slurmjcd.importing.backlog, slurmjcd.importing.sources, slurmjcd.verifying.live
from slurmjcd.client.main import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # what is imported stays so, wherever it lies
main()
"""


def test_who_sees_only_own_jobs_is_refused(site: Site, tmp_path: Path) -> None:
    with run_dir() as path:
        path.chmod(0o755)
        daemon = Daemon(path / "jc", redis_address=site.redis.address, settings={"access": {"private_data": True}})
        try:
            daemon.start()
            done = subprocess.run(
                [sys.executable, "-c", _AS_NOBODY, "verify", "--against", "saved"], capture_output=True, text=True,
                timeout=60, check=False, cwd="/", env={**os.environ, "SLURMJC_SOCKET": str(daemon.query_socket)},
            )  # fmt: skip
        finally:
            daemon.stop()
    assert done.returncode == 4, done.stderr
    assert "you see only your own jobs" in done.stderr


def test_without_sacct_it_says_what_to_do(site: Site, tmp_path: Path) -> None:
    done = verify(site, PATH=str(tmp_path))
    assert done.returncode == 3
    assert "sacct can't be run" in done.stderr
    assert "--against" in done.stderr


def test_a_site_without_accounting_is_told_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("ClusterName=c1\nSlurmctldHost=localhost\n")
    done = verify(site, SLURM_CONF=str(tmp_path / "slurm.conf"))
    assert done.returncode == 3
    assert "Slurm accounting storage is disabled" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--against", "nowhere"], 1, "nowhere: No such file or directory"),
        (["--against", "/etc/passwd"], 1, "/etc/passwd is in no format that is known"),
        (["-S", "now", "-E", "now-1hour"], 2, "--endtime is not after --starttime"),
        (["-S", "soon"], 2, "'soon' is no time"),
        (["--most", "-1"], 2, "--most"),
        (["--timezone", "Mars/Olympus", "--against", "/etc/passwd"], 1, "there is no time zone 'Mars/Olympus'"),
    ],
)
def test_wrong_use_is_one_clear_error(site: Site, words: list[str], status: int, said: str) -> None:
    done = verify(site, *words)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stdout == ""
