# SPDX-License-Identifier: MIT
"""Files answer every question as the module does, row for row and sum for sum."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from slurmjcd.cold import reader, writer
from slurmjcd.cold.engine import Engine, Question, Runs, binary
from slurmjcd.cold.files import DayFile, list_days
from slurmjcd.cold.prefilter import Prefilter
from slurmjcd.cold.reader import ColdDays
from slurmjcd.cold.writer import publish, write_day
from slurmjcd.errors import ConfigError, Refused, Unavailable
from tests.harness.paths import MODULE
from tests.module.records import DAY, NOON, Job, Model, completion, job, pack, unpack
from tests.module.test_criteria import jobs, questions
from tests.slurmjcd.cold.conftest import Store, ask, pairs_of, write_files

FIELDS = ("user", "account", "partition", "state", "qos", "name", "cluster", "day", "hour")
# what a column of text can't say exactly, and times that are absent
ODD = [
    job(21, NOON, user="J\udcfcrgen", name="\udcff"),
    job(22, NOON, user="Jürgen", name="ÄÖ"),
    job(23, NOON, user="", name="", account=""),
    job(24, NOON, submit=0, eligible=0, start=0),
    job(25, NOON, name="a\x01b", account="k\u212a"),
    job(28, NOON, account="Phys", partition="BATCH", name="Job"),
    job(26, NOON, state=1, extra={"state_flags": 0x2000}),
    job(27, NOON, state=3, extra={"state_flags": 0x400, "comment": "x" * 300, "own": {"deep": [1, 2.5, None, True]}}),
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    stored=st.lists(jobs(), min_size=1, max_size=30),
    asked=st.lists(questions(), min_size=1, max_size=12),
    by=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2),
    group_rows=st.sampled_from([1, 2, 7, 100]),
)
def test_as_the_module(
    store: Store, engine: Engine, stored: list[Job], asked: list[dict[str, list[Any]]], by: list[str], group_rows: int
) -> None:
    store.client.flushall()
    model = Model()
    for record in stored:
        store.put(record)
        model.put(record)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "GROUP_ROWS", group_rows)
        write_files(Path(name), model.runs.values())
        days = ColdDays(Path(name), engine)
        for question in asked:
            words = [item for key, values in question.items() for value in values for item in (key, value)]
            assert ask(days, *words) == store.find(*words), question
            assert sums(days, by, *words) == grouped(store.call("AGG", "BY", *by, *words)), question


def grouped(rows: list[list[Any]]) -> dict[tuple[Any, ...], list[int]]:
    return {tuple(row[:-5]): row[-5:] for row in rows}


def sums(days: ColdDays, by: list[str], *words: object) -> dict[tuple[Any, ...], list[int]]:
    criteria = pairs_of(*words)
    question, prefilter = Question(days.engine, criteria, [name.encode() for name in by]), Prefilter.of(criteria)
    for summary in days.summaries():
        for _ in days.find(summary, question, prefilter):
            pass
    return question.sums()


QUESTIONS: list[tuple[object, ...]] = [
    (), ("user", "J\u00fcrgen"), ("user", ""), ("name", ""), ("name", "ÄÖ"), ("name", "äö"), ("account", "K\u212a"),
    ("account", "kk"), ("end", NOON), ("start", NOON, "end", NOON), ("job", "20-24"), ("job", "24", "end", 1),
    ("state", 1), ("state", "1,3", "end", NOON), ("state", 0x2000), ("state", 0x400), ("state", "3,4,5", "end", NOON),
    ("uid", "1000,7"), ("uid", 4294967295), ("job", "1,2,30-40,100_[1-3,7],5+1"), ("job", 4294967295),
    ("end", 0), ("limit", 3), ("viewer", 7, "viewer_account", ""), ("viewer", 1, "viewer_account", "KK"),
    ("viewer", 1, "viewer_account", "PHYS"), ("account", "phys"), ("partition", "batch"), ("name", "jOB"),
    ("state", 1, "start", NOON - 1000, "end", NOON - 300), ("state", 0, "start", NOON - 650, "end", NOON - 550),
    ("begun_before", NOON - 600), ("begun_before", NOON),
]  # fmt: skip


@pytest.mark.parametrize("words", QUESTIONS, ids=str)
def test_odd_values(store: Store, engine: Engine, tmp_path: Path, words: tuple[object, ...]) -> None:
    records = [*ODD, job(1, NOON - 1), job(100, NOON + 86400, array_job_id=100, array_task_id=7)]
    store.put(*records)
    write_files(tmp_path, records)
    if words[2:] == ("viewer_account", ""):
        with pytest.raises(Refused, match="criterion 'viewer_account' wants a name"):
            ask(ColdDays(tmp_path, engine), *words)
        return
    assert ask(ColdDays(tmp_path, engine), *words) == store.find(*words)


def test_a_file_keeps_the_record_byte_for_byte(engine: Engine, tmp_path: Path) -> None:
    ordered = sorted(ODD, key=completion)
    write_files(tmp_path, ordered)
    days = ColdDays(tmp_path, engine)
    (summary,) = days.summaries()
    (rows,) = days.all_rows(summary)
    assert rows.to_pylist() == [pack(record) for record in ordered]
    assert summary.reach == (DAY + 1) * 86400
    assert summary.spans["job_id"] == (21, 28)
    assert summary.spans["array_job_id"] is None
    assert summary.spans["end"] == (NOON, NOON)


def test_row_groups_that_cannot_match_are_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "GROUP_ROWS", 10)
    write_files(tmp_path, [job(number, NOON + number, uid=number // 50) for number in range(1, 101)])
    metadata = pq.read_metadata(tmp_path / "2022-01-08.parquet")

    def groups(*words: object) -> list[int]:
        return reader.candidates(metadata, Prefilter.of(pairs_of(*words)))

    assert groups("job", 34) == [3]
    assert groups("job", "9-11,99") == [0, 1, 9]
    assert groups("job", 101) == []
    assert groups("start", NOON + 95) == [9]
    assert groups("state", 3, "start", NOON + 25, "end", NOON + 26) == [2]
    assert groups("uid", 0) == [0, 1, 2, 3, 4]
    assert groups("state", 1, "start", NOON + 95) == list(range(10))  # it asks when a job ran


def test_files_of_days_without_the_user_are_not_opened(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    names = ["alice", "Bob", "carol"]
    jobs = [
        job(number + 1, NOON + number * 86400, user=name, uid=1000 + number, account=name)
        for number, name in enumerate(names)
    ]
    write_files(tmp_path, [*jobs, job(9, NOON, user=None, uid=None, account=None)])
    days = ColdDays(tmp_path, engine)
    days.summaries()
    opened: list[str] = []
    os_file = pa.OSFile
    monkeypatch.setattr(reader.pa, "OSFile", lambda path: opened.append(Path(path).name) or os_file(path))
    for words in (("user", "Bob"), ("uid", 1001), ("account", "bOB"), ("viewer", 1001), ("uid", "1,1001")):
        assert ask(days, *words) == [jobs[1]]
        assert opened == ["2022-01-09.parquet"]
        opened.clear()
    assert ask(days, "user", "bob") == []
    assert not opened
    assert ask(days, "viewer", 1000, "viewer_account", "CAROL") == [jobs[0], jobs[2]]
    assert len(opened) == 2


def test_of_many_users_there_is_no_list(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "_LISTED_MAX", 2)
    jobs = [job(number, NOON, user=f"u{number}", uid=number, account="a") for number in range(1, 4)]
    write_files(tmp_path, jobs)
    days = ColdDays(tmp_path, engine)
    assert set(days.summaries()[0].values) == {"account"}
    assert ask(days, "user", "u2") == ask(days, "uid", "2") == [jobs[1]]


def test_row_groups_are_bounded_in_bytes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "GROUP_BYTES", 1000)
    write_files(tmp_path, [job(number, NOON, name="n" * 400) for number in range(1, 8)])
    (path,) = tmp_path.iterdir()
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [3, 3, 1]
    assert path.name == "2022-01-08.parquet"


def test_of_a_run_that_was_reported_again_the_latest(engine: Engine) -> None:
    old = [job(1, NOON), job(2, NOON), job(3, NOON), job(4, NOON)]
    again = [
        job(1, NOON + 9, submit=NOON - 600, start=NOON - 500),
        job(2, NOON - 9, submit=NOON - 600, start=NOON - 500),
        job(3, NOON),
        job(4, NOON + 9, submit=NOON - 600, start=NOON - 500, cluster="C"),
    ]
    runs = Runs(engine)
    runs.add(binary(map(pack, again)))
    assert list(runs.beaten(binary(map(pack, old)), ties=False)) == [1, 0, 0, 0]
    assert list(runs.beaten(binary(map(pack, old)), ties=True)) == [1, 0, 1, 0]


# ---- what can't be read -------------------------------------------------------------------------------------------


def damage(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no parquet")
    else:
        group = pq.read_metadata(path).row_group(0)
        middle = group.column(group.num_columns - 1).data_page_offset + 100
        data[middle : middle + 16] = bytes(byte ^ 0xFF for byte in data[middle : middle + 16])
        path.write_bytes(data)


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "flipped"])
def test_a_damaged_file_is_named(engine: Engine, tmp_path: Path, kind: str) -> None:
    write_files(tmp_path, [job(number, NOON + number, name=f"n{number}") for number in range(1, 2000)])
    (path,) = tmp_path.iterdir()
    damage(path, kind)
    with pytest.raises(Unavailable, match=f"^{path} can't be read: ."):
        ask(ColdDays(tmp_path, engine))


def test_a_bit_that_flips_is_seen(engine: Engine, tmp_path: Path) -> None:
    """Of the records' column: zstd alone takes some of them for data."""
    jobs = [job(number, NOON + number, name=f"n{number * 7919 % 1000}") for number in range(1, 500)]
    write_files(tmp_path, jobs)
    (path,) = tmp_path.iterdir()
    whole, group = path.read_bytes(), pq.read_metadata(path).row_group(0)
    column = group.column(group.num_columns - 1)
    for place in range(column.data_page_offset + 60, column.data_page_offset + column.total_compressed_size, 101):
        data = bytearray(whole)
        data[place] ^= 4
        path.write_bytes(data)
        with pytest.raises(Unavailable, match=f"^{path} can't be read: "):
            ask(ColdDays(tmp_path, engine))
    path.write_bytes(whole)
    assert ask(ColdDays(tmp_path, engine)) == jobs


