# SPDX-License-Identifier: MIT
"""What `sacct -P` prints into records."""

from __future__ import annotations

import os
import pwd
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item, WrongFormat
from slurmjcd.importing.localtimes import LocalTimes
from slurmjcd.importing.names import Names
from slurmjcd.importing.sacct import RECOMMENDED, Sacct
from tests.slurmjcd.jobs import NOON

ROW = {
    "JobID": "17", "JobIDRaw": "17", "Cluster": "c1", "Partition": "batch", "Account": "physics", "User": "ada",
    "UID": "1000", "Group": "users", "GID": "100", "JobName": "solve", "State": "COMPLETED", "ExitCode": "0:0",
    "DerivedExitCode": "0:0", "Submit": "2026-03-01T11:58:20", "Eligible": "2026-03-01T11:58:20",
    "Start": "2026-03-01T11:59:00", "End": "2026-03-01T12:00:00", "TimelimitRaw": "60", "NNodes": "2", "NCPUS": "8",
    "NodeList": "n[1-2]", "ReqTRES": "cpu=8", "AllocTRES": "cpu=8,node=2", "WorkDir": "/home/ada", "Constraints": "",
    "QOS": "normal", "QOSRAW": "1", "WCKey": "", "Reservation": "", "Priority": "7", "Comment": "", "AdminComment": "",
}  # fmt: skip


def source(tmp_path: Path, text: str, unknown_id: int | None = None) -> Sacct:
    path = tmp_path / "sacct.out"
    path.write_text(text)
    return Sacct(InputFile(str(path)), LocalTimes(UTC), "UTC", "here", Names(unknown_id))


def items(tmp_path: Path, *rows: dict[str, str], delimiter: str = "|", end: str = "\n", **kwargs: Any) -> list[Item]:
    lines = [delimiter.join(rows[0]), *(delimiter.join(row.values()) for row in rows)]
    return list(source(tmp_path, "".join(line + end for line in lines), **kwargs).items(0))


def one(tmp_path: Path, row: dict[str, str], **kwargs: Any) -> dict[str, Any]:
    (item,) = items(tmp_path, row, **kwargs)
    assert item.fields is not None, item.refused
    return item.fields


def test_the_recommended_fields_are_the_ones_that_are_tested() -> None:
    assert RECOMMENDED.split(",") == list(ROW)


def test_an_ordinary_job(tmp_path: Path) -> None:
    assert {name: value for name, value in one(tmp_path, ROW).items() if value not in (None, {})} == {
        "job_id": 17, "uid": 1000, "gid": 100, "user": "ada", "group": "users", "name": "solve", "cluster": "c1",
        "partition": "batch", "account": "physics", "qos": "normal", "qos_id": 1, "state": 3, "exit_code": 0,
        "derived_exit_code": 0, "submit": NOON - 100, "eligible": NOON - 100, "start": NOON - 60, "end": NOON,
        "time_limit": 60, "node_count": 2, "cpu_count": 8, "nodes": "n[1-2]", "tres_req": "cpu=8",
        "tres_alloc": "cpu=8,node=2", "work_dir": "/home/ada", "priority": 7, "restart_count": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"JobID": "16_3"}, "array_task_id", 3),
        ({"JobID": "16+1"}, "het_job_id", 16),
        ({"State": "CANCELLED by 1000"}, "extra", {"cancelled_by": 1000}),
        ({"State": "CANCELLED by 1000"}, "state", 4),
        ({"State": "RESIZING"}, "extra", {"state_flags": 1 << 13}),
        ({"TimelimitRaw": "UNLIMITED"}, "time_limit", "UNLIMITED"),
        ({"TimelimitRaw": "Partition_Limit"}, "time_limit", "Partition_Limit"),
        ({"NodeList": "None assigned"}, "start", 0),
        ({"NodeList": "None assigned"}, "nodes", None),
        ({"Comment": "hello"}, "extra", {"comment": "hello"}),
        ({"End": "1772366400"}, "end", NOON),
        ({"End": "2026-03-01T13:00:00+0100"}, "end", NOON),
        ({"Cluster": ""}, "cluster", "here"),
    ],
)
def test_a_field(tmp_path: Path, changes: dict[str, str], field: str, expected: object) -> None:
    assert one(tmp_path, ROW | changes)[field] == expected


def test_few_fields_are_enough(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    names = ("JobID", "State", "Submit", "Start", "End", "User", "GID")
    fields = one(tmp_path, {name: {**ROW, "User": me}[name] for name in names})
    assert (fields["job_id"], fields["uid"], fields["end"]) == (17, os.getuid(), NOON)
    assert fields["eligible"] == fields["submit"]


def test_any_delimiter_and_a_trailing_one(tmp_path: Path) -> None:
    assert one(tmp_path, ROW, delimiter="\x1f")["name"] == "solve"
    assert one(tmp_path, ROW | {"JobName": "a|b"}, delimiter="\x1f")["name"] == "a|b"
    assert one(tmp_path, ROW, end="|\n")["priority"] == 7


def test_steps_and_jobs_that_have_not_ended_are_left_out(tmp_path: Path) -> None:
    found = items(
        tmp_path,
        ROW | {"JobID": "17.batch", "JobIDRaw": "17.batch"},
        ROW | {"JobID": "16_3.0", "JobIDRaw": "17.0"},
        ROW | {"State": "RUNNING", "End": "Unknown"},
        ROW | {"State": "PENDING", "End": "Unknown", "JobID": "16_[4-9]"},
    )
    assert [(item.fields, item.refused) for item in found] == [(None, "")] * 4


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"JobName": "a|b"}, "33 fields, the header has 32"),
        ({"End": "later"}, "'later' is no time"),
        ({"State": "DONE"}, "unknown job state 'DONE'"),
        ({"JobIDRaw": "x"}, "'17' is no job id of one job"),
        ({"UID": "ada"}, "UID must be a number"),
        ({"UID": "", "User": "nobody-of-that-name"}, "no user 'nobody-of-that-name' on this host"),
        ({"GID": "", "Group": "no-such-group"}, "no group 'no-such-group' on this host"),
        ({"ExitCode": "one"}, "an exit code must be code:signal"),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    (item,) = items(tmp_path, ROW | changes)
    assert item.fields is None
    assert why in item.refused


def test_an_array_task_needs_its_own_id(tmp_path: Path) -> None:
    row = {name: value for name, value in ROW.items() if name != "JobIDRaw"} | {"JobID": "16_3"}
    (item,) = items(tmp_path, row)
    assert "only JobIDRaw tells the id" in item.refused


def test_names_that_nobody_knows_may_get_a_number(tmp_path: Path) -> None:
    fields = one(tmp_path, ROW | {"UID": "", "User": "nobody-of-that-name"}, unknown_id=65534)
    assert (fields["uid"], fields["user"], fields["gid"]) == (65534, "nobody-of-that-name", 100)


def test_a_header_that_lacks_a_field_is_named_with_what_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(WrongFormat, match=r"lacks end, gid or group in its header.*sacct -P -o JobID,JobIDRaw"):
        source(tmp_path, "JobIDRaw|State|Submit|Start|UID\n")
    with pytest.raises(WrongFormat, match=r"has no header of sacct's: its first line is '17\|COMPLETED'"):
        source(tmp_path, "17|COMPLETED\n")


def test_a_time_for_a_job_without_end_is_asked_for(tmp_path: Path) -> None:
    (item,) = items(tmp_path, ROW | {"End": "Unknown"})
    assert item.fields is not None
    assert item.fields["end"] == 0
