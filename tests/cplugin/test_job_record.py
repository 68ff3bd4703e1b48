# SPDX-License-Identifier: MIT
"""What the hook makes of a job, held against schema/vectors.json."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

import msgpack
import pytest

from tests.harness.paths import CMAKE_BUILD, ROOT

VECTORS = [v for v in json.loads((ROOT / "schema" / "vectors.json").read_text()) if "slurm" in v]
FIELDS = [f["name"] for f in json.loads((ROOT / "schema" / "record.json").read_text())["fields"]]
#: Slurm's names for numbers, of slurm.h.
NAMES = {
    "NO_VAL": 0xFFFFFFFE, "NO_VAL16": 0xFFFE, "INFINITE": 0xFFFFFFFF, "FAIL_EXIT_CODE": 24,
    "JOB_PENDING": 0, "JOB_RUNNING": 1, "JOB_COMPLETE": 3, "JOB_CANCELLED": 4, "JOB_FAILED": 5,
}  # fmt: skip
JOB_RESIZING, JOB_COMPLETING, JOB_REQUEUE = 0x2000, 0x8000, 0x400
TEXTS = {
    "user_name", "name", "partition", "account", "wckey", "resv_name", "state_desc", "nodes", "tres_fmt_req_str",
    "tres_fmt_alloc_str", "comment", "admin_comment", "system_comment", "container", "licenses", "alloc_node",
    "mcs_label", "qos", "details.work_dir", "details.features", "details.std_in", "details.std_out", "details.std_err",
    "details.features_use", "details.orig_dependency", "details.exc_nodes", "details.submit_line",
}  # fmt: skip
NOW = 1_800_000_000
ORDINARY = VECTORS[0]["slurm"]


def lines(job: dict[str, Any], prefix: str = "") -> list[str]:
    """The job as encode_job reads it."""
    found = []
    for key, value in job.items():
        if isinstance(value, dict) and set(value) == {"repeat"}:
            value = value["repeat"][0] * value["repeat"][1]
        if value is None:
            continue
        if key == "details":
            found += lines(value, "details.")
        elif key == "qos_ptr":
            found += lines({"qos": value["name"]})
        elif prefix + key in TEXTS:
            found.append(f"{prefix}{key} {value.encode(errors='surrogateescape').hex()}")
        elif key != "assoc_ptr":
            found.append(f"{prefix}{key} {NAMES.get(value, value)}")
    return found


def encode(job: dict[str, Any], cluster: str = "c1") -> tuple[int, int, bytes]:
    """Where the user's and the group's names go, and the record."""
    done = subprocess.run(
        [CMAKE_BUILD / "tests" / "cplugin_encode_job", cluster, str(NOW)],
        input="\n".join(lines(job)) + "\n", capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    user_at, group_at, record = done.stdout.split()
    return int(user_at), int(group_at), bytes.fromhex(record)


def fields(**changes: Any) -> dict[str, Any]:
    """The record's fields of the ordinary job with changes; details={...} changes its details."""
    details = {**ORDINARY["details"], **changes.pop("details", {})}
    record = encode({**ORDINARY, **changes, "details": details})[2]
    return dict(zip(FIELDS, msgpack.unpackb(record, unicode_errors="surrogateescape"), strict=True))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_job_becomes_the_bytes_of_its_vector(vector: dict[str, Any]) -> None:
    record = encode(vector["slurm"])[2]
    if "hex" in vector:
        assert record.hex() == vector["hex"]
    else:
        assert (len(record), hashlib.sha256(record).hexdigest()) == (vector["size"], vector["sha256"])


def test_names_that_slurm_lacks_are_marked_for_the_sender() -> None:
    user_at, group_at, record = encode({**ORDINARY, "user_name": None})
    named = record[:user_at] + b"\xa3ada" + record[user_at + 1 : group_at] + b"\xa5staff" + record[group_at + 1 :]
    before, after = msgpack.unpackb(record), msgpack.unpackb(named)
    assert [(name, old, new) for name, old, new in zip(FIELDS, before, after, strict=True) if old != new] == [
        ("user", None, "ada"),
        ("group", None, "staff"),
    ]


def test_a_known_user_is_not_marked() -> None:
    user_at, group_at, record = encode(ORDINARY)
    assert user_at == 0
    assert record[group_at - 4 : group_at + 1] == b"\xa3ada\xc0"


