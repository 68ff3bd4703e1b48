# SPDX-License-Identifier: MIT
"""What jobcomp/elasticsearch posts, as a record."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.errors import ProtocolError
from slurmjcd.intake.document import fields_of, read
from slurmjcd.intake.resizes import Resizes
from slurmjcd.record import decode
from slurmjcd.slurm.states import NUMBERS
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
NOW = NOON + 3600


def posted(**changes: Any) -> bytes:
    """The document with changes; a field that becomes ... is left out."""
    return json.dumps({name: value for name, value in (POSTED | changes).items() if value is not ...}).encode()


def fields(**changes: Any) -> dict[str, Any]:
    return made(posted(**changes))


def made(body: bytes, resizes: Resizes | None = None) -> dict[str, Any]:
    """The record's fields."""
    record = read(body, "demo", resizes or Resizes(), now=NOW).record
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
            "alloc_node": "login1", "excluded_nodes": "n3", "ntasks": 4, "cpus_per_task": 1,
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
            {"start": 0, "nodes": None, "node_count": 2, "cpu_count": 4},  # what it asked for
        ),
        ({"nodes": None, "total_nodes": 0, "tres_req": ...}, {"start": 0, "node_count": None}),
        ({"nodes": None, "tres_req": "gres/node=7,cpu=4,node=1K"}, {"start": 0, "node_count": 2}),
        # a job that asks for no nodes runs without any
        ({"nodes": None, "total_nodes": 0, "tres_req": "cpu=1"}, {"start": NOON - 60, "node_count": 0}),
        ({"exit_code": "0:1"}, {"exit_code": 256}),
        ({"derived_ec": "0:1"}, {"derived_exit_code": 1}),
        ({"username": "nobody", "groupname": "nobody"}, {"user": None, "group": None}),
        ({"username": "nobody", "user_id": 65534}, {"user": "nobody", "uid": 65534}),
        ({"@end": "Unknown"}, {"end": NOW}),
        ({"@end": ...}, {"end": NOW}),
        ({"sluid": "s0000000000001", "original_sluid": "s0000000000Z01"}, {"sluid": 31 * 2**10 + 1}),
        ({"sluid": "s0000000000001"}, {"sluid": None}),
        ({"original_sluid": "sFZZZZZZZZZZZZ"}, {"sluid": 2**64 - 1}),
        ({"cluster": "DEMO"}, {"cluster": "demo"}),
        ({"priority": 4294901758, "features": "gpu"}, {"priority": 4294901758, "features": "gpu"}),
        ({"cluster": "demo"}, {"cluster": "demo"}),
        ({"job_name": "", "account": None}, {"name": None, "account": None}),
        ({"job_name": "x" * 20_000}, {"name": "x" * 16_384}),
        ({"job_name": "x" + "é" * 10_000}, {"name": "x" + "é" * 8191}),
    ],
)
def test_what_may_be_otherwise(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = fields(**changes)
    assert {name: found[name] for name in expected} == expected


def test_extra_is_what_the_plugin_would_say() -> None:
    long = fields(job_name="x" * 20_000, std_in="y" * 20_000)
    assert long["extra"]["truncated"] == "name,std_in"
    numbers = {"ntasks": 0, "ntasks_per_node": 2**16 - 2, "cpus_per_task": 2**16 - 1}
    assert fields(**numbers)["extra"].keys().isdisjoint(numbers)
    told = fields(comment="why", admin_comment="because", failed_node="n2")["extra"]
    assert (told["comment"], told["admin_comment"], told["failed_node"]) == ("why", "because", "n2")


@pytest.mark.parametrize(
    ("changes", "state", "flags"),
    [
        # job_state_string() of a job that is resized; other jobs are called by their base state
        ({"state": "RESIZING"}, "RUNNING", "RESIZING"),
        ({"state": "CONFIGURING"}, "RUNNING", "RESIZING"),
        ({"state": "EXPEDITING"}, "RUNNING", "RESIZING"),
        ({"state": "PENDING"}, "PENDING", "REQUEUED"),
        ({"state": "PENDING", "nodes": None}, "PENDING", "REVOKED"),
        ({"state": "COMPLETED", "nodes": None}, "COMPLETED", "REVOKED"),
        ({"state": "COMPLETED"}, "COMPLETED", None),
        ({"state": "CANCELLED", "nodes": None}, "CANCELLED", None),
    ],
)
def test_flags_that_are_not_posted_are_worked_out(changes: dict[str, Any], state: str, flags: str | None) -> None:
    found = fields(**changes)
    assert found["state"] == NUMBERS[state]
    assert found["extra"].get("state_flags") == (NUMBERS[flags] if flags else None)


def resized(at: int, **changes: Any) -> bytes:
    """A job that began a minute before noon is resized: its start and its end are both that time."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    late = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at + 1))
    return posted(**{"state": "RESIZING", "@start": text, "@end": late, "@queue_wait": 60} | changes)


def part(found: dict[str, Any]) -> tuple[int, int, int, int | None]:
    """Seconds from noon."""
    return (*(found[name] - NOON for name in ("eligible", "start", "end")), found["extra"].get("orig_start"))


def test_parts_of_a_resized_job_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "resizes.json"
    first, second = resized(NOON + 10), resized(NOON + 20)
    resizes = Resizes(path)
    for _ in range(2):  # what was posted may come again
        assert part(made(first, resizes)) == (-120, -60, 10, None)
        resizes.save()
        resizes = Resizes(path)
    for _ in range(2):
        assert part(made(second, resizes)) == (10, 10, 20, NOON - 60)
    last = posted(**{"@start": "2026-03-01T12:00:20", "@end": "2026-03-01T12:00:30"})
    assert part(made(last, resizes)) == (20, 20, 30, NOON - 60)


def test_a_resize_of_an_earlier_run_is_no_part_of_this_one() -> None:
    resizes = Resizes()
    assert part(made(resized(NOON - 3600, **{"@queue_wait": -3900 + 120}), resizes))[2] == -3600
    assert part(made(resized(NOON + 10), resizes)) == (-120, -60, 10, None)
    # Slurm goes on telling the time of the old resize as the start
    requeued = posted(**{"@start": "2026-03-01T11:00:00"})
    assert part(made(requeued, resizes)) == (-120, -60, 0, None)


@pytest.mark.parametrize("waited", [..., None, "60", 60.0, True, 10**30, -(10**30), 3600, -NOON])
def test_a_resize_without_what_tells_when_the_job_began(waited: Any) -> None:
    assert part(made(resized(NOON + 10, **{"@queue_wait": waited}))) == (-120, 10, 11, None)
    assert part(made(posted(**{"@queue_wait": waited}))) == (-120, -60, 0, None)


@pytest.mark.parametrize("text", ["", "{", "[[1]]", '[["c", "x", []]]', '[["c", 1, ["x"]]]', "7"])
def test_damaged_notes_of_resizes_are_logged_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = tmp_path / "resizes.json"
    path.write_text(text)
    resizes = Resizes(path)
    assert "can't be read" in caplog.text
    assert part(made(resized(NOON + 10), resizes)) == (-120, -60, 10, None)
    resizes.save()
    assert part(made(resized(NOON + 20), Resizes(path))) == (10, 10, 20, NOON - 60)


def test_notes_of_resizes_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "resizes.json"
    resizes = Resizes(path)
    for job_id in range(1, 3001):
        resizes.part_begins("demo", job_id, started=1, resized=100)
    for at in range(1, 3001):
        resizes.part_begins("demo", 3000, started=1, resized=at)
    resizes.save()
    rows = json.loads(path.read_text())
    assert len(rows) == 1000
    assert max(len(times) for _, _, times in rows) == 64


def test_notes_of_resizes_that_cannot_be_written_cost_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    resizes = Resizes(tmp_path / "none" / "resizes.json")
    assert part(made(resized(NOON + 10), resizes))[1] == -60
    resizes.save()
    assert "can't be written" in caplog.text


def test_in_a_dump_a_job_has_to_tell_its_end() -> None:
    with pytest.raises(ProtocolError, match="field '@end': the time at which the job ended was expected"):
        fields_of(json.loads(posted(**{"@end": "Unknown"})), "demo", Resizes())


def test_names_need_not_be_utf8() -> None:
    found = made(posted().replace(b'"solve"', b'"so\xfflve\\u0007\x07"'))
    assert found["name"].encode("utf-8", "surrogateescape") == b"so\xfflve\x07\x07"


def test_strings_are_as_long_as_the_record_allows() -> None:
    schema = json.loads((ROOT / "schema" / "record.json").read_text())
    limits = {field["name"]: field.get("max_bytes") for field in [*schema["fields"], *schema["extra"]]}
    long = "x" * 200_000
    row = fields(**dict.fromkeys(("nodes", "job_name", "account", "std_out", "parent_accounts"), long))
    found = {name: len(row[name]) for name in ("nodes", "name", "account")}
    found |= {name: len(row["extra"][name]) for name in ("std_out", "parent_accounts")}
    assert found == {name: limits[name] for name in found}


def test_a_job_that_has_only_begun_makes_no_record() -> None:
    document = read(
        posted(**dict.fromkeys(("@end", "exit_code", "derived_ec", "elapsed"), ...)), "demo", Resizes(), now=NOW
    )
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
        (posted(original_sluid="17"), "field 'original_sluid': a SLUID, as s0123456789ABC was expected"),
        (posted(original_sluid="sG000000000000"), "field 'original_sluid': a SLUID of 64 bits was expected"),
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
        read(body, "demo", Resizes(), now=NOW)
    assert why in str(refused.value)