def test_another_days_file_is_named(engine: Engine, tmp_path: Path) -> None:
    write_files(tmp_path, [job(1, NOON)])
    (path,) = tmp_path.iterdir()
    wrong = path.rename(tmp_path / "2022-01-09.parquet")
    with pytest.raises(Unavailable, match=f"^{wrong} can't be read: it isn't the file that was written under this"):
        ask(ColdDays(tmp_path, engine))


def test_rows_out_of_order_are_an_error(engine: Engine, tmp_path: Path) -> None:
    path = write_day(tmp_path, DAY, [pack(job(2, NOON)), pack(job(1, NOON))])
    assert path is not None
    publish(path, DAY)
    with pytest.raises(Unavailable, match="record 1 of a row group is damaged, or not in its place"):
        ask(ColdDays(tmp_path, engine))


def test_no_bit_of_a_footer_flips_in_silence(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    """The answer is the whole one, or an error."""
    monkeypatch.setattr(writer, "GROUP_ROWS", 5)
    stored = [job(number, NOON + number, uid=1000 + number % 2) for number in range(1, 16)]
    write_files(tmp_path, stored)
    path = tmp_path / "2022-01-08.parquet"
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    assert footer - len(b"SJDIGEST") - 16 == whole.index(b"SJDIGEST")
    questions = [("uid", 1000), ("start", NOON + 8, "state", 3), ()]
    expected = [stored[1::2], stored[7:], stored]
    errors = 0
    for place in range(footer - 24, len(whole), 17):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        for words, rows in zip(questions, expected, strict=True):
            try:
                assert ask(ColdDays(tmp_path, engine), *words) == rows, (place, words)
            except Unavailable as exc:
                assert str(exc).startswith(f"{path} can't be read: ")  # noqa: PT017
                errors += 1
    assert errors > 500


def test_a_later_version_is_named(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "FORMAT", b"2")
    write_files(tmp_path, [job(1, NOON)])
    monkeypatch.undo()
    with pytest.raises(Unavailable, match="can't be read: it is of format 2, this slurmjcd knows 1"):
        ask(ColdDays(tmp_path, engine))


def test_somebody_elses_parquet_is_named(engine: Engine, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "2022-01-08.parquet")
    with pytest.raises(Unavailable, match="can't be read: slurmjcd has not written it"):
        ask(ColdDays(tmp_path, engine))


def test_no_directory_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"^{tmp_path / 'away'} can't be read: No such file or directory"):
        ask(ColdDays(tmp_path / "away", engine))


