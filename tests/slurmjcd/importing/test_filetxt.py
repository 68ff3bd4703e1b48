# SPDX-License-Identifier: MIT
"""Lines of jobcomp/filetxt into records."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.importing.filetxt import Filetxt
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item
from slurmjcd.importing.localtimes import LocalTimes
from tests.slurmjcd.jobs import NOON


def line(**changes: str) -> str:
    """As Slurm's JOB_FORMAT has it."""
    parts = {
        "JobId": "17", "UserId": "ada(1000)", "GroupId": "users(100)", "Name": "solve", "JobState": "COMPLETED",
        "Partition": "batch", "TimeLimit": "60", "StartTime": "2026-03-01T11:59:00", "EndTime": "2026-03-01T12:00:00",
        "NodeList": "n[1-2]", "NodeCnt": "2", "ProcCnt": "8", "WorkDir": "/home/ada", "ReservationName": "",
        "Tres": "cpu=8,mem=4G,node=2,billing=8", "Account": "physics", "QOS": "normal", "WcKey": "", "Cluster": "c1",
        "SubmitTime": "2026-03-01T11:58:20", "EligibleTime": "2026-03-01T11:58:20", "Array": "", "Het": "",
        "DerivedExitCode": "0:0", "ExitCode": "0:0",
    } | changes  # fmt: skip
    tail = parts.pop("Array") + parts.pop("Het")
    text = " ".join(f"{key}={value}" for key, value in parts.items())
    return text.replace(" DerivedExitCode", f"{tail} DerivedExitCode") + " "


def items(tmp_path: Path, content: str | bytes) -> list[Item]:
    path = tmp_path / "jobcomp.log"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(Filetxt(InputFile(str(path)), LocalTimes(UTC), "UTC", "here").items(0))


def one(tmp_path: Path, **changes: str) -> dict[str, Any]:
    (item,) = items(tmp_path, line(**changes) + "\n")
    assert item.fields is not None, item.refused
    return item.fields


def test_an_ordinary_job(tmp_path: Path) -> None:
    assert {name: value for name, value in one(tmp_path).items() if value not in (None, {})} == {
        "job_id": 17, "uid": 1000, "gid": 100, "user": "ada", "group": "users", "name": "solve", "cluster": "c1",
        "partition": "batch", "account": "physics", "qos": "normal", "state": 3, "exit_code": 0, "derived_exit_code": 0,
        "submit": NOON - 100, "eligible": NOON - 100, "start": NOON - 60, "end": NOON, "time_limit": 60,
        "node_count": 2, "cpu_count": 8, "nodes": "n[1-2]", "tres_req": "cpu=8,mem=4G,node=2,billing=8",
        "work_dir": "/home/ada", "restart_count": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"UserId": "4711(4711)"}, "user", None),
        ({"Name": "my job  (two)"}, "name", "my job  (two)"),
        ({"Name": ""}, "name", None),
        ({"WorkDir": "/a b/Name c"}, "work_dir", "/a b/Name c"),
        ({"TimeLimit": "UNLIMITED"}, "time_limit", "UNLIMITED"),
        ({"TimeLimit": "4294967294"}, "time_limit", None),
        ({"ExitCode": "3:0"}, "exit_code", 3 << 8),
        ({"DerivedExitCode": "0:9"}, "derived_exit_code", 9),
        ({"JobState": "OUT_OF_MEMORY"}, "state", 11),
        ({"Cluster": "unknown"}, "cluster", "here"),
        ({"Array": " ArrayJobId=16 ArrayTaskId=3"}, "array_task_id", 3),
        ({"Het": " HetJobId=16 HetJobOffset=1"}, "het_job_offset", 1),
        ({"Het": " PackJobId=16 PackJobOffset=2"}, "het_job_offset", 2),
        # a job cancelled while pending: its start is that of its cancellation, or one that was expected
        ({"NodeList": "(null)", "JobState": "CANCELLED"}, "start", 0),
        ({"StartTime": "Unknown", "NodeList": "(null)"}, "start", 0),
        # the part of a job before a resize has that for start and end
        ({"JobState": "RESIZING", "StartTime": "2026-03-01T12:00:00"}, "start", 0),
        ({"JobState": "RESIZING"}, "extra", {"state_flags": 1 << 13}),
    ],
)
def test_a_field(tmp_path: Path, changes: dict[str, str], field: str, expected: object) -> None:
    assert one(tmp_path, **changes)[field] == expected


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("hello\n", "doesn't begin with JobId="),
        (line().replace("EndTime", "Endtime") + "\n", "EndTime= is missing or in another place"),
        (line(EndTime="soon") + "\n", "'soon' is no time"),
        (line(JobState="DONE") + "\n", "unknown job state 'DONE'"),
        (line(SubmitTime="unknown") + "\n", "SubmitTime is unknown"),
        (line(JobId="5000000000") + "\n", "JobId must be a number"),
        (line()[:-15] + "\n", "is cut"),
        (line(Name="x JobState=FAILED Partition=p") + "\n", "can be read in two ways"),
        (line(WorkDir="/x ReservationName=r Tres=t") + "\n", "can be read in two ways"),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, content: str, why: str) -> None:
    (item,) = items(tmp_path, content)
    assert item.fields is None
    assert why in item.refused
    assert item.raw == content.rstrip("\n")


def test_a_name_can_not_pretend_to_be_the_rest_of_the_line(tmp_path: Path) -> None:
    whole = line(Name="x " + line()[line().index("JobState") :].strip())
    (item,) = items(tmp_path, whole + "\n")
    assert "can be read in two ways" in item.refused


def test_a_line_that_slurm_cut_does_not_take_the_next_job_with_it(tmp_path: Path) -> None:
    """jobcomp/filetxt up to 24.05 has 1,024 bytes for a line; what doesn't fit is cut together with the line's end."""
    room = 1023 - len(line(JobId="1", WorkDir="/"))
    cut_late = line(JobId="1", WorkDir="/" + "d" * (room + 12))[:1023]
    cut_early = line(JobId="2", WorkDir="/" + "é" * 600).encode()[:1023]
    content = cut_late.encode() + cut_early + (line(JobId="3") + "\n" + line(JobId="4") + "\n").encode()
    found = items(tmp_path, content)
    assert [item.fields["job_id"] if item.fields else item.refused for item in found] == [
        1, "ReservationName= is missing or in another place; Slurm cut it at 1,023 bytes", 3, 4,
    ]  # fmt: skip
    assert [item.place for item in found] == ["1", "1", "1", "2"]


def test_generic_resources_of_slurm_18_08(tmp_path: Path) -> None:
    (item,) = items(tmp_path, line().replace("Tres=cpu=8,mem=4G,node=2,billing=8", "Gres=gpu:2") + "\n")
    assert item.fields is not None
    assert (item.fields["tres_req"], item.fields["extra"]) == (None, {"req_gres": "gpu:2"})


def test_bytes_that_are_no_utf8_stay_as_they_are(tmp_path: Path) -> None:
    (item,) = items(tmp_path, line(Name="caf\udce9").encode("utf-8", "surrogateescape") + b"\n")
    assert item.fields is not None
    assert item.fields["name"] == "caf\udce9"


def test_items_go_on_behind_those_that_were_taken(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(line(JobId=str(number)) + "\n" for number in range(1, 6)))
    source = Filetxt(InputFile(str(path)), LocalTimes(UTC), "UTC", "here")
    assert [item.place for item in source.items(3)] == ["4", "5"]
    assert source.total == 5
