# SPDX-License-Identifier: MIT
"""`slurmjc import` as a process, beside a running daemon: each run once, whatever was there and whoever was killed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import record
from slurmjcd.client import progress
from slurmjcd.client.connection import Connection
from tests.harness.paths import program
from tests.harness.waiting import wait_until
from tests.slurmjcd.client.site import Site, serving
from tests.slurmjcd.importing.test_filetxt import line
from tests.slurmjcd.jobs import NOON, job

LIVE_ONLY = 900_001
LIVE = [job(LIVE_ONLY), job(11_999, restart_count=1)]


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    with serving([]) as serving_site:
        yield serving_site


@pytest.fixture
def site(running: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty one."""
    monkeypatch.chdir(tmp_path)
    with running.redis.client() as client:
        client.flushall()
    return running


def command(site: Site, *args: str) -> list[str | Path]:
    return [program("slurmjc"), "import", "--config", site.daemon.conf, "--timezone", "UTC", "--cluster", "c1", *args]


def run(site: Site, *args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(site, *args), capture_output=True, text=True, timeout=60, check=False, **kwargs)


def summary(site: Site, *args: str) -> dict[str, Any]:
    """What the import says, without what is 0."""
    done = run(site, *args, "--json")
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if value and name != "schema"}


def stored(site: Site) -> list[dict[str, Any]]:
    """Every record in the store, by job id."""
    with site.redis.client() as client:
        assert client.execute_command("SLURMJC.MATCH", "job", "all", "limit", "100000") is not None
        found: list[dict[str, Any]] = []
        while page := client.execute_command("SLURMJC.FETCH", "job", "all", "1000", "RECORDS"):
            found += [record.decode(blob) for blob in page]
    return sorted(found, key=lambda fields: (fields["job_id"], fields["start"]))


def log(path: Path, count: int, **changes: str) -> Path:
    path.write_text("".join(line(JobId=str(number), **changes) + "\n" for number in range(1, count + 1)))
    return path


def test_a_log_is_stored_and_a_second_time_changes_nothing(site: Site, tmp_path: Path) -> None:
    path = str(log(tmp_path / "log", 1200))
    assert summary(site, path) == {"read": 1200, "stored": 1200}
    before = stored(site)
    assert [fields["job_id"] for fields in before] == list(range(1, 1201))
    assert before[0]["end"] == NOON
    assert before[0]["extra"] == {}
    assert summary(site, path) == {"read": 1200, "already_there": 1200}
    assert stored(site) == before


def test_a_log_that_has_grown_brings_only_what_is_new(site: Site, tmp_path: Path) -> None:
    log(tmp_path / "log", 5)
    assert summary(site, "log") == {"read": 5, "stored": 5}
    log(tmp_path / "log", 7)
    assert summary(site, "log") == {"read": 7, "stored": 2, "already_there": 5}


def test_what_slurmctld_reported_itself_stays_as_it_is(site: Site, tmp_path: Path) -> None:
    """A live record has more fields, and a restart count that no log has."""
    live = [job(1, restart_count=2), job(2, cluster="other"), job(3, start=NOON - 90), job(4, start=0, state=4)]
    with site.redis.client() as client:
        client.execute_command("SLURMJC.PUT", "job", "RECORDS", *live)
    log(tmp_path / "log", 3)
    with (tmp_path / "log").open("a") as file:
        file.write(line(JobId="4", NodeList="(null)", JobState="CANCELLED") + "\n")
    # 2 is of another cluster, 3 started at another time: those are other runs
    assert summary(site, "log") == {"read": 4, "stored": 2, "already_there": 2}
    kept = {record.encode(fields) for fields in stored(site)}
    assert set(live) <= kept
    assert len(kept) == 6


