# SPDX-License-Identifier: MIT
"""slurmjc as a process, against a running daemon."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.client.jobs import latest
from tests.harness import Daemon, RedisServer
from tests.harness.paths import ROOT, program
from tests.slurmjcd.client.site import Site, run, serving

NOW = int(time.time())


JOBS: list[dict[str, Any]] = [
    {
        "job_id": 100,
        "uid": 0,
        "user": "root",
        "state": 3,
        "end": NOW - 600,
        "name": "good",
        "extra": {"state_reason_prev": 2},
    },
    {
        "job_id": 101,
        "uid": 1,
        "user": "daemon",
        "state": 5,
        "exit_code": 3 << 8,
        "end": NOW - 500,
        "name": "bad|one",
        "time_limit": "UNLIMITED",
        "qos": "high",
        "qos_id": 7,
        "extra": {"state_reason_prev": 3, "suspended": 10},
    },
    {
        "job_id": 102,
        "state": 6,
        "end": NOW - 400,
        "partition": "gpu",
        "nodes": "n[3-5]",
        "node_count": 3,
        "cpu_count": 12,
        "time_limit": 120,
    },
    {"job_id": 103, "array_job_id": 103, "array_task_id": 1, "end": NOW - 300, "account": "chem"},
    {"job_id": 104, "array_job_id": 103, "array_task_id": 2, "end": NOW - 290, "account": "chem"},
    {"job_id": 105, "het_job_id": 105, "het_job_offset": 0, "end": NOW - 280},
    {"job_id": 106, "het_job_id": 105, "het_job_offset": 1, "end": NOW - 270},
    {"job_id": 107, "end": NOW - 260, "submit": NOW - 9000, "eligible": NOW - 9000, "start": NOW - 8000, "state": 8},
    {
        "job_id": 107,
        "end": NOW - 100,
        "submit": NOW - 200,
        "eligible": NOW - 200,
        "start": NOW - 150,
        "restart_count": 1,
    },
    {"job_id": 50, "end": NOW - 3 * 86400, "name": "old"},
    {"job_id": 51, "end": NOW - 90, "name": "esc\x1b[2J\n", "user": None, "work_dir": "/caf\udce9"},
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(JOBS) as serving_site:
        yield serving_site


def test_a_sibling_that_another_cluster_ran_is_no_run() -> None:
    """As slurmdbd's answers have it without -D; tests/federation asks real ones."""
    common = {"submit": 5, "restart_count": 0, "start": 0, "end": 9, "job_id": 1 << 26}
    ran = common | {"cluster": "east", "start": 6, "extra": {}}
    revoked = common | {"cluster": "west", "extra": {"state_flags": 1 << 19}}
    before = common | {"cluster": "west", "submit": 1, "extra": {}}
    assert latest([ran, revoked]) == [ran]
    assert latest([before, revoked]) == [before]


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        (["-a"], ["100", "101", "102", "103_1", "103_2", "105+0", "105+1", "107", "51"]),
        (["-aD"], ["100", "101", "102", "103_1", "103_2", "105+0", "105+1", "107", "107", "51"]),
        (["-a", "-S", "now-4days"], ["50", "100", "101", "102", "103_1", "103_2", "105+0", "105+1", "107", "51"]),
        (["-a", "-S", "now-4days", "-E", "now-2days"], ["50"]),
        (["-j", "103"], ["103_1", "103_2"]),
        (["-j", "103_2"], ["103_2"]),
        (["-j", "103_[1-2]"], ["103_1", "103_2"]),
        (["-j", "105"], ["105+0", "105+1"]),
        (["-j", "105+1"], ["105+1"]),
        (["-j", "50,100"], ["50", "100"]),
        (["-j", "999"], []),
        (["-u", "daemon"], ["101"]),
        (["-u", "0,1"], ["100", "101"]),
        (["-u", "ada", "-S", "now-1hour"], ["102", "103_1", "103_2", "105+0", "105+1", "107"]),
        (["-A", "chem"], ["103_1", "103_2"]),
        (["-a", "-r", "gpu"], ["102"]),
        (["-a", "-s", "F,TO"], ["101", "102"]),
        (["-a", "-s", "failed"], ["101"]),
        (["-a", "-s", "preempted", "-D"], ["107"]),
        (["-a", "-N", "n[4,9]"], ["102"]),
        (["-a", "-i", "2-5"], ["102"]),
        (["-a", "-I", "12"], ["102"]),
        (["-a", "-q", "normal", "-A", "chem"], ["103_1", "103_2"]),
        (["-a", "-M", "c1", "-r", "gpu"], ["102"]),
        (["-a", "-M", "other"], []),
        (["-a", "--name", "good"], ["100"]),
        (["-a", "-W", "none"], []),
        (["-a", "-g", "100", "-r", "gpu"], ["102"]),
        (["-a", "-k", "2:00:00"], ["102"]),
        (["-a", "-k", "2:00:00", "-K", "3:00:00"], ["102"]),
        (["-a", "-k", "61", "-K", "UNLIMITED"], ["101", "102"]),
        (["-a", "-k", "UNLIMITED"], ["101"]),
        (["-a", "-k", "2-0"], []),
        (["-a", "-R", "Resources,dependency"], ["100", "101"]),
        (["-a", "--reason", "PartitionDown"], []),
        (["-a", "-q", "1,2", "-r", "gpu"], ["102"]),
        (["-a", "-q", "high"], ["101"]),
        (["-acL", "--noconvert", "--federation", "-r", "gpu"], ["102"]),
        (["-j", "100", "-j", "50,101"], ["50", "100", "101"]),
    ],
)
def test_flags_select_as_saccts_do(site: Site, flags: list[str], ids: list[str]) -> None:
    assert site.ids(*flags) == ids