def test_job_cancelled_while_pending_never_started() -> None:
    """slurmctld sets start and end to the moment of the cancellation; it has no nodes."""
    record = fields(
        job_state="JOB_CANCELLED", start_time=NOW, end_time=NOW, nodes=None, total_nodes=0, total_cpus=0,
        details={"min_nodes": 4, "min_cpus": 16},
    )  # fmt: skip
    assert (record["start"], record["end"], record["nodes"]) == (0, NOW, None)
    assert (record["node_count"], record["cpu_count"]) == (4, 16)


def test_job_that_asks_for_no_nodes_runs_without() -> None:
    record = fields(nodes=None, total_nodes=0, details={"min_nodes": 0})
    assert record["start"] == ORDINARY["start_time"]


def test_resize_ends_the_part_before_it() -> None:
    """Slurm notes the time of the resize before it reports the part that ends with it."""
    record = fields(job_state=1 | JOB_RESIZING, resize_time=NOW - 1, end_time=NOW + 3600)
    assert (record["state"], record["extra"]["state_flags"]) == (1, JOB_RESIZING)
    assert (record["start"], record["end"]) == (ORDINARY["start_time"], NOW - 1)
    assert "orig_start" not in record["extra"]


def test_last_part_begins_at_the_resize() -> None:
    record = fields(resize_time=NOW - 60, end_time=NOW)
    assert (record["eligible"], record["start"], record["end"]) == (NOW - 60, NOW - 60, NOW)
    assert record["extra"]["orig_start"] == ORDINARY["start_time"]


def test_run_behind_a_requeue_knows_nothing_of_the_resize_before() -> None:
    """slurmctld never clears resize_time: the run would begin before it was submitted."""
    record = fields(resize_time=NOW - 900, start_time=NOW - 60, end_time=NOW)
    assert record["start"] == NOW - 60
    assert "orig_start" not in record["extra"]


def test_failure_of_slurms_own_is_no_signal() -> None:
    assert fields(exit_code=1)["exit_code"] == 256


def test_who_cancelled_it() -> None:
    assert fields(job_state="JOB_CANCELLED", requid=0)["extra"]["cancelled_by"] == 0
    assert "cancelled_by" not in fields(job_state="JOB_CANCELLED")["extra"]
    assert "cancelled_by" not in fields(requid=0)["extra"]


def test_time_in_suspension() -> None:
    assert fields(tot_sus_time=17)["extra"]["suspended"] == 17
    assert "suspended" not in fields()["extra"]


def test_completing_is_no_outcome() -> None:
    record = fields(job_state=3 | JOB_COMPLETING)
    assert record["state"] == 3
    assert "state_flags" not in record["extra"]


def test_requeue_is_an_outcome() -> None:
    assert fields(job_state=JOB_REQUEUE | JOB_COMPLETING)["extra"]["state_flags"] == JOB_REQUEUE


def test_reason_it_waited_for_is_kept_beside_the_last_one() -> None:
    record = fields(state_reason=0, state_reason_prev_db=5)
    assert (record["state_reason"], record["extra"]["state_reason_prev"]) == (0, 5)


def test_features_are_those_it_ran_with() -> None:
    """--prefer: a job runs with the preferred features, or with the required ones."""
    wishes = {"features": "gpu", "features_use": "gpu&fast"}
    assert fields(details=wishes)["features"] == "gpu&fast"
    never = fields(details={**wishes, "min_nodes": 1}, nodes=None, job_state="JOB_CANCELLED")
    assert never["features"] == "gpu"


def test_job_without_end_ends_now() -> None:
    assert fields(end_time=0)["end"] == NOW


def test_empty_strings_are_absent() -> None:
    record = fields(account="", resv_name="", details={"work_dir": "", "std_out": ""})
    assert (record["account"], record["reservation"], record["work_dir"]) == (None, None, None)
    assert "std_out" not in record["extra"]


@pytest.mark.parametrize("letter", ["é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_cut_never_splits_a_letter(letter: str, shift: int) -> None:
    name = fields(name="x" * shift + letter * 10000)["name"]
    assert len(name.encode()) <= 16384
    assert name == "x" * shift + letter * ((16384 - shift) // len(letter.encode()))


def test_cut_of_bytes_that_are_no_text_is_at_the_limit() -> None:
    name = fields(name="\udc80" * 20000)["name"]
    assert len(name) == 16384
