# SPDX-License-Identifier: MIT
from __future__ import annotations

import json

import pytest

from slurmjcd.config.settings import Config
from slurmjcd.daemon import Daemon
from slurmjcd.health import history
from slurmjcd.health.history import COLUMNS, ROWS, History


class Clock:
    """Time that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now + 1_700_000_000

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(history.time, "time", clock.time)
    monkeypatch.setattr(history.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def daemon() -> Daemon:
    config = Config.model_validate({"redis": {"address": "redis://localhost:1"}})
    return Daemon(config, lambda: config)


def row(kept: History) -> dict[str, float | None]:
    return dict(zip(COLUMNS, kept.rows()[-1], strict=True))


def test_a_row_has_rates_and_means_of_its_ten_seconds(clock: Clock, daemon: Daemon) -> None:
    daemon.metrics.records_received.inc(1000)  # before: not of this row
    kept = History(daemon)
    daemon.metrics.records_received.inc(50)
    daemon.metrics.records_shipped.inc(20)
    for kind, seconds in (("match", 0.004), ("fetch", 0.002)):
        daemon.metrics.query_seconds.labels(kind).observe(seconds)
    clock.now += 9.9
    kept.look()
    assert kept.rows() == []
    clock.now += 0.1
    kept.look()
    assert row(kept) == {
        "time": 1_700_001_010, "received_s": 5, "stored_s": 2, "answered_s": 0.2, "waiting": 0, "oldest_s": 0,
        "commit_ms": None, "answer_ms": 3,
    }  # fmt: skip


def test_an_hour_is_kept_and_no_more(clock: Clock, daemon: Daemon) -> None:
    kept = History(daemon)
    size = len(kept._cells)
    for number in range(1000):
        daemon.metrics.records_received.inc(number)
        clock.now += 10
        kept.look()
    rows = kept.rows()
    assert len(rows) == ROWS
    assert [cells[1] for cells in rows] == [number / 10 for number in range(1000 - ROWS, 1000)]
    assert len(kept._cells) == size
    assert kept.rows(998) == rows[-2:]
    assert kept.rows(1000) == kept.rows(10**15) == []


def test_the_document_is_json_that_every_browser_reads(clock: Clock, daemon: Daemon) -> None:
    kept = History(daemon)
    clock.now += 10
    kept.look()
    document = json.loads(json.dumps(kept.document(0), allow_nan=False))
    assert (document["schema"], document["next"], document["columns"]) == ("slurmjcd.history/1", 1, list(COLUMNS))
