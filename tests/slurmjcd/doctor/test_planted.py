# SPDX-License-Identifier: MIT
"""slurmjc doctor on a site in good health, and on the same with one fault planted: that is found, with its fix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slurmjcd.doctor.codes import CODES
from tests.slurmjcd.doctor.clinic import KERNEL, Clinic, clinic
from tests.slurmjcd.doctor.faults_redis import FAULTS

# planted in test_doctor.py: a kernel, a network file system and a server that speaks in clear can't be had here,
# and what is not allowed depends on who asks
ELSEWHERE = {
    *KERNEL, "spool-network", "plain-text", "config-denied", "not-allowed", "propagation-unknown", "slurm-unknown",
}  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[Clinic]:
    with clinic() as site:
        yield site


def test_a_site_in_good_health(site: Clinic) -> None:
    status, findings = site.doctor()
    assert [found for found in findings if found["level"] != "ok"] == []
    assert status == 0
    assert {found["check"] for found in findings} >= {check for check, _ in CODES.values()} - {
        "login", "replicas", "certificates", "rights", "huge pages", "overcommit",
    }  # fmt: skip


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_planted(site: Clinic, code: str) -> None:
    with FAULTS[code](site) as (fix, *follows):
        found = site.wrong()
    assert set(found) == {code, *follows}, found
    check, level = CODES[code]
    assert {(one["check"], one["level"]) for one in found[code]} == {(check, level)}
    assert all(fix in one["fix"] for one in found[code]), found[code]
    assert all(one["fix"] and one["text"] for many in found.values() for one in many)


def test_it_is_in_good_health_again(site: Clinic) -> None:
    assert site.wrong() == {}


def test_every_finding_is_planted() -> None:
    assert FAULTS.keys() | ELSEWHERE == CODES.keys()
    assert not FAULTS.keys() & ELSEWHERE
