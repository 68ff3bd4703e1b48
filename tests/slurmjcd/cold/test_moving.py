# SPDX-License-Identifier: MIT
"""A pass leaves each run once, the latest report of it, whatever comes late and wherever it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from slurmjcd.cold import moving, writer
from slurmjcd.cold.engine import Engine
from slurmjcd.cold.files import only_mover
from slurmjcd.cold.writer import NotWritten
from slurmjcd.errors import Unavailable
from tests.harness import ROOT, RedisServer
from tests.module.records import DAY, NOON, Job, Model, completion, job
from tests.slurmjcd.cold.conftest import Store, config_for, in_files, move, write_files

LATER = NOON + 30 * 86400
SUBMIT = NOON - 5 * 86400


def run_of(job_id: int, end: int, **fields: Any) -> Job:
    """A report of the one run that this job has, whenever it is said to have ended."""
    return job(job_id, end, submit=SUBMIT, eligible=SUBMIT, start=SUBMIT + 60, **fields)


def test_days_past_the_window_go_into_files(store: Store, server: RedisServer, engine: Engine, tmp_path: Path) -> None:
    jobs = [job(number, NOON + number * 86400) for number in range(1, 6)]
    store.put(*jobs)
    told = move(config_for(server, tmp_path, after_days=2), engine, (DAY + 6) * 86400)
    assert [event["moved"] for event in told] == ["2022-01-09.parquet", "2022-01-10.parquet", "2022-01-11.parquet"]
    assert in_files(tmp_path, engine) == jobs[:3]
    assert store.find() == jobs[3:]
    assert move(config_for(server, tmp_path, after_days=2), engine, (DAY + 6) * 86400) == []


def test_what_came_late_goes_into_the_days_file(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    first = [job(number, NOON + number) for number in range(1, 6)]
    write_files(tmp_path, first)
    late = [job(9, NOON + 3), job(2, NOON + 2), job(3, NOON + 3, name="other")]
    store.put(*late)
    move(config_for(server, tmp_path), engine, LATER)
    assert in_files(tmp_path, engine) == sorted([first[0], *late, *first[3:]], key=completion)
    assert store.find() == []


@pytest.mark.parametrize(
    ("cold", "hot", "left"),
    [
        (NOON, NOON + 86400, NOON + 86400),  # reported again with an end on a later day
        (NOON + 86400, NOON, NOON + 86400),  # replayed after the later one went cold
        (NOON, NOON + 5, NOON + 5),
        (NOON + 5, NOON, NOON + 5),
        (NOON, NOON, NOON),
    ],
)
def test_of_a_run_the_latest_report_stays(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, cold: int, hot: int, left: int
) -> None:
    others = [job(7, NOON), job(8, NOON + 86400)]
    write_files(tmp_path, [run_of(1, cold, name="cold"), *others])
    store.put(run_of(1, hot, name="hot"))
    move(config_for(server, tmp_path), engine, LATER)
    found = in_files(tmp_path, engine)
    assert [record["job_id"] for record in found if record["job_id"] != 1] == [7, 8]
    (one,) = [record for record in found if record["job_id"] == 1]
    assert one == run_of(1, left, name="cold" if cold > hot else "hot")
    assert store.find() == []


def test_a_day_whose_only_run_ended_later_after_all_has_no_file(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    write_files(tmp_path, [run_of(1, NOON)])
    store.put(run_of(1, NOON + 86400))
    move(config_for(server, tmp_path), engine, LATER)
    assert [path.name for path in sorted(tmp_path.glob("*.parquet"))] == ["2022-01-09.parquet"]


def test_a_record_that_comes_while_its_day_is_moved_is_moved_too(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, monkeypatch: Any
) -> None:
    store.put(job(1))
    late = iter([job(2), job(3, NOON, name="x")])

    def publish(path: Path, day: int) -> Path:
        for record in late:
            store.put(record)
            break
        return writer.publish(path, day)

    monkeypatch.setattr(moving, "publish", publish)
    told = move(config_for(server, tmp_path), engine, LATER)
    assert [event["jobs"] for event in told] == [3]
    assert in_files(tmp_path, engine) == [job(1), job(2), job(3, NOON, name="x")]


RUN = st.builds(
    run_of,
    st.integers(1, 4),
    st.sampled_from([NOON + day * 86400 + second for day in range(4) for second in (0, 1)]),
    name=st.sampled_from(["a", "b"]),
    cluster=st.sampled_from([None, "c", "C"]),
)
BACKWARD = st.builds(
    lambda job_id, end: job(job_id, end, submit=NOON + 6 * 86400, start=0),
    st.integers(1, 2),
    st.sampled_from([NOON, NOON + 86400]),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(st.one_of(RUN, RUN, RUN, BACKWARD, st.integers(DAY, DAY + 5)), min_size=2, max_size=14))
def test_whatever_comes_in_whatever_order(
    store: Store, server: RedisServer, engine: Engine, steps: list[Job | int]
) -> None:
    """Records and passes (a number: all days before that one are due) in any order end as if all were in Redis."""
    store.client.flushall()
    model = Model()
    with tempfile.TemporaryDirectory() as name:
        config = config_for(server, Path(name), after_days=1)
        for step in steps:
            if isinstance(step, int):
                move(config, engine, (step + 1) * 86400)
            else:
                store.put(step)
                model.put(step)
        move(config, engine, LATER)
        assert in_files(Path(name), engine) == model.match()
        assert store.find() == []


# ---- what doesn't work --------------------------------------------------------------------------------------------


def test_files_go_when_they_are_old_enough(store: Store, server: RedisServer, engine: Engine, tmp_path: Path) -> None:
    write_files(tmp_path, [job(1), job(2, NOON + 86400)])
    (tmp_path / "notes.txt").write_text("mine")
    store.put(job(3))  # too late for its day, and too old
    told = move(config_for(server, tmp_path, after_days=3, keep_days=9), engine, (DAY + 10) * 86400)
    assert [event.get("removed") or event["moved"] for event in told] == ["2022-01-08.parquet", "2022-01-08.parquet"]
    assert in_files(tmp_path, engine) == [job(2, NOON + 86400)]
    assert store.find() == []
    assert (tmp_path / "notes.txt").exists()


def test_a_clock_that_is_years_ahead_does_not_take_all(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    """Nor the days in Redis, which it makes old enough to be moved and to be removed."""
    write_files(tmp_path, [job(number, NOON + number * 86400) for number in range(1, 101)])
    store.put(*(job(number, NOON + number * 86400) for number in range(101, 108)))
    move(config_for(server, tmp_path, after_days=7, keep_days=730), engine, NOON + 20 * 365 * 86400)
    assert [record["job_id"] for record in in_files(tmp_path, engine)] == list(range(32, 108))
    move(config_for(server, tmp_path, after_days=7, keep_days=730), engine, NOON + 110 * 86400)
    assert [record["job_id"] for record in in_files(tmp_path, engine)] == list(range(32, 108))


def test_a_file_that_cannot_be_written_leaves_its_day_in_redis(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, monkeypatch: Any
) -> None:
    store.put(job(1), job(2, NOON + 86400))
    (tmp_path / "2022-01-09.parquet").mkdir()
    with pytest.raises(Unavailable, match=r"2022-01-09\.parquet can't be read: "):
        move(config_for(server, tmp_path), engine, LATER)
    assert store.ids() == [1, 2]
    (tmp_path / "2022-01-09.parquet").rmdir()
    monkeypatch.setattr(writer.os, "fsync", _no_room)
    with pytest.raises(NotWritten, match=r".tmp-2022-01-08.parquet can't be written: No space left on device"):
        move(config_for(server, tmp_path), engine, LATER)
    assert store.ids() == [1, 2]
    assert not list(tmp_path.glob("*.parquet"))
    monkeypatch.undo()
    move(config_for(server, tmp_path), engine, LATER)
    assert in_files(tmp_path, engine) == [job(1), job(2, NOON + 86400)]


def _no_room(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_read_back_wrong_is_not_published(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, monkeypatch: Any
) -> None:
    store.put(job(1))

    def damaging(descriptor: int, *rest: int) -> None:
        path = next(tmp_path.glob(".tmp-*"))
        data = path.read_bytes()
        path.write_bytes(data.replace(b"alice", b"alicf", 1))  # in a page

    monkeypatch.setattr(writer.os, "posix_fadvise", damaging)
    with pytest.raises(NotWritten, match=r"can't be written: .*(CRC|read back)"):
        move(config_for(server, tmp_path), engine, LATER)
    assert store.ids() == [1]
    assert not list(tmp_path.glob("*.parquet"))


def test_fewer_jobs_than_said_is_no_day(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, monkeypatch: Any
) -> None:
    store.put(job(1), job(2))
    monkeypatch.setattr("slurmjcd.cold.hot._ALL_IDS", b"1")
    with pytest.raises(Unavailable, match="of 2 jobs of a day in Redis 1 could be read"):
        move(config_for(server, tmp_path), engine, LATER)
    assert store.ids() == [1, 2]
    assert not list(tmp_path.glob("*.parquet"))


def test_one_mover_at_a_time(store: Store, server: RedisServer, engine: Engine, tmp_path: Path) -> None:
    store.put(job(1))
    config = config_for(server, tmp_path)
    with only_mover(tmp_path) as alone:
        assert alone
        done = run_mover(config.model_dump_json(exclude={"ingest", "query"}))
    assert json.loads(done.stdout) == {"busy": True}
    assert store.ids() == [1]
    done = run_mover(config.model_dump_json(exclude={"ingest", "query"}))
    assert json.loads(done.stdout)["moved"] == "2022-01-08.parquet"
    assert store.ids() == []


@pytest.mark.parametrize(("layout", "why"), [("1>3", "jobs are being moved from 1 shards to 3"), ("3", "in 3 shards")])
def test_nothing_moves_while_jobs_go_to_other_shards(
    store: Store, server: RedisServer, tmp_path: Path, layout: str, why: str
) -> None:
    store.put(job(1))
    store.client.set("job:shards", layout)
    done = run_mover(config_for(server, tmp_path).model_dump_json(exclude={"ingest", "query"}))
    assert why in json.loads(done.stdout)["error"]
    assert store.ids() == [1]
    store.client.delete("job:shards")
    assert "moved" in run_mover(config_for(server, tmp_path).model_dump_json(exclude={"ingest", "query"})).stdout


def run_mover(config: str) -> subprocess.CompletedProcess[str]:
    """A mover as the daemon starts it: stdin stays open until it is done."""
    words = [sys.executable, "-m", "slurmjcd.cold.mover"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(config + "\n")
        process.stdin.flush()
        out = process.stdout.read()
    return subprocess.CompletedProcess(words, process.returncode, out)


def test_it_ends_with_the_daemon(store: Store, server: RedisServer, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "slurmjcd.cold.mover"]
    config = config_for(server, tmp_path).model_dump_json(exclude={"ingest", "query"})
    store.put(job(1))
    done = subprocess.run(words, input=config + "\n", capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert store.ids() == [1]


def test_a_directory_that_is_not_there_is_named(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    store.put(job(1))
    with pytest.raises(NotWritten, match=f"^{tmp_path / 'away'} can't be written to: No such file or directory"):
        move(config_for(server, tmp_path / "away"), engine, LATER)
    assert store.ids() == [1]