def test_a_hundred_thousand_ids(site: Site) -> None:
    """More than one word of a command line can hold."""
    ids = [str(n) for n in range(1, 100_001)]
    lists = [word for at in range(0, len(ids), 15_000) for word in ("-j", ",".join(ids[at : at + 15_000]))]
    assert site.ids(*lists) == ["50", "100", "101", "102", "103_1", "103_2", "105+0", "105+1", "107", "51"]


def test_the_window_is_told_on_stderr(site: Site) -> None:
    """The one that was used, whoever chose it; ids alone have none."""
    default = site.run("jobs", "-a", "-P").stderr
    assert re.fullmatch(
        r"slurmjc: jobs that ended from \S+\+00:00 and were eligible before now \(-S and -E change that\)\n", default
    )
    chosen = site.run("jobs", "-a", "-S", "2026-01-01", "-E", "2026-01-02T12:00")
    assert chosen.stderr == (
        "slurmjc: jobs that ended from 2026-01-01T00:00:00+00:00 and were eligible before 2026-01-02T12:00:00+00:00\n"
    )
    assert (
        "from the beginning and were eligible before 2026-01-02"
        in site.run("jobs", "-j", "1", "-E", "2026-01-02").stderr
    )
    assert site.run("jobs", "-j", "100").stderr == ""


def test_a_table_has_saccts_form(site: Site) -> None:
    done = site.run("jobs", "-j", "101", "-o", "jobid,uid,jobname,partition,state,exitcode")
    assert done.stdout == (
        "JobID           UID    JobName  Partition      State ExitCode\n"
        "------------ ------ ---------- ---------- ---------- --------\n"
        "101               1    bad|one      batch     FAILED      3:0\n"
    )
    assert site.run("jobs", "-bn", "-j", "101").stdout.split() == ["101", "FAILED", "3:0"]
    assert site.run("jobs", "-j", "101", SACCT_FORMAT="jobid%3").stdout == "Job\n---\n101\n"


def test_columns_that_sacct_has_nothing_for(site: Site) -> None:
    done = site.run(
        "jobs", "-j", "101,103_2", "-nP", "-o", "jobid,arrayjobid,reason,reqmem,suspended,alloctres,workdir"
    )
    assert done.stdout.splitlines() == [
        "101||Resources|4G|00:00:10|cpu=4,mem=4G,node=1|/home/ada",
        "103_2|103|None|4G|00:00:00|cpu=4,mem=4G,node=1|/home/ada",
    ]
    plus = site.run("jobs", "-j", "101", "-P", "--format=+qos,reqtres").stdout.splitlines()[0]
    assert plus == "JobID|UID|JobName|Partition|NNodes|NodeList|State|End|ExitCode|Elapsed|QOS|ReqTRES"