def test_a_link_to_nowhere_is_named(engine: Engine, tmp_path: Path) -> None:
    """Files that were moved to a larger disk, which isn't mounted."""
    days, disk = tmp_path / "days", tmp_path / "disk"
    days.mkdir()
    disk.mkdir()
    write_files(disk, [job(1)])
    (days / "2022-01-08.parquet").symlink_to(disk / "2022-01-08.parquet")
    assert ask(ColdDays(days, engine)) == [job(1)]
    disk.rename(tmp_path / "away")
    with pytest.raises(Unavailable, match=f"^{days}/2022-01-08.parquet can't be read: No such file or directory"):
        ask(ColdDays(days, engine))


def test_a_file_that_is_written_over_in_its_place_is_seen(engine: Engine, tmp_path: Path) -> None:
    """The directory's time doesn't tell it."""
    write_files(tmp_path, [job(1)])
    os.utime(tmp_path, (NOON, NOON))
    days = ColdDays(tmp_path, engine)
    assert ask(days, "job", "1,2") == [job(1)]
    (tmp_path / "other").mkdir()
    write_files(tmp_path / "other", [job(1), job(2)])
    os.utime(tmp_path, (NOON, NOON))
    (tmp_path / "2022-01-08.parquet").write_bytes((tmp_path / "other" / "2022-01-08.parquet").read_bytes())
    days.look_anew()
    assert ask(days, "job", "2") == [job(2)]


