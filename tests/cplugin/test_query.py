# SPDX-License-Identifier: MIT
"""sacct -c: what it asks the daemon, what it prints of the answer, and how it ends when there is no whole answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.cplugin.fake_daemon import FakeDaemon, array, bulk
from tests.harness.paths import PLUGIN
from tests.harness.slurm_conf import slurm_plugin_dir, slurm_version

# what of the environment sacct keeps: its path, and a sanitizer if the tests run with one
KEPT = {name: os.environ[name] for name in ("PATH", "LD_PRELOAD", "ASAN_OPTIONS") if name in os.environ}
DAY = 1_700_006_400  # 2023-11-15T00:00:00Z
RECORD: list[Any] = [
    1, 1001, None, None, None, None, None, 1000, 1001, "ada", "staff", "solve", "c1", "batch", "physics", "normal", 1,
    "w1", "maint", 3, 0, 0, 0, DAY, DAY + 1, DAY + 60, DAY + 3660, 120, 2, 8, "n[1-2]", "cpu=8,node=2", "cpu=8,node=2",
    "/home/ada", "gpu", 7, 0, {},
]  # fmt: skip
POSITION = {
    "job_id": 1, "het_job_id": 4, "het_job_offset": 5, "user": 9, "name": 11, "cluster": 12, "state": 19,
    "exit_code": 21,
    "derived": 22, "submit": 23, "eligible": 24, "start": 25, "end": 26, "limit": 27, "nodes": 30,
    "tres_alloc": 32, "extra": 37,
}  # fmt: skip


def record(**changes: Any) -> bytes:
    """A record with some fields changed."""
    fields = list(RECORD)
    for name, value in changes.items():
        fields[POSITION[name]] = value
    return msgpack.packb(fields)


class Sacct:
    """sacct on a configuration of its own, with a daemon that answers FETCH with `pages`."""

    def __init__(self, directory: Path) -> None:
        plugins = directory / "plugins"
        plugins.mkdir()
        shutil.copy(PLUGIN, plugins)
        self.sockets = directory / "sock"
        self.sockets.mkdir()
        self.conf = directory / "slurm.conf"
        self.params = ""
        self.timeout_s = 20  # far from what a busy machine needs
        self._plugins = plugins
        self.daemon = FakeDaemon(self.sockets / "query.sock")
        self.daemon.query = self._answer
        self.pages: list[bytes] = []

    def _answer(self, request: list[bytes]) -> bytes:
        if request[0] == b"SLURMJC.MATCH":
            return bulk(b"job:mat:1") if self.pages else b"$-1\r\n"
        return self.pages.pop(0) if self.pages else b"*0\r\n"

    def run(self, *args: str, tz: str = "UTC", **env: str) -> subprocess.CompletedProcess[str]:
        self.conf.write_text(
            f"ClusterName=c1\nSlurmctldHost=localhost\nNodeName=n1\nPluginDir={self._plugins}:{slurm_plugin_dir()}\n"
            f"JobCompType=jobcomp/redis\nJobCompLoc={self.sockets}\nJobCompParams=timeout={self.timeout_s},{self.params}\n"
        )
        return subprocess.run(
            ["sacct", "-c", *args], capture_output=True, text=True, timeout=30, check=False,
            env={**KEPT, "SLURM_CONF": str(self.conf), "TZ": tz, **env},
        )  # fmt: skip

    def row(self, blob: bytes, columns: str, **env: str) -> list[str]:
        """The columns of one job."""
        self.pages = [array([blob])]
        done = self.run("-nPD", "-o", columns, **env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.rstrip("\n").split("|")

    def criteria(self, *args: str) -> dict[bytes, list[bytes]]:
        """What MATCH was asked for; times are left out unless asked for."""
        self.daemon.requests.clear()
        done = self.run("-S", "2023-11-15", "-E", "2023-11-16", *args)
        assert (done.returncode, done.stderr) == (0, "")
        (match,) = [r for r in self.daemon.requests if r[0] == b"SLURMJC.MATCH"]
        found: dict[bytes, list[bytes]] = {}
        for name, value in zip(match[2::2], match[3::2], strict=True):
            found.setdefault(name, []).append(value)
        return found


@pytest.fixture
def sacct(rundir: Path) -> Sacct:
    sacct = Sacct(rundir)
    sacct.daemon.start()
    return sacct


# ---- rows


def test_every_column_that_sacct_has_a_field_for(sacct: Sacct) -> None:
    columns = {
        "jobid": "1001", "uid": "1000", "user": "ada", "gid": "1001", "jobname": "solve", "cluster": "c1",
        "partition": "batch", "account": "physics", "qos": "normal", "wckey": "w1", "reservation": "maint",
        "state": "COMPLETED", "exitcode": "0:0", "derivedexitcode": "0:0", "eligible": "2023-11-15T00:00:01",
        "start": "2023-11-15T00:01:00", "end": "2023-11-15T01:01:00", "elapsed": "01:00:00", "elapsedraw": "3600",
        "timelimit": "02:00:00", "nnodes": "2", "alloccpus": "8", "nodelist": "n[1-2]", "workdir": "/home/ada",
    }  # fmt: skip
    assert dict(zip(columns, sacct.row(record(), ",".join(columns)), strict=True)) == columns


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"state": 5}, "FAILED"), ({"state": 4}, "CANCELLED"), ({"state": 6}, "TIMEOUT"),
        ({"state": 11}, "OUT_OF_MEMORY"),
        ({"state": 4, "extra": {"cancelled_by": 0}}, "CANCELLED by 0"),
        ({"state": 1, "extra": {"state_flags": 0x2000}}, "RESIZING"),
        ({"state": 0, "extra": {"state_flags": 0x400}}, "REQUEUED"),
        ({"state": 4, "extra": {"state_flags": 0x80000}}, "REVOKED"),
        ({"state": 3, "extra": {"state_flags": 0x10000}}, "COMPLETED"),
    ],
)  # fmt: skip
def test_state(sacct: Sacct, changes: dict[str, Any], state: str) -> None:
    assert sacct.row(record(**changes), "state") == [state]


def test_part_of_a_resized_job_starts_and_lasts_as_sacct_shows_it(sacct: Sacct) -> None:
    """That is as the whole, until 24.11."""
    blob = record(start=DAY + 120, end=DAY + 180, extra={"orig_start": DAY + 60})
    own = slurm_version() >= (24, 11)
    assert sacct.row(blob, "start,elapsedraw") == (
        ["2023-11-15T00:02:00", "60"] if own else ["2023-11-15T00:01:00", "120"]
    )


def test_cpus_of_a_job_that_was_given_none(sacct: Sacct) -> None:
    """Those it had asked for, until 23.02.5."""
    never = record(state=4, start=0, nodes=None, tres_alloc=None)
    assert sacct.row(never, "alloccpus,ncpus") == (["0", "0"] if slurm_version() >= (23, 2, 5) else ["8", "8"])
    # slurmdbd keeps what it was given before it was requeued
    assert sacct.row(record(state=4, start=0, nodes=None), "alloccpus,ncpus") == ["8", "8"]
    # and without accounting there is no TRES to go by
    assert sacct.row(record(tres_alloc=None), "alloccpus,ncpus") == ["8", "8"]


def test_suspended_time_does_not_count(sacct: Sacct) -> None:
    assert sacct.row(record(extra={"suspended": 600}), "elapsedraw") == ["3000"]


@pytest.mark.parametrize(
    ("status", "shown", "derived"),
    [(768, "3:0", "3:0"), (9, "0:9", "0:9"), (137 << 8, "9:0", "137:0"), (None, "0:0", "0:0")],
)
def test_exit_codes_as_sacct_shows_them_from_slurmdbd(
    sacct: Sacct, status: int | None, shown: str, derived: str
) -> None:
    assert sacct.row(record(exit_code=status, derived=status), "exitcode,derivedexitcode") == [shown, derived]


@pytest.mark.parametrize(
    ("limit", "shown"),
    [(1, "00:01:00"), (1500, "1-01:00:00"), ("UNLIMITED", "UNLIMITED"), ("Partition_Limit", "Partition_Limit")],
)
def test_time_limit(sacct: Sacct, limit: Any, shown: str) -> None:
    assert sacct.row(record(limit=limit), "timelimit") == [shown]


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_job_that_never_ran(sacct: Sacct, tz: str) -> None:
    blob = record(state=4, start=0, eligible=0, nodes=None)
    assert sacct.row(blob, "start,eligible,elapsed,nodelist", tz=tz) == [
        "None",
        "Unknown",
        "00:00:00",
        "None assigned",
    ]


@pytest.mark.parametrize("fmt", ["standard", "relative", "%s", "%a"])
def test_times_do_not_depend_on_how_sacct_prints_them(sacct: Sacct, fmt: str) -> None:
    (shown,) = sacct.row(record(), "end", SLURM_TIME_FORMAT=fmt)
    if fmt == "%s":
        assert shown == str(DAY + 3660)


def test_both_hours_of_the_clock_change_are_told_apart(sacct: Sacct) -> None:
    """2023-11-05 01:30 came twice in New York, an hour apart."""
    times = [
        sacct.row(record(end=end), "end", tz="America/New_York", SLURM_TIME_FORMAT="%s")
        for end in (1699162200, 1699165800)
    ]
    assert times == [["1699162200"], ["1699165800"]]


def test_rows_come_page_by_page_in_order(sacct: Sacct) -> None:
    sacct.pages = [array([record(job_id=n) for n in range(first, first + 500)]) for first in (1, 501, 1001)]
    done = sacct.run("-nP", "-o", "jobid")
    assert done.stdout.split() == [str(n) for n in range(1, 1501)]
    assert done.returncode == 0


def test_last_run_of_a_job_unless_all_are_asked_for(sacct: Sacct) -> None:
    runs = [
        record(job_id=1, submit=DAY, end=DAY + 10, state=0, extra={"state_flags": 0x400}),
        record(job_id=2, submit=DAY, end=DAY + 15),
        record(job_id=1, submit=DAY + 10, end=DAY + 20, state=1, extra={"state_flags": 0x2000}),
        record(job_id=1, submit=DAY + 10, end=DAY + 30, state=5),
    ]
    for args, ids in (((), ["2", "1", "1"]), (("-D",), ["1", "2", "1", "1"])):
        sacct.pages = [array(runs)]
        assert sacct.run("-nP", "-o", "jobid", *args).stdout.split() == ids


def test_a_sibling_that_another_cluster_ran_is_shown_with_all_runs_only(sacct: Sacct) -> None:
    """As slurmdbd: `t1.state != JOB_REVOKED` unless --duplicates. The run before it is still the last that counts."""
    revoked = {"state": 4, "start": 0, "extra": {"state_flags": 0x80000}}
    runs = [
        record(job_id=1 << 26, cluster="c1"),
        record(job_id=1 << 26, cluster="c2", **revoked),
        record(job_id=5, submit=DAY, end=DAY + 10),
        record(job_id=5, submit=DAY + 20, end=DAY + 30, **revoked),
    ]
    for args, rows in (((), ["c1|67108864", "c1|5"]), (("-D",), ["c1|67108864", "c2|67108864", "c1|5", "c1|5"])):
        sacct.pages = [array(runs)]
        assert sacct.run("-nP", "-o", "cluster,jobid", *args).stdout.split() == rows


HIGHEST = (63 << 26) + (1 << 26) - 1 - 3  # of a federation's last cluster; MAX_JOB_ID is three below a power of two


@pytest.mark.parametrize("job_id", [2**31 - 1, 2**31, 2**31 + 1, HIGHEST])
def test_ids_with_a_clusters_number_in_them(sacct: Sacct, job_id: int) -> None:
    assert sacct.row(record(job_id=job_id), "jobid,jobidraw") == [str(job_id)] * 2
    assert sacct.criteria("-j", str(job_id))[b"job"] == [b"%d" % job_id]


@pytest.mark.parametrize("step", [1, 64, 65, 4096, 715_827])
def test_last_run_of_each_of_many_jobs(sacct: Sacct, step: int) -> None:
    """Whatever ids there are, far apart or side by side, in order or not."""
    ids = [1 + step * n for n in range(3000)]
    first = [record(job_id=n, submit=DAY, end=DAY + 10, name="first") for n in reversed(ids)]
    last = [record(job_id=n, submit=DAY + 10, end=DAY + 20, name="last") for n in ids]
    sacct.pages = [array(first), array(last[:2000]), array(last[2000:])]
    assert sacct.run("-nP", "-o", "jobid,jobname").stdout.split() == [f"{n}|last" for n in ids]


def test_every_row_keeps_its_own_words(sacct: Sacct) -> None:
    """Rows share what is the same; more different words than are remembered, long ones, and none."""
    names = [f"name-{n % 20_000:05}{'x' * (n % 700)}" if n % 7 else "" for n in range(30_000)]
    rows = [record(job_id=n + 1, name=name) for n, name in enumerate(names)]
    sacct.pages = [array(rows[at : at + 5000]) for at in range(0, len(rows), 5000)]
    assert sacct.run("-nP", "-o", "jobname").stdout.split("\n")[:-1] == names


def test_next_page_is_asked_for_before_this_one_is_read(sacct: Sacct) -> None:
    """The daemon sends the second half of a page when the question for the next has come."""
    page = array([record(job_id=n) for n in range(1, 501)])
    half = len(page) // 2
    sacct.pages = [page[:half] + FakeDaemon.AWAIT + page[half:]] * 3
    done = sacct.run("-nPD", "-o", "jobid")
    assert (done.returncode, done.stderr, len(done.stdout.split())) == (0, "", 1500)


def matches(sacct: Sacct) -> list[bytes]:
    """The job criteria of every MATCH, in order."""
    found = []
    for request in sacct.daemon.requests:
        if request[0] == b"SLURMJC.MATCH":
            pairs = zip(request[2::2], request[3::2], strict=True)
            found.append(b" ".join(value for name, value in pairs if name == b"job"))
    return found


def test_any_part_stands_for_the_whole_heterogeneous_job(sacct: Sacct) -> None:
    parts = [record(job_id=100 + n, het_job_id=100, het_job_offset=n) for n in range(3)]
    sacct.pages = [array([parts[1]]), array([]), array(parts)]
    done = sacct.run("-nP", "-o", "jobid", "-j", "101,205+2", "--whole-hetjob=yes")
    assert done.stdout.split() == ["100", "101", "102"]
    assert matches(sacct) == [b"101,205", b"101,205 100"]


def test_leader_without_its_parts(sacct: Sacct) -> None:
    parts = [record(job_id=100 + n, het_job_id=100, het_job_offset=n) for n in range(3)]
    for args, ids in ((("100",), ["100"]), (("100,100+2",), ["100", "102"]), (("101",), ["101"])):
        sacct.pages = [array(parts)]
        assert sacct.run("-nP", "-o", "jobid", "--whole-hetjob=no", "-j", *args).stdout.split() == ids


def test_nothing_matches_is_no_error(sacct: Sacct) -> None:
    done = sacct.run("-n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- questions


def test_window(sacct: Sacct) -> None:
    found = sacct.criteria()
    assert (found[b"start"], found[b"end"]) == ([b"%d" % DAY], [b"%d" % (DAY + 86400)])


@pytest.mark.parametrize(
    ("args", "name", "values"),
    [
        (("-j", "100,101_5,102+1"), b"job", [b"100,101_5,102+1"]),
        (("-u", "0"), b"uid", [b"0"]),
        (("--uid", "root"), b"uid", [b"0"]),
        (("-g", "0"), b"gid", [b"0"]),
        (("-s", "CD,F,CA"), b"state", [b"3,5,4"]),
        (("-A", "a,b"), b"account", [b"a", b"b"]),
        (("-r", "batch,long"), b"partition", [b"batch", b"long"]),
        (("--name", "x,y z"), b"name", [b"x", b"y z"]),
        (("-W", "w"), b"wckey", [b"w"]),
        (("-N", "n[1-3,7]"), b"node", [b"n[1-3,7]"]),
        (("-i", "2-4"), b"nodes_count", [b"2-4"]),
        (("-i", "2"), b"nodes_count", [b"2"]),
        (("-I", "8-16"), b"cpus_count", [b"8-16"]),
        (("-k", "10", "-K", "1:00:00"), b"time_limit", [b"10-60"]),
        (("-k", "10"), b"time_limit", [b"10"]),
        (("-C", "gpu,fast"), b"constraint", [b"gpu", b"fast"]),
        (("-M", "c1"), b"cluster", [b"c1"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_condition_becomes_a_criterion(sacct: Sacct, args: tuple[str, ...], name: bytes, values: list[bytes]) -> None:
    assert sorted(sacct.criteria(*args)[name]) == sorted(values)


def test_a_user_asks_for_their_own_jobs(sacct: Sacct) -> None:
    """sacct itself adds the caller's uid, unless it is root's."""
    assert b"uid" not in sacct.criteria("-a")


def test_long_list_of_ids_in_one_question(sacct: Sacct) -> None:
    """In pieces that the daemon takes as one word each."""
    ids = ",".join(map(str, range(1, 15001)))
    pieces = sacct.criteria("-j", ids)[b"job"]
    assert len(pieces) == 2
    assert b",".join(pieces) == ids.encode()


def test_what_the_store_cannot_answer_is_refused(sacct: Sacct) -> None:
    done = sacct.run("-x", "17")
    assert done.returncode == 1
    assert "can't be selected by association ids" in done.stderr


# ---- no whole answer


def failed(done: subprocess.CompletedProcess[str], why: str) -> None:
    """One line that says why, a status that says so too, and no rows."""
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("sacct: error: can't read completed jobs from /")
    assert why in done.stderr
    assert done.stdout == ""


def test_no_daemon(sacct: Sacct) -> None:
    sacct.daemon.stop()
    failed(sacct.run("-n"), "can't connect: No such file or directory")


def test_no_one_behind_the_socket(sacct: Sacct) -> None:
    sacct.daemon.stop()
    sacct.daemon.path.write_text("")
    failed(sacct.run("-n"), "can't connect: Connection refused")


@pytest.mark.parametrize("command", [b"SLURMJC.HELLO", b"SLURMJC.MATCH", b"SLURMJC.FETCH"])
def test_daemon_that_falls_silent(sacct: Sacct, command: bytes) -> None:
    sacct.pages = [array([record()])]
    reply = sacct.daemon._reply
    sacct.daemon._reply = lambda request: b"" if request[0] == command else reply(request)  # type: ignore[method-assign]
    sacct.timeout_s = 1
    before = time.monotonic()
    failed(sacct.run("-n"), "no answer in time")
    assert time.monotonic() - before >= 1


@pytest.mark.parametrize("error", [b"-UNAVAILABLE Redis is away\r\n", b"-NOPERM no\r\n", b"-LIMIT 1000 jobs\r\n"])
def test_error_in_the_middle_of_the_rows(sacct: Sacct, error: bytes) -> None:
    sacct.pages = [array([record(job_id=n) for n in range(1, 100)]), error]
    failed(sacct.run("-n"), error[1:].decode().strip())


def test_connection_that_ends_in_the_middle_of_a_page(sacct: Sacct) -> None:
    page = array([record(job_id=n) for n in range(1, 100)])
    for cut in (1, 10, 100, len(page) // 2, len(page) - 1):
        sacct.pages = [page, page[:cut] + FakeDaemon.CLOSE]
        # it may have asked for the next page already: closing then is a reset
        failed(sacct.run("-n"), "the daemon closed the connection")


@pytest.mark.parametrize(
    "page", [b"$3\r\nabc\r\n", b":1\r\n", b"hello\r\n", b"$-1\r\n", array([b"\xc0"]), array([b""]), b"*1\r\n:5\r\n"]
)
def test_answer_that_makes_no_sense(sacct: Sacct, page: bytes) -> None:
    sacct.pages = [array([record()]), page]
    failed(sacct.run("-n"), "")


def test_old_daemon(sacct: Sacct) -> None:
    reply = sacct.daemon._reply
    sacct.daemon._reply = lambda request: (  # type: ignore[method-assign]
        b"-NOPROTO this daemon speaks protocol 2\r\n" if request[0] == b"SLURMJC.HELLO" else reply(request)
    )
    failed(sacct.run("-n"), "NOPROTO this daemon speaks protocol 2")


def test_bad_settings_are_said_on_stderr_and_do_no_harm(sacct: Sacct) -> None:
    sacct.params = "bogus=1"
    sacct.pages = [array([record()])]
    done = sacct.run("-nP", "-o", "jobid")
    assert (done.returncode, done.stdout) == (0, "1001\n")
    assert "unknown option bogus=1" in done.stderr


def test_a_setting_given_twice_is_said_once(sacct: Sacct) -> None:
    sacct.params = "timeout=21,timeout=22"
    sacct.pages = [array([record()])]
    done = sacct.run("-nP", "-o", "jobid")
    assert (done.returncode, done.stdout) == (0, "1001\n")
    (line,) = done.stderr.splitlines()
    assert "JobCompParams: timeout is given more than once, the last one counts" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen as somebody else")
def test_rows_of_somebody_who_took_the_sockets_place_are_not_shown(sacct: Sacct) -> None:
    sacct.daemon.stop()
    sacct.daemon.path.unlink(missing_ok=True)
    sacct.sockets.chmod(0o777)
    os.seteuid(64103)
    try:
        sacct.daemon.start()
    finally:
        os.seteuid(0)
    sacct.pages = [array([record()])]
    done = sacct.run("-X", "-n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "uid 64103 listens there, which is neither root nor slurmjcd" in done.stderr
    sacct.params = "daemon_user=64103"
    assert "1001" in sacct.run("-X", "-n").stdout
