# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import pytest

from slurmjcd.client import columns, table
from slurmjcd.record import decode
from tests.slurmjcd.jobs import NOON, job


def made(number: int = 7, **changes: Any) -> dict[str, Any]:
    return decode(job(number, **changes))


def value(name: str, **changes: Any) -> Any:
    ((column,), _) = columns.parse_format(name, "", lenient=False)
    return column.value(made(**changes))


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "7"),
        ({"array_job_id": 5, "array_task_id": 0}, "5_0"),
        ({"het_job_id": 5, "het_job_offset": 1}, "5+1"),
        ({"array_job_id": 5}, "7"),
    ],
)
def test_job_ids_are_written_as_sacct_does(changes: dict[str, Any], shown: str) -> None:
    assert value("jobid", **changes) == shown
    assert value("jobidraw", **changes) == 7


@pytest.mark.parametrize(
    ("name", "changes", "shown"),
    [
        ("exitcode", {"exit_code": 3 << 8}, "3:0"),
        ("exitcode", {"exit_code": 9}, "0:9"),
        ("exitcode", {"exit_code": 139}, "0:11"),
        ("exitcode", {"exit_code": None}, "0:0"),
        ("state", {"state": 11}, "OUT_OF_MEMORY"),
        ("state", {"state": 3, "extra": {"state_flags": 1 << 13}}, "RESIZING"),
        ("state", {"state": 0, "extra": {"state_flags": 1 << 10}}, "REQUEUED"),
        ("state", {"state": 77}, "77"),
        ("state", {"state": 4, "extra": {"cancelled_by": 0}}, "CANCELLED by 0"),
        ("elapsedraw", {"start": NOON - 10, "end": NOON, "extra": {"orig_start": NOON - 60, "suspended": 5}}, 55),
        ("elapsed", {"start": NOON - 3661, "end": NOON}, "01:01:01"),
        ("elapsed", {"start": 0}, "00:00:00"),
        ("elapsed", {"start": NOON + 50, "end": NOON}, "00:00:00"),
        ("cputimeraw", {"start": NOON - 100, "end": NOON, "cpu_count": 4}, 400),
        ("timelimit", {"time_limit": 90}, "01:30:00"),
        ("timelimit", {"time_limit": "UNLIMITED"}, "UNLIMITED"),
        ("timelimit", {"time_limit": None}, None),
        ("start", {"start": 0}, "Unknown"),
        ("planned", {"submit": NOON - 100, "eligible": NOON - 90, "start": NOON - 30}, "00:01:00"),
        ("stdout", {"extra": {"std_out": "/x"}}, "/x"),
    ],
)
def test_values(name: str, changes: dict[str, Any], shown: Any) -> None:
    assert value(name, **changes) == shown


def test_every_column_has_a_value_for_a_job_with_nothing() -> None:
    nothing = made(user=None, group=None, name=None, cluster=None, partition=None, account=None, qos=None, qos_id=None,
                   exit_code=None, eligible=0, start=0, time_limit=None, node_count=None, cpu_count=None, nodes=None,
                   tres_req=None, tres_alloc=None, work_dir=None, priority=None)  # fmt: skip
    chosen, _ = columns.parse_format("all", "", lenient=False)
    assert len(chosen) == len(columns.names())
    for column in chosen:
        table.plain(column.value(nothing))


def test_formats_take_widths_and_additions() -> None:
    chosen, _ = columns.parse_format("JobID%20, state%-5 ,user", "", lenient=False)
    assert [(column.title, column.width) for column in chosen] == [("JobID", 20), ("State", -5), ("User", 9)]
    chosen, _ = columns.parse_format("+qos%3,+uid", "jobid,state", lenient=False)
    assert [column.title for column in chosen] == ["JobID", "State", "QOS", "UID"]


@pytest.mark.parametrize(
    "text", ["maxrss", "jobid,foo", "+foo", "state%", "state%0", "state%x", "state%--3", "state%1000000"]
)
def test_wrong_formats_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown column '|the width in '"):
        columns.parse_format(text, "jobid", lenient=False)


def test_lenient_skips_unknown_columns() -> None:
    chosen, unknown = columns.parse_format("jobid,maxrss", "", lenient=True)
    assert ([column.title for column in chosen], unknown) == (["JobID"], ["maxrss"])


def test_a_table_is_aligned_and_cut_as_saccts() -> None:
    chosen, _ = columns.parse_format("jobid,user%5,jobname%-6", "", lenient=False)
    jobs = [made(1), made(2, user="abcdefgh", name="x")]
    assert list(table.aligned(chosen, jobs, header=True)) == [
        "JobID         User JobNam",
        "------------ ----- ------",
        "1              ada job1  ",
        "2            abcd+ x     ",
    ]


def test_delimited_fields_cant_break_out() -> None:
    chosen, _ = columns.parse_format("jobid,jobname", "", lenient=False)
    jobs = [made(1, name="a|b\nc")]
    assert list(table.delimited(chosen, jobs, header=True, delimiter="|", trailing=True)) == [
        "JobID|JobName|",
        "1|a\\x7cb\\nc|",
    ]
    assert list(table.delimited(chosen, jobs, header=False, delimiter="::", trailing=False)) == ["1::a|b\\nc"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("caf\xe9", "caf\xe9"),
        ("a\udcffb", "a\\xffb"),
        ("\u202e", "\\u202e"),
        ("\t", "\\t"),
        (None, ""),
        (5, "5"),
    ],
)
def test_nothing_reaches_the_terminal_that_it_would_obey(text: Any, shown: str) -> None:
    assert table.plain(text) == shown
