# SPDX-License-Identifier: MIT
from __future__ import annotations

from slurmjcd.health.stages import Stage
from slurmjcd.health.troubles import Troubles

WELL = Stage("redis", "Redis", "ok", "works")


def away(text: str = "no connection", kind: str = "away") -> Stage:
    return Stage("redis", "Redis", "error", text, kind)


def test_a_trouble_lasts_until_its_stage_is_well_and_has_the_last_text() -> None:
    clock = iter(range(100))
    troubles = Troubles(lambda: next(clock))
    for stage in (WELL, away(), away("LOADING"), WELL, WELL):
        troubles.look([stage])
    (trouble,) = troubles.latest()
    # first seen at the second look, gone at the fourth
    assert (trouble.stage.text, trouble.start, trouble.end) == ("LOADING", 1, 3)


def test_another_kind_is_another_trouble_and_what_lasts_comes_first() -> None:
    clock = iter(range(100))
    troubles = Troubles(lambda: next(clock))
    for stage in (away(), away("evicts", "eviction"), WELL, away("again")):
        troubles.look([stage])
    assert [(trouble.stage.text, trouble.end) for trouble in troubles.latest()] == [
        ("again", None),
        ("evicts", 2),
        ("no connection", 1),
    ]


def test_only_the_last_ones_are_kept() -> None:
    troubles = Troubles()
    for number in range(1000):
        troubles.look([away(f"number {number}"), Stage("spool", "Spool", "ok", "works")])
        troubles.look([WELL])
    assert len(troubles.latest()) == 50
    assert any(trouble.stage.text == "number 999" for trouble in troubles.latest())