def test_parsable_output_escapes_its_delimiter(site: Site) -> None:
    assert site.run("jobs", "-j", "101", "-nP", "-o", "jobid,jobname").stdout == "101|bad\\x7cone\n"
    assert site.run("jobs", "-j", "101", "-np", "-o", "jobid,state").stdout == "101|FAILED|\n"
    assert site.run("jobs", "-j", "101", "-nP", "--delimiter", ";", "-o", "jobid,jobname").stdout == "101;bad|one\n"


def test_control_characters_dont_reach_the_terminal(site: Site) -> None:
    for args in (("jobs", "-j", "51"), ("show", "51"), ("jobs", "-j", "51", "-P"), ("jobs", "-j", "51", "--json")):
        assert "\x1b" not in site.run(*args).stdout
    assert "esc\\x1b[2J\\n" in site.run("show", "51").stdout
    assert "/caf\\xe9" in site.run("show", "51").stdout


def test_json_has_the_schema(site: Site) -> None:
    document = json.loads(site.run("jobs", "--json", "-j", "101,103_1").stdout)
    assert document["schema"] == "slurmjc.jobs/1"
    assert document["meta"]["sees"] == "all"
    assert document["meta"]["window"]["start"] is None
    first, second = document["jobs"]
    assert (first["state"], first["reason"]) == ("FAILED", "Resources")
    assert first["exit_code"] == {"code": 3, "signal": 0}
    assert (first["elapsed_s"], first["time_limit_s"], first["time_limit_kind"]) == (50, None, "unlimited")
    assert second["id"] == "103_1"
    assert json.loads(site.run("jobs", "--json", "-j", "999").stdout)["jobs"] == []


