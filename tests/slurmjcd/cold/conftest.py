# SPDX-License-Identifier: MIT
"""A server for all of these tests, empty at the start of each, and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.cold import mover
from slurmjcd.cold.engine import Engine, Question
from slurmjcd.cold.files import DAY_S
from slurmjcd.cold.hot import HotDays
from slurmjcd.cold.moving import Pass
from slurmjcd.cold.prefilter import Prefilter
from slurmjcd.cold.reader import ColdDays
from slurmjcd.cold.writer import publish, write_day
from slurmjcd.config.settings import Config
from tests.harness import RedisServer
from tests.harness.paths import ENGINE
from tests.module.conftest import Store, server, store
from tests.module.records import Job, completion, pack, unpack

__all__ = ["Store", "server", "store"]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(ENGINE)


def write_files(directory: Path, jobs: Iterable[Job]) -> None:
    """A file for each day that has jobs; those there are of these days are replaced."""
    days: dict[int, list[Job]] = {}
    for record in sorted(jobs, key=completion):
        days.setdefault(record["end"] // DAY_S, []).append(record)
    for day, records in days.items():
        path = write_day(directory, day, map(pack, records))
        assert path is not None
        publish(path, day)


def pairs_of(*words: object) -> list[tuple[bytes, bytes]]:
    """Names and values as criteria."""
    said = [str(word).encode() for word in words]
    return list(zip(said[::2], said[1::2], strict=True))


def ask(days: ColdDays, *words: object) -> list[Job]:
    """What of all the files matches, in order."""
    criteria = pairs_of(*words)
    question, prefilter = Question(days.engine, criteria), Prefilter.of(criteria)
    found = []
    for summary in days.summaries():
        if question.first_day <= summary.file.day <= (question.last_day or summary.file.day):
            for group in days.find(summary, question, prefilter):
                found += [unpack(record) for record in group.records.to_pylist()]
    return found[: question.limit]


def config_for(server: RedisServer, directory: Path, **cold: object) -> Config:
    """That of a daemon whose days go cold there."""
    section = {"dir": str(directory), "engine": str(ENGINE), **cold}
    return Config.model_validate({"redis": {"address": f"unix:{server.socket}"}, "cold": section})


def move(config: Config, engine: Engine, now_s: float) -> list[dict[str, Any]]:
    """One pass; what it told."""
    told: list[dict[str, Any]] = []
    assert config.cold.dir is not None
    with asyncio.Runner() as runner:
        hot = HotDays(mover.store_of(config, runner), runner)
        try:
            assert Pass(config.cold, hot, ColdDays(config.cold.dir, engine), told.append).run(now_s)
        finally:
            hot.close()
    return told


def in_files(directory: Path, engine: Engine) -> list[Job]:
    """All records of all files, in order."""
    days = ColdDays(directory, engine)
    return [unpack(row) for summary in days.summaries() for rows in days.all_rows(summary) for row in rows.to_pylist()]
