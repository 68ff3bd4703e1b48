# SPDX-License-Identifier: MIT
"""Open XDMoD's lines: 26 fields as sacct prints them, of which nothing but the last may hold a |."""

from __future__ import annotations

import io
import re

import pytest

from slurmjcd.exporting import xdmod
from slurmjcd.record import decode
from tests.slurmjcd.jobs import NOON, job

_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|Unknown|None)"
_SPAN = r"(\d+-)?\d\d:\d\d:\d\d"
# of each field, what Slurm's print.c can put there and the shredder takes
FORM = re.compile(
    r"\|".join(
        [r"\d+(_\d+|\+\d+)?", r"\d+", *[r"[^|]*"] * 5, r"\d+", r"[^|]*", r"\d+", *[_TIME] * 4, _SPAN, r"\d+:\d+",
         r"[A-Z_]+( by \d+)?", r"\d+", r"\d+", r"\d+", r"(\d+(\.\d+)?[KMGTP]?)?", *[r"([a-z/:]+=[^|,]+,?)*"] * 2,
         rf"({_SPAN}|UNLIMITED|Partition_Limit)?", r"[^|]+", r".*"]
    )
)  # fmt: skip


def _fields(record: bytes) -> dict[str, str]:
    line = xdmod.line(decode(record))
    assert FORM.fullmatch(line), line
    names = xdmod.FORMAT.split(",")
    return dict(zip(names, line.split("|", len(names) - 1), strict=True))


def test_an_ordinary_job() -> None:
    assert xdmod.line(decode(job(42))) == (
        "42|42|c1|batch|normal|physics|users|100|ada|1000|2026-03-01T11:58:20|2026-03-01T11:58:20|2026-03-01T11:59:00|"
        "2026-03-01T12:00:00|00:01:00|0:0|COMPLETED|1|4|4|4G|cpu=4,mem=4G,node=1|cpu=4,mem=4G,node=1|01:00:00|n1|job42"
    )


def test_times_are_utc_wherever_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "%s")
    assert _fields(job(1, end=NOON + 3))["end"] == "2026-03-01T12:00:03"


def test_one_that_never_ran_has_no_nodes() -> None:
    found = _fields(job(1, start=0, nodes=None, state=4, tres_alloc=None, node_count=None, extra={"cancelled_by": 0}))
    assert (found["start"], found["nodelist"], found["state"]) == ("None", "None assigned", "CANCELLED by 0")
    assert (found["elapsed"], found["alloctres"], found["nnodes"]) == ("00:00:00", "", "0")


def test_ids_of_arrays_and_heterogeneous_jobs() -> None:
    assert _fields(job(9, array_job_id=7, array_task_id=2))["jobid"] == "7_2"
    assert _fields(job(9, het_job_id=7, het_job_offset=2))["jobid"] == "7+2"


def test_what_was_asked_for_is_not_what_was_given() -> None:
    found = _fields(job(1, cpu_count=8, tres_req="mem=2000M,cpu=5,node=1"))
    assert (found["ncpus"], found["reqcpus"], found["reqmem"]) == ("8", "5", "2000M")
    assert found["reqtres"] == "cpu=5,mem=2000M,node=1"


@pytest.mark.parametrize("bad", ["a|b", "a\nb", "a\r\x1b[2J", "\udcff"])
def test_no_value_makes_another_field_or_line(bad: str) -> None:
    found = _fields(job(1, name=bad, user=bad, account=bad, partition=bad, nodes=bad))
    assert found["jobname"].startswith("a") or "xff" in found["jobname"]
    assert found["user"] not in (bad, "")


def test_a_line_a_job() -> None:
    out = io.BytesIO()
    xdmod.write([job(number) for number in range(1, 1202)], out)
    lines = out.getvalue().decode().splitlines()
    assert [line.split("|")[0] for line in lines] == [str(number) for number in range(1, 1202)]
