# SPDX-License-Identifier: MIT
"""Dumps of the index that jobcomp/elasticsearch filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.importing.elasticsearch import Elasticsearch, looks_like
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Item
from tests.slurmjcd.jobs import NOON

JOB: dict[str, Any] = {
    "jobid": 17, "username": "ada", "user_id": 1000, "groupname": "users", "group_id": 100, "cluster": "c1",
    "@start": "2026-03-01T11:59:00", "@end": "2026-03-01T12:00:00", "elapsed": 60, "partition": "batch",
    "alloc_node": "login", "nodes": "n[1-2]", "total_cpus": 8, "total_nodes": 2, "exit_code": "3:0",
    "state": "FAILED", "@submit": "2026-03-01T11:58:20", "@eligible": "2026-03-01T11:58:20", "work_dir": "/home/ada",
    "job_name": "caf\u00e9", "time_limit": 3600, "account": "physics",
}  # fmt: skip


def items(tmp_path: Path, *lines: str) -> list[Item]:
    path = tmp_path / "dump"
    path.write_text("\n".join(lines) + "\n")
    return list(Elasticsearch(InputFile(str(path)), "here").items(0))


@pytest.mark.parametrize("line", [json.dumps(JOB), json.dumps({"_index": "slurm", "_id": "x", "_source": JOB})])
def test_a_job_as_it_was_posted_and_as_a_hit(tmp_path: Path, line: str) -> None:
    assert looks_like(line.encode())
    (item,) = items(tmp_path, line)
    assert item.fields is not None
    assert {name: item.fields[name] for name in ("job_id", "name", "cluster", "start", "end", "exit_code")} == {
        "job_id": 17, "name": "caf\u00e9", "cluster": "c1", "start": NOON - 60, "end": NOON, "exit_code": 3 << 8,
    }  # fmt: skip


def test_a_job_without_cluster_is_of_the_one_that_was_named(tmp_path: Path) -> None:
    (item,) = items(tmp_path, json.dumps({name: value for name, value in JOB.items() if name != "cluster"}))
    assert item.fields is not None
    assert item.fields["cluster"] == "here"


def test_jobs_that_have_only_begun_are_left_out_and_damaged_ones_refused(tmp_path: Path) -> None:
    begun = {name: value for name, value in JOB.items() if name not in ("@end", "exit_code")}
    found = items(tmp_path, json.dumps(begun), '{"jobid": 1', "[]", json.dumps(JOB | {"state": "DONE"}))
    assert (found[0].fields, found[0].refused) == (None, "")
    assert [item.refused.split(":")[0] for item in found[1:]] == [
        "no JSON", "JSON, but no object with a job's fields", "field 'state'",
    ]  # fmt: skip
    assert [item.place for item in found] == ["1", "2", "3", "4"]
