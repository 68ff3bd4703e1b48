# SPDX-License-Identifier: MIT
"""What Slurm's own jobcomp/filetxt and jobcomp/mysql wrote down, imported, and compared with what slurmctld says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.mariadb import DATABASE, MariaDB
from tests.docs.blocks import blocks, run
from tests.harness import Munge, SlurmCluster, SlurmOptions, run_dir
from tests.harness.paths import program
from tests.harness.waiting import wait_until
from tests.slurmjcd.client.site import Site, serving
from tests.slurmjcd.importing.test_import import stored

NAME = 'zwölf \' "jobs"'
ENDED = {"COMPLETED": 3, "CANCELLED": 4, "FAILED": 5, "TIMEOUT": 6}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving([]) as found:
        yield found


@pytest.fixture(autouse=True)
def _empty(site: Site) -> None:
    with site.redis.client() as client:
        client.flushall()


def submit(cluster: SlurmCluster) -> dict[int, dict[str, str]]:
    """Jobs of every kind that ends soon; what `scontrol show job` says of each at its end, by job id."""
    ids = [
        cluster.sbatch("true", "-J", NAME),
        cluster.sbatch("exit 3", "-t", "5"),
        cluster.sbatch("kill -9 $$"),
        cluster.sbatch("true", "--array=0-2", "-J", "many"),
        (held := cluster.sbatch("true", "-H")),
    ]
    cluster.run("scancel", str(held))
    return cluster.wait_ended(ids)


def import_(site: Site, directory: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [program("slurmjc"), "import", *words, "--config", site.daemon.conf, "--cluster", "demo", "--json"],
        capture_output=True, text=True, check=False, cwd=directory, env={**os.environ, "TZ": "UTC"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if value and name != "schema"}


def compare(shown: dict[int, dict[str, str]], records: list[dict[str, Any]]) -> None:
    assert [fields["job_id"] for fields in records] == sorted(shown)
    for fields in records:
        told = shown[fields["job_id"]]
        code, _, signal = told["ExitCode"].partition(":")
        assert fields["state"] == ENDED[told["JobState"]]
        assert fields["name"] == told["JobName"]
        assert fields["partition"] == told["Partition"]
        assert f"{fields['user']}({fields['uid']})" == told["UserId"]
        assert f"{fields['group']}({fields['gid']})" == told["GroupId"]
        assert fields["end"] == epoch(told["EndTime"])
        ran = told.get("NodeList", "(null)") not in ("(null)", "")
        assert fields["start"] == (epoch(told["StartTime"]) if ran else 0)
        assert fields["nodes"] == (told["NodeList"] if ran else None)
        if fields["exit_code"] is not None:
            assert fields["exit_code"] == int(code) << 8 | int(signal)


def epoch(text: str) -> int:
    done = subprocess.run(["date", "-u", "-d", text, "+%s"], capture_output=True, text=True, check=True)
    return int(done.stdout)


def run_jobs(directory: Path, options: SlurmOptions, written: Callable[[], int]) -> dict[int, dict[str, str]]:
    """Run the jobs on a cluster with these options, until that many are written down as there are."""
    with ExitStack() as stack:
        munge = Munge(directory / "munge")
        stack.callback(munge.stop)
        munge.start()
        cluster = SlurmCluster(directory / "slurm", munge.socket, options)
        stack.callback(cluster.stop)
        cluster.start()
        shown = submit(cluster)
        wait_until(lambda: written() >= len(shown), what="every job to be written down")
    return shown


def _follow_the_page(site: Site, directory: Path, server: MariaDB) -> None:
    """docs/moving.md's command, for a user who may only read and has a password."""
    with site.redis.client() as client:
        client.flushall()
    (directory / "password").write_text("secret word\n")
    (directory / "password").chmod(0o600)
    server.sql("create user slurm@localhost identified by 'secret word'; grant select on *.* to slurm@localhost")
    (block,) = (block for block in blocks(Path("docs/moving.md")) if block.name == "mysql")
    paths = {
        "slurmjc import": f"{program('slurmjc')} import --config {site.daemon.conf}",
        "/run/mysqld/mysqld.sock": str(server.socket),
        "/etc/slurmjcd/jobcomp.password": str(directory / "password"),
    }
    assert "stored" in run(block, paths=paths, env={}, cwd=directory)


def test_a_log_of_jobcomp_filetxt(site: Site) -> None:
    with run_dir() as directory:
        log = directory / "jobcomp.log"
        options = SlurmOptions(job_comp_type="jobcomp/filetxt", job_comp_loc=str(log))
        shown = run_jobs(directory, options, lambda: log.read_text().count("\n"))
        assert import_(site, directory, str(log)) == {"read": len(shown), "stored": len(shown)}
        compare(shown, stored(site))
        tasks = [fields["array_task_id"] for fields in stored(site) if fields["array_job_id"]]
        assert sorted(tasks) == [0, 1, 2]
        assert import_(site, directory, str(log)) == {"read": len(shown), "already_there": len(shown)}


def test_a_table_of_jobcomp_mysql(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_dir() as directory:
        server = MariaDB(directory)
        server.start()
        try:
            for name, value in server.env.items():
                monkeypatch.setenv(name, value)
            options = SlurmOptions(
                job_comp_type="jobcomp/mysql",
                job_comp_loc=DATABASE,
                extra={"JobCompHost": "localhost", "JobCompUser": "root"},
            )
            shown = run_jobs(
                directory, options, lambda: int(server.sql("select count(*) from jobcomp_table", DATABASE))
            )
            url = f"mysql://root@/{DATABASE}?socket={server.socket}"
            assert import_(site, directory, url) == {"read": len(shown), "stored": len(shown)}
            compare(shown, stored(site))
            assert import_(site, directory, url) == {"read": len(shown), "already_there": len(shown)}
            _follow_the_page(site, directory, server)
            assert len(stored(site)) == len(shown)
            server.sql("insert into jobcomp_table (jobid, uid, user_name, gid, group_name, name, state, `partition`, "
                       "timelimit, starttime, endtime, nodecnt, proc_cnt) values (99, 1, 'a', 1, 'a', 'x', 3, 'p', "
                       "'soon', 1, 2, 1, 1)", DATABASE)  # fmt: skip
            done = subprocess.run(
                [program("slurmjc"), "import", url, "--config", site.daemon.conf, "--cluster", "demo"],
                capture_output=True, text=True, check=False, cwd=directory,
            )  # fmt: skip
            assert done.returncode == 1
            assert "jobid 99, starttime 1, endtime 2: 'soon' is no time limit" in done.stderr
            assert '"jobid": "99"' in (directory / "slurmjc-import-mysql.refused").read_text()
        finally:
            server.process.stop()