def test_a_later_report_of_a_run_takes_the_place_of_the_earlier(site: Site, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(line() + "\n")
    assert summary(site, "log") == {"read": 1, "stored": 1}
    (tmp_path / "log").write_text(line(EndTime="2026-03-01T12:05:00") + "\n" + line() + "\n")
    assert summary(site, "log") == {"read": 2, "stored": 1, "already_there": 1}
    (fields,) = stored(site)
    assert fields["end"] == NOON + 300


def test_refused_lines_are_named_and_kept_and_can_be_mended(site: Site, tmp_path: Path) -> None:
    good, bad = line(JobId="1"), line(JobId="2", EndTime="soon")
    (tmp_path / "log").write_text(f"{good}\n{bad}\nno job\n{line(JobId='3', EndTime='2099-01-01T00:00:00')}\n")
    done = run(site, "log", "--refused", "bad")
    assert done.returncode == 1
    assert "refused 3 can't be records" in " ".join(done.stdout.split())
    assert "line 2: 'soon' is no time" in done.stderr
    assert "line 3: it doesn't begin with JobId=" in done.stderr
    assert "line 4: it ended in the future: is --timezone that of the source" in done.stderr
    kept = (tmp_path / "bad").read_text()
    assert bad in kept.splitlines()
    (tmp_path / "mended").write_text(kept.replace("soon", "2026-03-01T12:00:00"))
    assert summary(site, "mended", "--refused", "bad2")["stored"] == 1
    assert [fields["job_id"] for fields in stored(site)] == [1, 2]


def test_what_the_store_refuses_is_refused_and_its_neighbours_are_stored(site: Site, tmp_path: Path) -> None:
    names = ["a", "b\0c", "d", "e" * 200_000, "f"]
    (tmp_path / "log").write_text("".join(line(JobId=str(at), Name=name) + "\n" for at, name in enumerate(names, 1)))
    found = summary(site, "log", "--refused", "bad")
    assert (found["read"], found["stored"], found["refused"]) == (5, 4, 1)
    assert [(entry["at"], entry["reason"].split(":")[0]) for entry in found["reasons"]] == [
        ("2", "the store refuses it")
    ]
    assert [fields["name"] for fields in stored(site)] == ["a", "d", "e" * 16_384, "f"]
    assert stored(site)[2]["extra"] == {"truncated": "name"}
    assert summary(site, "log", "--refused", "bad2")["already_there"] == 4


def test_values_that_no_record_can_hold_are_refused(site: Site, tmp_path: Path) -> None:
    jobs = json.loads((Path(__file__).parent / "corpus/24.11/sacct.json").read_text())
    half, huge, fine = [job for job in jobs["jobs"] if job["time"]["end"]][:3]
    half["name"], huge["priority"] = "\ud800", {"set": True, "infinite": False, "number": 2**70}
    (tmp_path / "x.json").write_text(json.dumps({"jobs": [half, huge, fine]}))
    found = summary(site, "x.json", "--unknown-id", "65534")
    assert (found["read"], found["stored"], found["refused"]) == (3, 1, 2)
    assert all("can't be a record" in entry["reason"] for entry in found["reasons"])


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("nowhere.log",), 1, "nowhere.log: No such file or directory"),
        ((".",), 1, ".: Is a directory"),
        (("log", "--format", "xml"), 2, "'xml' is not one of 'auto'"),
        (("log", "--cluster", ""), 1, "name the cluster with --cluster"),
        (("log", "--config", "/nowhere.toml"), 1, "/nowhere.toml"),
        (("log", "--wait", "-1"), 2, "-1"),
        (("log", "--format", "sacct"), 1, "log has no header of sacct's"),
        (("log", "--refused", "/nowhere/bad"), 1, "/nowhere/bad: No such file or directory"),
    ],
)
def test_wrong_words_are_one_clear_error(
    site: Site, tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    (tmp_path / "log").write_text(line() + "\nno job\n")
    done = run(site, *words, env={**os.environ, "LC_ALL": "C", "COLUMNS": "40", "NO_COLOR": "1"})
    assert done.returncode == status
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_dry_run_stores_nothing(site: Site, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(line() + "\nno job\n")
    done = run(site, "log", "--dry-run")
    assert done.returncode == 1
    assert "nothing was stored" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]
    with site.redis.client() as client:
        assert client.dbsize() == 0


def test_jobs_past_the_retention_are_left_out(site: Site, tmp_path: Path) -> None:
    log(tmp_path / "log", 2)
    conf = tmp_path / "short.toml"
    conf.write_text(site.daemon.conf.read_text().replace("[redis]", "[redis]\nttl_s = 3600"))
    assert summary(site, "log", "--config", str(conf)) == {"read": 2, "expired": 2}


def test_packed_files_and_standard_input(site: Site, tmp_path: Path) -> None:
    text = log(tmp_path / "log", 3).read_bytes()
    (tmp_path / "log.gz").write_bytes(gzip.compress(text))
    assert summary(site, "log.gz") == {"read": 3, "stored": 3}
    with (tmp_path / "log").open("rb") as file:
        done = run(site, "-", "--json", stdin=file)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["already_there"] == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x28\xb5\x2f\xfd rest", "packed with zstd: zstd -dc log | slurmjc import -"),
        (gzip.compress(b"JobId=1 UserId=a(1)" * 1000, mtime=0)[:60], "is packed and damaged"),
        (b"\n\nfrom,to\n1,2\n", "is in no format that is known: line 3 begins with 'from,to'"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_error(site: Site, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "log").write_bytes(content)
    done = run(site, "log")
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_zone_that_does_not_exist_is_one_clear_error(site: Site, tmp_path: Path) -> None:
    log(tmp_path / "log", 1)
    done = run(site, "log", "--timezone", "Mars/Olympus")
    assert done.returncode == 1
    assert "there is no time zone 'Mars/Olympus'" in done.stderr


def test_an_import_waits_for_live_records_that_redis_has_not_got_yet(tmp_path: Path) -> None:
    """Redis hangs while slurmctld delivers a job, which the log has as well."""
    log(tmp_path / "log", 1)
    with serving([]) as site:
        _import_behind_live_records(site, str(tmp_path / "log"))


def _import_behind_live_records(site: Site, path: str) -> None:
    live = job(1, restart_count=1)
    site.redis.process.send(signal.SIGSTOP)
    try:
        connection = Connection(str(site.daemon.ingest_socket), 10)
        assert connection.call(b"SLURMJC.PUT", b"SPOOL", b"ring-1", b"1", b"RECORDS", live) == 1
        # told of, and not delivered: it is in the ring
        ring = (b"ring-1", b"ATTEMPTED", b"2", b"DROPPED", b"0", b"SPILLED", b"0")
        assert connection.call(b"SLURMJC.RING", *ring) == b"OK"
    finally:
        site.redis.process.send(signal.SIGCONT)
    with closing(connection):
        _import_meanwhile(site, path, live, connection)


def _import_meanwhile(site: Site, path: str, live: bytes, connection: Connection) -> None:
    done = run(site, path, "--wait", "0.5")
    assert done.returncode == 3
    assert "1 records of jobs that ended are still on their way to Redis" in done.stderr
    process = subprocess.Popen(command(site, path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "waiting for 1 records" in process.stderr.readline()
    assert connection.call(b"SLURMJC.PUT", b"SPOOL", b"ring-1", b"2", b"RECORDS", job(2)) == 1
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.split()[:2] == ["read", "1"]
    assert "already_there 1" in " ".join(out.split())
    assert [record.encode(fields) for fields in stored(site)] == [live, job(2)]


def test_redis_away_is_exit_code_3(site: Site, tmp_path: Path) -> None:
    log(tmp_path / "log", 1)
    conf = tmp_path / "away.toml"
    conf.write_text(site.daemon.conf.read_text().replace(site.redis.address, "unix:/nowhere/redis.sock"))
    done = run(site, "log", "--config", str(conf))
    assert done.returncode == 3
    assert "no connection to Redis" in done.stderr


def test_killed_imports_go_on_and_nothing_is_missing_or_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed twice on the way, with refused lines among the jobs, beside live ones."""
    monkeypatch.chdir(tmp_path)
    with serving([]) as site:
        _kill_and_go_on(site, tmp_path)


def _kill_and_go_on(site: Site, tmp_path: Path) -> None:
    count = 12_000
    path = tmp_path / "log"
    with path.open("w") as file:
        for number in range(1, count + 1):
            file.write(("no job" if number % 1000 == 0 else line(JobId=str(number))) + "\n")
    small = tmp_path / "small.toml"  # batches, so that there is time to kill it
    small.write_text(site.daemon.conf.read_text().replace("[redis]", "[redis]\nbatch_records = 20"))
    words = ["log", "--refused", "bad", "--config", str(small)]
    taken = [0]
    live = Connection(str(site.daemon.ingest_socket), 10)
    with site.redis.client() as client, closing(live):
        for number in (1, 2):
            process = subprocess.Popen(command(site, *words), stdout=subprocess.PIPE)
            wait_until(lambda: _watermark(client) >= taken[-1] + 500, what="the import has taken some")
            # slurmctld goes on delivering jobs, one of them the import's last
            assert live.call(b"SLURMJC.PUT", b"SPOOL", b"ring", b"%d" % number, b"RECORDS", LIVE[number - 1]) == 1
            process.kill()
            process.communicate()
            taken.append(_watermark(client))
            assert taken[-1] < count, "killed too late to show anything"
    found = summary(site, *words)
    assert found["earlier_run"] == taken[-1]
    assert found["read"] == count - taken[-1]
    assert found["already_there"] == 1
    records = stored(site)
    assert set(LIVE) <= {record.encode(fields) for fields in records}
    ids = [fields["job_id"] for fields in records if fields["job_id"] != LIVE_ONLY]
    assert ids == [number for number in range(1, count + 1) if number % 1000]
    assert len(records) == len(ids) + 1
    refused = [entry for entry in (tmp_path / "bad").read_text().splitlines() if entry.startswith("# item")]
    assert [int(entry.split()[2].rstrip(",")) for entry in refused] == list(range(1000, count + 1, 1000))
    assert summary(site, "log", "--refused", "bad")["already_there"] == len(ids)


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def work(*, after_s: float, terminal: bool) -> str:
        monkeypatch.setattr(progress, "_AFTER_S", after_s)
        monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "40")
        with progress.Progress("importing", 10) as bar:
            bar.add(5)
        return capsys.readouterr().err

    drawn = work(after_s=0, terminal=True)
    assert "importing" in drawn
    assert "50%" in drawn
    assert work(after_s=0, terminal=False) == ""
    assert work(after_s=3600, terminal=True) == ""


def _watermark(client: Any) -> int:
    """The most that an import in that store has taken."""
    info = client.execute_command("SLURMJC.INFO", "job")
    marks = info[info.index(b"watermarks") + 1]
    found = [mark for name, mark in zip(marks[::2], marks[1::2], strict=True) if name.startswith(b"import-")]
    return int(max(found, default=0))
