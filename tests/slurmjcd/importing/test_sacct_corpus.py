# SPDX-License-Identifier: MIT
"""What two real releases of sacct printed, beside the records that our plugin delivered of the same jobs."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import record
from slurmjcd.importing.inputfile import InputFile
from slurmjcd.importing.item import Source, WrongFormat
from slurmjcd.importing.localtimes import LocalTimes
from slurmjcd.importing.names import Names
from slurmjcd.importing.sacct import RECOMMENDED, Sacct
from slurmjcd.importing.sacctjson import SacctJson, looks_like
from slurmjcd.importing.target import Run, is_there

CORPUS = Path(__file__).parent / "corpus"
__all__ = ["RECOMMENDED"]

RELEASES = ("22.05", "24.11")
# what sacct can't know, or prints in another order: see docs/moving.md
_ALIKE = (
    "job_id", "name", "cluster", "partition", "account", "qos", "end", "nodes", "work_dir",
    "features", "priority", "user", "array_job_id", "array_task_id", "time_limit",
)  # fmt: skip


def sacct(release: str, form: str) -> Source:
    if form == "text":
        file = InputFile(str(CORPUS / release / "sacct.txt"))
        return Sacct(file, LocalTimes(UTC), "UTC", "parity", Names(None))
    return SacctJson(InputFile(str(CORPUS / release / "sacct.json")), "parity", Names(65534))


def live(release: str) -> list[dict[str, Any]]:
    return [record.decode(bytes.fromhex(line)) for line in (CORPUS / release / "live.hex").read_text().split()]


def run_of(fields: dict[str, Any]) -> Run:
    return Run(*(fields[name] for name in ("cluster", "submit", "start", "end", "restart_count")))


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("release", RELEASES)
def test_each_run_of_sacct_is_one_that_slurmctld_reported(release: str, form: str) -> None:
    delivered = live(release)
    found: Counter[int] = Counter()
    items = list(sacct(release, form).items(0))
    assert [item.refused for item in items if item.refused] == []
    for item in items:
        if item.fields is None:
            continue
        same = [
            number for number, fields in enumerate(delivered)
            if fields["job_id"] == item.fields["job_id"] and is_there(item, run_of(fields))
        ]  # fmt: skip
        assert len(same) == 1, item
        found[same[0]] += 1
    assert found == Counter(range(len(delivered))), "each of them once"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("release", RELEASES)
def test_the_fields_are_those_that_slurmctld_reported(release: str, form: str) -> None:
    # null in 22.05's JSON, whatever it is but a number
    known = [name for name in _ALIKE if (release, form, name) != ("22.05", "json", "time_limit")]
    delivered = {(fields["job_id"], fields["start"], fields["end"]): fields for fields in live(release)}
    compared = 0
    for item in sacct(release, form).items(0):
        fields = item.fields and delivered.get((item.fields["job_id"], item.fields["start"], item.fields["end"]))
        if item.fields and fields:
            assert {name: item.fields.get(name) for name in known} == {name: fields[name] for name in known}
            if fields["exit_code"] and item.fields["exit_code"] is not None:
                # sacct prints codes from 128 on less 128
                assert item.fields["exit_code"] & 0x7FFF == fields["exit_code"] & 0x7FFF
            compared += 1
    assert compared >= len(delivered) - 2


def test_jobs_that_still_run_are_left_out() -> None:
    for release in RELEASES:
        left_out = [item for item in sacct(release, "json").items(0) if item.fields is None]
        assert left_out
        assert not any(item.refused for item in left_out)


def test_user_names_that_this_host_lacks_are_refused_and_kept() -> None:
    file = InputFile(str(CORPUS / "24.11" / "sacct.json"))
    refused = [item for item in SacctJson(file, "parity", Names(None)).items(0) if item.refused]
    assert refused
    assert "no user '" in refused[0].refused
    assert "--unknown-id" in refused[0].refused
    assert refused[0].raw.startswith('{"jobs": [{')


def test_the_file_of_refused_jobs_can_be_imported(tmp_path: Path) -> None:
    file = InputFile(str(CORPUS / "24.11" / "sacct.json"))
    refused = [item for item in SacctJson(file, "parity", Names(None)).items(0) if item.refused]
    (tmp_path / "refused").write_text("# slurmjc import x\n" + "".join(f"# why\n{item.raw}\n" for item in refused))
    again = InputFile(str(tmp_path / "refused"))
    assert looks_like(again.head)
    assert len([item for item in SacctJson(again, "parity", Names(65534)).items(0) if item.fields]) == len(refused)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"jobs": [', "is not what sacct --json prints: Expecting value"),
        ('{"meta": {}}', "expected an object with a list 'jobs'"),
        ('{"jobs": [{"job_id": 1}]} x', "Expecting value"),
    ],
)
def test_a_document_of_another_kind_is_one_clear_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(WrongFormat, match=said):
        SacctJson(InputFile(str(tmp_path / "x.json")), "parity", Names(None))


@pytest.mark.parametrize(
    "job", ["7", '{"job_id": 1}', '{"job_id": -1, "state": {"current": "COMPLETED"}, "time": {"end": 9}}']
)
def test_a_job_of_another_kind_is_refused(tmp_path: Path, job: str) -> None:
    (tmp_path / "x.json").write_text(f'{{"jobs": [{job}]}}')
    (item,) = SacctJson(InputFile(str(tmp_path / "x.json")), "parity", Names(None)).items(0)
    assert item.refused
    assert item.fields is None
