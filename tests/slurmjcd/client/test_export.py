# SPDX-License-Identifier: MIT
"""`slurmjc export` as a process, against a running daemon."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from slurmjcd.exporting import ndjson
from slurmjcd.record import encode
from tests.harness.paths import program
from tests.harness.waiting import wait_until
from tests.slurmjcd.client.site import Site, made, serving
from tests.slurmjcd.jobs import fields, job

NOW = int(time.time())
JOBS: list[dict[str, Any]] = [
    made(job_id=number, end=NOW - 60 * (20 - number), user=("ada", "bob\n")[number % 2], state=(3, 5)[number % 2],
         name=f"n|{number}")
    for number in range(1, 12)
] + [made(job_id=3, end=NOW - 30, submit=NOW - 50, start=NOW - 40, restart_count=1)]  # fmt: skip
MANY = 20_000


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(JOBS) as serving_site:
        yield serving_site


def test_ndjson_gives_every_run_back(site: Site) -> None:
    done = site.run("export", "-a")
    assert done.returncode == 0, done.stderr
    assert "jobs that ended from" in done.stderr
    found = [encode(ndjson.fields_of(json.loads(line))) for line in done.stdout.splitlines()]
    assert sorted(found) == sorted(job(**each) for each in JOBS)


def test_csv_and_the_flags_of_jobs(site: Site) -> None:
    done = site.run("export", "-a", "-s", "F", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == ["1", "3", "5", "7", "9", "11"]
    assert {row["user"] for row in rows} == {"bob\\n"}
    assert all(row["end"].endswith("+00:00") for row in rows)


def test_xdmod(site: Site) -> None:
    lines = site.run("export", "-a", "-j", "3", "--format", "xdmod").stdout.splitlines()
    assert [line.split("|")[0] for line in lines] == ["3", "3"]
    assert lines[0].endswith("|n1|n|3")


def test_the_window_is_one_of_ends(site: Site) -> None:
    """The next job, which was eligible before the window's end and ended at it, is in the next export."""
    end = JOBS[4]["end"]
    before = site.run("export", "-a", "-S", str(JOBS[2]["end"]), "-E", str(end), "-f", "csv").stdout
    after = site.run("export", "-a", "-S", str(end), "-f", "csv").stdout
    ids = [[row["id"] for row in csv.DictReader(io.StringIO(text))] for text in (before, after)]
    assert ids == [["3", "4"], ["5", "6", "7", "8", "9", "10", "11", "3"]]