def test_what_else_lies_there_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    for name in (
        "README",
        "2022-1-8.parquet",
        "2022-01-08.parquet.bak",
        "2022-13-01.parquet",
        ".tmp-2022-01-08.parquet",
    ):
        (tmp_path / name).write_text("x")
    assert ColdDays(tmp_path, engine).summaries() == []


def test_another_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cold.engine: .*/none.so can't be loaded"):
        Engine(tmp_path / "none.so")
    with pytest.raises(ConfigError, match=r"^cold.engine: .*slurm_jobcomp.so can't be loaded"):
        Engine(MODULE)


def test_a_record_that_is_none_is_not_written_over_in_silence(engine: Engine) -> None:
    with pytest.raises(Unavailable, match="record 1 of a row group is damaged"):
        Runs(engine).add(binary([pack(job(1)), b"\x90"]))
    assert unpack(pack(job(1)))["job_id"] == 1


def test_a_list_of_files_is_good_until_the_directory_changes(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []

    def counted(directory: Path) -> list[DayFile]:
        listed.append(directory)
        return list_days(directory)

    monkeypatch.setattr(reader, "list_days", counted)
    write_files(tmp_path, [job(1, NOON)])
    days = ColdDays(tmp_path, engine)
    assert [file.day for file in (*days.files(), *days.files())] == [DAY, DAY]
    assert len(listed) == 2  # it has only just changed, and might within the same tick of the clock
    os.utime(tmp_path, (NOON, NOON))
    assert [len(days.files()) for _ in range(3)] == [1, 1, 1]
    assert len(listed) == 3
    write_files(tmp_path, [job(1, NOON), job(2, NOON + 86400)])
    assert [file.day for file in days.files()] == [DAY, DAY + 1]