def test_the_schema_is_the_documented_one(site: Site) -> None:
    """Key by key: what a program reads in docs/slurmjc.md is what it gets."""
    document = json.loads(site.run("jobs", "--json", "-aD").stdout)
    kinds = {"integer": int, "string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
    rows = re.findall(r"^\| (`[^|]*`) \| ([a-z ,]+) \|", (ROOT / "docs/slurmjc.md").read_text(), re.MULTILINE)
    types = {key: types for keys, types in rows for key in re.findall(r"`([^`]+)`", keys)}
    described = {key for key in types if "." not in key} - {"schema", "jobs"}
    for job_object in document["jobs"]:
        assert set(job_object) == described
        for key, value in job_object.items():
            allowed = tuple(kinds[word] for word in types[key].split(" or "))
            assert isinstance(value, allowed), f"{key}: {value!r} is not {types[key]}"
    assert set(document) == {"schema", "meta", "jobs"}
    assert {f"meta.{key}" for key in document["meta"]} == {"meta.window", "meta.server", "meta.sees", "meta.truncated"}
    assert {key for key in types if key.startswith("meta.window.")} == {"meta.window.start", "meta.window.end"}


def test_ndjson_is_one_object_per_line(site: Site) -> None:
    lines = site.run("jobs", "-aD", "--ndjson").stdout.splitlines()
    assert [json.loads(line)["job_id"] for line in lines] == [100, 101, 102, 103, 104, 105, 106, 107, 107, 51]
    assert json.loads(lines[-1])["work_dir"] == "/caf\ufffd"


def test_show_prints_every_run(site: Site) -> None:
    done = site.run("show", "107")
    assert done.stdout.count("job_id         107") == 2
    assert len(json.loads(site.run("show", "107", "--json").stdout)["jobs"]) == 2


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["jobs", "--nosuch"], 2, "No such option"),
        (["nosuch"], 2, "No such command"),
        (["jobs", "-S", "soon"], 2, "'soon' is no time, expected one of HH:MM"),
        (["jobs", "-S", "now", "-E", "now-1day"], 2, "--endtime is before --starttime"),
        (["jobs", "-s", "HAPPY"], 2, "unknown job state 'HAPPY', expected one of PENDING"),
        (["jobs", "-o", "maxrss"], 2, "unknown column 'maxrss'"),
        (["jobs", "-o", ","], 2, "--format names no column"),
        (["jobs", "-i", "x"], 2, "--nnodes takes a number or min-max"),
        (["jobs", "-i", "5-2"], 2, "--nnodes takes a number or min-max"),
        (["jobs", "--json", "--ndjson"], 2, "exclude each other"),
        (["jobs", "--delimiter", ";"], 2, "--delimiter needs -p or -P"),
        (["jobs", "-x", "7"], 2, "only slurmdbd has associations"),
        (["jobs", "-K", "10"], 2, "--timelimit-max needs --timelimit-min"),
        (["jobs", "-k", "10", "-K", "5"], 2, "--timelimit-max (5) is less than --timelimit-min (10)"),
        (["jobs", "-k", "soon"], 2, "'soon' is no time limit, expected [days-]hours"),
        (["jobs", "-q", "1,high"], 2, "--qos takes names or ids, not both"),
        (["jobs", "-R", "Bored"], 2, "unknown reason 'Bored'"),
        (["jobs", "-N", "n[1"], 1, "criterion 'node': a bracket in a node list is not closed"),
        (["jobs", "--strict"], 2, "--strict needs -j"),
        (["jobs", "-u", "nosuchuser,5"], 2, "there is no user 'nosuchuser' on this machine"),
        (["jobs", "-j", "100,999", "--strict"], 5, "job 999 isn't there"),
        (["jobs", "-j", "abc"], 2, "'abc' is no job: 100, 100-109, 100_5, 100_[1-3,7] or 100+1"),
        (["show", "999"], 5, "job 999 isn't there, or isn't yours to see"),
        (["--timeout", "x", "jobs"], 2, "is not a valid float"),
    ],
)
def test_misuse_is_told_in_a_line_and_a_status(site: Site, args: list[str], code: int, message: str) -> None:
    done = site.run(*args)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_lenient_warns_and_goes_on(site: Site) -> None:
    done = site.run("jobs", "-j", "100", "-nP", "-o", "jobid,maxrss", "--lenient")
    assert (done.returncode, done.stdout, done.stderr) == (0, "100\n", "slurmjc: unknown column 'maxrss' left out\n")


def test_a_daemon_that_isnt_there_is_status_3(rundir: Path) -> None:
    done = run("--socket", str(rundir / "none"), "jobs")
    assert done.returncode == 3
    assert done.stderr == f"slurmjc: slurmjcd can't be reached at {rundir / 'none'}: No such file or directory\n"


def test_a_daemon_that_says_nothing_is_status_3(rundir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(rundir / "mute"))
        mute.listen()
        done = run("--socket", str(rundir / "mute"), "--timeout", "0.2", "jobs")
    assert done.returncode == 3
    assert "gave no answer within 0.2 s" in done.stderr


def test_a_store_that_is_away_is_status_3(
    make_daemon: Callable[..., Daemon], make_redis: Callable[..., RedisServer]
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)
    redis.stop()
    done = Site(daemon, redis).run("jobs", "-a")
    assert done.returncode == 3
    assert "no connection to Redis" in done.stderr or "connection to Redis" in done.stderr
    assert done.stdout == ""


def test_a_reader_that_goes_away_ends_it_quietly(site: Site) -> None:
    command = f"{program('slurmjc')} jobs -D -j 100,101,102 --ndjson | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"SLURMJC_SOCKET": str(site.daemon.query_socket)},
    )  # fmt: skip
    assert done.stderr == ""
    assert json.loads(done.stdout)["job_id"] == 100


def test_it_works_without_a_locale(site: Site) -> None:
    done = site.run("show", "51", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["pydantic", "aiohttp", "redis", "rich", "prometheus_client", "asyncio", "uvloop"])
def test_what_a_client_called_in_loops_must_not_import(site: Site, module: str) -> None:
    done = site.run("jobs", "-j", "100", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert f" {module}\n" not in done.stderr