def test_a_job_that_never_became_eligible_is_there(site: Site) -> None:
    held = fields(70, end=NOW - 4 * 86_400, eligible=0, start=0, state=4, nodes=None)
    with site.redis.client() as client:
        client.execute_command("SLURMJC.PUT", "job", "RECORDS", encode(held))
    done = site.run("export", "-a", "-S", "now-5days", "-E", "now-3days", "-f", "csv")
    assert [row["id"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["70"]


def test_times_are_of_the_readers_zone(site: Site) -> None:
    done = site.run("export", "-a", "-j", "1", "-f", "csv", TZ="Asia/Kolkata")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["end"].endswith("+05:30")


def test_a_file_by_its_name(site: Site, tmp_path: Path) -> None:
    for name, head in (("a.csv", b"id,job_id"), ("a.parquet", b"PAR1"), ("a.jsonl", b'{"id"'), ("a", b'{"id"')):
        done = site.run("export", "-a", "-o", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert f"12 jobs in {tmp_path / name}" in done.stderr
        assert (tmp_path / name).read_bytes().startswith(head)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.csv", "a.jsonl", "a.parquet"]
    assert pq.read_table(tmp_path / "a.parquet").num_rows == len(JOBS)


def test_parquet_through_a_pipe(site: Site) -> None:
    done = subprocess.run(
        [program("slurmjc"), "export", "-a", "-f", "parquet"], capture_output=True, timeout=60, check=True,
        env={**os.environ, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
    )  # fmt: skip
    assert pq.read_table(io.BytesIO(done.stdout)).column("job_id").to_pylist() == [*range(1, 12), 3]


def test_without_pyarrow_it_says_how_to_get_it(site: Site) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from slurmjcd.client.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "-a", "-f", "parquet"], capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "pip install 'slurmjcd[parquet]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_is_replaced_whole_or_not_at_all(site: Site, tmp_path: Path) -> None:
    there, link = tmp_path / "jobs.ndjson", tmp_path / "link"
    there.write_text("before")
    there.chmod(0o640)
    link.symlink_to(there)
    site.redis.process.send(signal.SIGSTOP)
    try:
        failed = site.run("--timeout", "0.5", "export", "-a", "-o", str(there))
    finally:
        site.redis.process.send(signal.SIGCONT)
    assert failed.returncode == 3
    assert there.read_text() == "before"
    assert site.run("export", "-a", "-o", str(link)).returncode == 0
    assert len(there.read_text().splitlines()) == len(JOBS)
    assert stat.S_IMODE(there.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_no_file_is_written_to_and_stays(site: Site, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert site.run("export", "-a", "-o", str(pipe)).returncode == 0
        if pipe.is_file():
            reader.kill()
        assert reader.stdout is not None
        assert len(reader.stdout.read().splitlines()) == 1 + len(JOBS)
    assert pipe.is_fifo()


@pytest.mark.parametrize("place", ["nowhere/x.csv", "full", "folder"])
def test_a_place_that_takes_nothing_is_one_line(site: Site, place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mknod(tmp_path / "full", stat.S_IFCHR | 0o666, os.makedev(1, 7))  # as /dev/full is
    path = tmp_path / place
    done = site.run("export", "-a", "-o", str(path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"slurmjc: can't write {path}: ")


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_stopped_leaves_nothing(site: Site, tmp_path: Path, ended_by: signal.Signals) -> None:
    site.redis.process.send(signal.SIGSTOP)  # so that the answer takes until we say so
    try:
        process = subprocess.Popen(
            [program("slurmjc"), "export", "-a", "-o", str(tmp_path / "x.csv")], stderr=subprocess.DEVNULL,
            env={**os.environ, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
        )  # fmt: skip
        wait_until(lambda: any(tmp_path.iterdir()), what="the file it writes to")
        process.send_signal(ended_by)
        assert process.wait(30) != 0
    finally:
        site.redis.process.send(signal.SIGCONT)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def big(site: Site) -> Site:
    """The site with MANY jobs more, of the day before and of cluster big."""
    with site.redis.client() as client:
        for at in range(0, MANY, 2000):
            batch = [encode(fields(at + n, **made(end=NOW - 90_000 - n), cluster="big")) for n in range(1, 2001)]
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", *batch)
    return site


def test_a_reader_that_leaves_is_no_error(big: Site) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program('slurmjc')} export -aS now-3days | head -n 1 >/dev/null"],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "SLURMJC_SOCKET": str(big.daemon.query_socket)},
    )  # fmt: skip
    assert done.returncode in (0, 128 + signal.SIGPIPE)
    assert [line for line in done.stderr.splitlines() if "jobs that ended" not in line] == []


@pytest.mark.parametrize("form", ["ndjson", "csv", "xdmod", "parquet"])
def test_memory_does_not_grow_with_the_number_of_jobs(big: Site, form: str) -> None:
    """20,000 jobs as dictionaries are 80 MB; Parquet holds a row group, which is bounded."""
    few, written = _peak_kib(big, form, "-M", "c1")
    many, more_written = _peak_kib(big, form, "-S", "now-3days", "-M", "big")
    assert more_written > MANY
    assert more_written > 10 * written
    assert many - few < (200_000 if form == "parquet" else 12_000)


# of this program's own memory: what getrusage says of a child begins with that of its parent
_TELLING_ITS_PEAK = """
import atexit, pathlib, sys
from slurmjcd.client.main import main
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print(*[line for line in status.read_text().splitlines() if "VmHWM" in line], file=sys.stderr))
main()
"""


def _peak_kib(site: Site, form: str, *words: str) -> tuple[int, int]:
    """The most memory it had, and how many bytes it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", _TELLING_ITS_PEAK, "export", "-a", "-f", form, *words], capture_output=True, timeout=60,
        check=True, env={**os.environ, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
    )  # fmt: skip
    return int(done.stderr.splitlines()[-1].split()[1]), len(done.stdout)


def test_parquet_is_not_poured_over_a_terminal(site: Site) -> None:
    control, terminal = pty.openpty()
    done = subprocess.run(
        [program("slurmjc"), "export", "-a", "-f", "parquet"], stdout=terminal, stderr=subprocess.PIPE, text=True,
        timeout=60, check=False, env={**os.environ, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
    )  # fmt: skip
    os.close(terminal)
    os.close(control)
    assert done.returncode == 2
    assert "name a file with -o" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-f", "xml"], "'xml' is not one of 'ndjson', 'csv', 'parquet', 'xdmod'"),
        (["-o", "x.csv.gz"], "export doesn't pack"),
        (["-s", "GONE"], "unknown job state 'GONE'"),
        (["-x", "1"], "only slurmdbd has associations"),
        (["-S", "tomorow"], "'tomorow' is no time"),
        (["what"], "unexpected extra argument"),
    ],
)
def test_wrong_use_is_one_clear_error(site: Site, words: list[str], said: str) -> None:
    done = site.run("export", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
