# SPDX-License-Identifier: MIT
"""What jobcomp/elasticsearch posts, as a record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slurmjcd.errors import ProtocolError
from slurmjcd.intake.document import read
from slurmjcd.record import decode
from tests.harness import ROOT

# as Slurm 22.05 posted it, but for the script
POSTED: dict[str, Any] = {
    "jobid": 17, "container": None, "username": "ada", "user_id": 1000, "groupname": "users", "group_id": 100,
    "@start": "2026-03-01T11:59:00", "@end": "2026-03-01T12:00:00", "elapsed": 60, "partition": "main",
    "alloc_node": "login1", "nodes": "n[1-2]", "total_cpus": 4, "total_nodes": 2, "derived_ec": "0:9",
    "exit_code": "3:0", "state": "FAILED", "cpu_hours": 0.0666, "pack_job_id": 0, "pack_job_offset": 4294967294,
    "het_job_id": 0, "het_job_offset": 4294967294, "@submit": "2026-03-01T11:58:00", "@eligible": "2026-03-01T11:58:00",
    "@queue_wait": 60, "work_dir": "/home/ada", "std_err": "/home/ada/e", "std_in": "/dev/null",
    "std_out": "/home/ada/o", "ntasks": 4, "ntasks_per_node": 0, "cpus_per_task": 1, "time_limit": 3600,
    "job_name": "solve", "tres_req": "cpu=4,node=2", "tres_alloc": "cpu=4,node=2", "account": "physics",
    "wc_key": "w", "reservation_name": "r", "qos": "normal", "orig_dependency": "afterok:16",
    "excluded_nodes": "n3", "script": "#!/bin/sh\n",
}  # fmt: skip
NOON = 1772366400


def posted(**changes: Any) -> bytes:
    """The document with changes; a field that becomes ... is left out."""
    return json.dumps({name: value for name, value in (POSTED | changes).items() if value is not ...}).encode()


def fields(**changes: Any) -> dict[str, Any]:
    record = read(posted(**changes), "demo").record
    assert record is not None
    return decode(record)


def test_each_field_is_taken_over() -> None:
    assert fields() == {
        "version": 1, "job_id": 17, "array_job_id": None, "array_task_id": None, "het_job_id": None,
        "het_job_offset": None, "sluid": None, "uid": 1000, "gid": 100, "user": "ada", "group": "users",
        "name": "solve", "cluster": "demo", "partition": "main", "account": "physics", "qos": "normal", "qos_id": None,
        "wckey": "w", "reservation": "r", "state": 5, "state_reason": None, "exit_code": 3 << 8,
        "derived_exit_code": 9, "submit": NOON - 120, "eligible": NOON - 120, "start": NOON - 60, "end": NOON,
        "time_limit": 60, "node_count": 2, "cpu_count": 4, "nodes": "n[1-2]", "tres_req": "cpu=4,node=2",
        "tres_alloc": "cpu=4,node=2", "work_dir": "/home/ada", "features": None, "priority": None, "restart_count": 0,
        "extra": {
            "std_in": "/dev/null", "std_out": "/home/ada/o", "std_err": "/home/ada/e", "dependency": "afterok:16",
            "alloc_node": "login1", "excluded_nodes": "n3", "ntasks": 4, "ntasks_per_node": 0, "cpus_per_task": 1,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"array_job_id": 15, "array_task_id": 0}, {"array_job_id": 15, "array_task_id": 0}),
        ({"het_job_id": 17, "het_job_offset": 1}, {"het_job_id": 17, "het_job_offset": 1}),
        ({"time_limit": ...}, {"time_limit": "UNLIMITED"}),
        ({"time_limit": 4294967176}, {"time_limit": None}),
        ({"@start": "Unknown"}, {"start": 0}),
        ({"@start": ...}, {"start": 0}),
        (
            {"@start": "2026-03-01T12:00:00", "nodes": "(null)", "total_nodes": 0, "total_cpus": 0},
            {"start": 0, "nodes": None, "node_count": None, "cpu_count": None},
        ),
        ({"priority": 4294901758, "features": "gpu"}, {"priority": 4294901758, "features": "gpu"}),
        ({"cluster": "demo"}, {"cluster": "demo"}),
        ({"job_name": "", "account": None}, {"name": None, "account": None}),
        ({"job_name": "x" * 20_000}, {"name": "x" * 16_384}),
        ({"job_name": "x" + "é" * 10_000}, {"name": "x" + "é" * 8191}),
        ({"state": "RESIZING"}, {"state": 1}),
    ],
)
def test_what_may_be_otherwise(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = fields(**changes)
    assert {name: found[name] for name in expected} == expected


def test_a_resize_keeps_its_flag_and_a_cut_string_its_name() -> None:
    assert fields(state="RESIZING")["extra"]["state_flags"] == 1 << 13
    assert fields(job_name="x" * 20_000, std_in="y" * 20_000)["extra"]["truncated"] == "name,std_in"


def test_names_need_not_be_utf8() -> None:
    record = read(posted().replace(b'"solve"', b'"so\xfflve\\u0007\x07"'), "demo").record
    assert record is not None
    assert decode(record)["name"].encode("utf-8", "surrogateescape") == b"so\xfflve\x07\x07"


def test_strings_are_as_long_as_the_record_allows() -> None:
    schema = json.loads((ROOT / "schema" / "record.json").read_text())
    limits = {field["name"]: field.get("max_bytes") for field in [*schema["fields"], *schema["extra"]]}
    long = "x" * 200_000
    row = fields(**dict.fromkeys(("nodes", "job_name", "account", "std_out", "parent_accounts"), long))
    found = {name: len(row[name]) for name in ("nodes", "name", "account")}
    found |= {name: len(row["extra"][name]) for name in ("std_out", "parent_accounts")}
    assert found == {name: limits[name] for name in found}


def test_a_job_that_has_only_begun_makes_no_record() -> None:
    document = read(posted(**dict.fromkeys(("@end", "exit_code", "derived_ec", "elapsed"), ...)), "demo")
    assert (document.job_id, document.record) == (17, None)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no object with a job's fields"),
        (b"null", "no object with a job's fields"),
        (b"{}", "field 'jobid': a job's id was expected"),
        (b'{"jobid": NaN}', "NaN is no number"),
        (b'{"jobid": ' + b"9" * 5000 + b"}", "no JSON"),
        (posted(jobid=0), "field 'jobid': a job's id was expected"),
        (posted(jobid="17"), "field 'jobid': a number from 0 to 4294967295 was expected, not \"17\""),
        (posted(jobid=True), "field 'jobid': a number from 0 to"),
        (posted(jobid=-1), "field 'jobid': a number from 0 to"),
        (posted(jobid=2**32), "field 'jobid': a number from 0 to"),
        (posted(user_id=...), "field 'user_id': missing"),
        (posted(group_id=None), "field 'group_id': missing"),
        (posted(job_name=["x"]), "field 'job_name': a string without NUL was expected"),
        (posted(job_name="a\0b"), "field 'job_name': a string without NUL was expected"),
        (posted(job_name="\ud800"), "field 'job_name': a string of whole characters was expected"),
        (posted(**{"@end": "Unknown"}), "field '@end': the time at which the job ended was expected"),
        (posted(**{"@end": "2026-02-30T00:00:00"}), "field '@end': a time as 2026-03-01T12:00:00, in UTC was expected"),
        (posted(**{"@submit": 5}), "field '@submit': a time as"),
        (posted(state="ENDED"), "field 'state': the name of a job's state, as COMPLETED was expected, not \"ENDED\""),
        (posted(state=...), "field 'state': the name of a job's state"),
        (posted(exit_code="256:0"), "field 'exit_code': an exit code and a signal"),
        (posted(derived_ec=1), "field 'derived_ec': an exit code and a signal"),
        (posted(cluster="other"), "of cluster \"other\", but the address names 'demo': let JobCompLoc end with"),
    ],
)
def test_what_is_no_job_is_named(body: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        read(body, "demo")
    assert why in str(refused.value)
