# SPDX-License-Identifier: MIT
"""Hashes of slurm-redis 0.1.3, in both of its time formats, out of a real Redis."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.importing.item import WrongFormat
from slurmjcd.importing.sources import Options, open_source
from slurmjcd.importing.upstream import _where
from tests.slurmjcd.client.site import Site
from tests.slurmjcd.importing.test_import import running, site, stored, summary
from tests.slurmjcd.jobs import NOON

__all__ = ["running", "site"]  # fixtures

HASH = {
    "_abi": "0", "_tmf": "0", "JobID": "17", "Partition": "batch", "Start": str(NOON - 60), "End": str(NOON),
    "Elapsed": "60", "UID": "1000", "User": "ada", "GID": "100", "Group": "users", "NNodes": "2", "NCPUs": "8",
    "NodeList": "n[1-2]", "JobName": "solve", "State": "5", "TimeLimit": "60", "WorkDir": "/home/ada",
    "Account": "physics", "QOS": "normal", "Cluster": "c1", "Submit": str(NOON - 100), "Eligible": str(NOON - 100),
    "DerivedEC": "1:0", "EC": "3:0",
}  # fmt: skip
ISO = HASH | {
    "_tmf": "1", "JobID": "18", "Start": "2026-03-01T11:59:00Z", "End": "2026-03-01T12:00:00Z",
    "Submit": "2026-03-01T11:58:20Z", "Eligible": "2026-03-01T11:58:20Z",
}  # fmt: skip


def source(site: Site, prefix: str = "old") -> str:
    return f"{site.redis.address}?prefix={prefix}"


def write(site: Site, *hashes: dict[str, str], prefix: str = "old") -> None:
    with site.redis.client() as client:
        for fields in hashes:
            client.hset(f"{prefix}:{fields['JobID']}", mapping=fields)


def test_both_time_formats(site: Site) -> None:
    write(site, HASH, ISO)
    assert summary(site, source(site)) == {"read": 2, "stored": 2}
    first, second = stored(site)
    assert {name: value for name, value in first.items() if value not in (None, {})} == {
        "version": 1, "job_id": 17, "uid": 1000, "gid": 100, "user": "ada", "group": "users", "name": "solve",
        "cluster": "c1", "partition": "batch", "account": "physics", "qos": "normal", "state": 5, "exit_code": 3 << 8,
        "derived_exit_code": 1 << 8, "submit": NOON - 100, "eligible": NOON - 100, "start": NOON - 60, "end": NOON,
        "time_limit": 60, "node_count": 2, "cpu_count": 8, "nodes": "n[1-2]", "work_dir": "/home/ada",
        "restart_count": 0,
    }  # fmt: skip
    assert second == first | {"job_id": 18}
    assert summary(site, source(site)) == {"read": 2, "already_there": 2}


def test_what_the_module_took_in_itself_is_there_already(site: Site) -> None:
    """SLURMJC.INDEX, as upstream's plugin calls it for each job."""
    never = {name: value for name, value in HASH.items() if name not in ("NodeList", "EC", "DerivedEC")}
    never |= {"JobID": "19", "Start": str(NOON), "State": "4", "TimeLimit": "I"}
    resized = ISO | {"JobID": "20", "State": str(1 << 13)}
    for prefix in ("job", "old"):
        write(site, HASH, ISO, never, resized, prefix=prefix)
    with site.redis.client() as client:
        for job_id in ("17", "18", "19", "20"):
            assert client.execute_command("SLURMJC.INDEX", "job", job_id)
        assert client.keys("job:1*") == []
    before = stored(site)
    assert summary(site, source(site)) == {"read": 4, "already_there": 4}
    assert stored(site) == before
    with site.redis.client() as client:
        client.flushall()
    write(site, HASH, ISO, never, resized)
    assert summary(site, source(site)) == {"read": 4, "stored": 4}
    for ours, modules in zip(stored(site), before, strict=True):
        differing = {name for name in ours if ours[name] != modules[name]}
        assert differing <= {"node_count", "cpu_count"}, (ours, modules)


def test_other_keys_are_left_alone_and_damaged_hashes_are_refused(site: Site, tmp_path: Path) -> None:
    write(site, HASH, ISO | {"JobID": "20", "End": "tomorrow"}, {"JobID": "21"})
    with site.redis.client() as client:
        client.hset("old:qry:x", "Start", "0")
        client.hset("older:22", mapping=HASH)
        client.set("old:23", "x")
    found = summary(site, source(site))
    assert (found["read"], found["stored"], found["refused"]) == (3, 1, 2)
    reasons = {entry["at"]: entry["reason"] for entry in found["reasons"]}
    assert "'tomorrow' is no time" in reasons["old:20"]
    assert "has no field 'State'" in reasons["old:21"]
    assert "tomorrow" in (tmp_path / "slurmjc-import-upstream.refused").read_text()


def test_a_prefix_is_taken_word_for_word(site: Site) -> None:
    write(site, HASH, prefix="a*b")
    write(site, ISO, prefix="aab")
    assert summary(site, source(site, "a*b"))["read"] == 1


@pytest.mark.parametrize(
    ("word", "form", "said"),
    [
        ("redis://user:secret@127.0.0.1", "auto", "must not hold a password"),
        ("redis://127.0.0.1:1", "auto", "redis://127.0.0.1:1: Error 111"),
        ("redis://127.0.0.1/x", "auto", "is no address"),
        ("unix:/nowhere?prefx=job", "auto", "is no address of a Redis, expected redis://"),
        ("redis://127.0.0.1", "sacct", "is the address of a database, which --format sacct doesn't read"),
        ("README", "upstream", "--format upstream reads a database"),
    ],
)
def test_a_wrong_address_says_what_would_be_right(tmp_path: Path, word: str, form: str, said: str) -> None:
    (tmp_path / "README").write_text("x\n")
    word = word.replace("README", str(tmp_path / "README"))
    with pytest.raises(WrongFormat, match=said):
        open_source(word, form, Options(UTC, "UTC", "c1", None))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"host": "h", "port": 6379, "db": 0}),
        ("rediss://me@h:7000/3", {"host": "h", "port": 7000, "db": 3, "username": "me", "ssl": True}),
        ("unix:/run/r.sock?db=2", {"unix_socket_path": "/run/r.sock", "db": 2}),
    ],
)
def test_an_address(url: str, expected: dict[str, Any]) -> None:
    where, prefix = _where(url)
    assert prefix == "job"
    assert expected.items() <= where.items()


def test_no_address_has_a_database_that_is_no_number() -> None:
    with pytest.raises(WrongFormat):
        _where("unix:/run/r.sock?db=x")


def test_a_job_that_never_ran_has_no_start(site: Site) -> None:
    """slurm-redis writes the end in its place."""
    never = {name: value for name, value in HASH.items() if name != "NodeList"}
    write(site, never | {"Start": str(NOON), "State": "4"})
    assert summary(site, source(site)) == {"read": 1, "stored": 1}
    assert [(fields["start"], fields["end"]) for fields in stored(site)] == [(0, NOON)]
