# SPDX-License-Identifier: MIT
"""SIGKILL at each step of a pass: nothing is lost and nothing there twice, for who asks meanwhile and afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from slurmjcd.cold.engine import Engine
from tests.harness import ROOT, RedisServer
from tests.module.records import NOON, Job, Model, identity, job
from tests.slurmjcd.cold.conftest import Store, config_for, in_files, move, write_files
from tests.slurmjcd.cold.test_moving import LATER, run_of

STEPS_MAX = 100

# in a file: a day, a run that is reported again with a later end, one whose later end came first
COLD = [job(1), run_of(2, NOON + 1), run_of(3, NOON + 86400), job(4, NOON + 86400)]
# in Redis: late for the first day, twice, the reports above, and a day without a file
HOT = [job(5), job(1), run_of(2, NOON + 86400 * 2), run_of(3, NOON + 2), job(6, NOON + 86400 * 2)]


def expected() -> list[Job]:
    model = Model()
    for record in [*COLD, *HOT]:
        model.put(record)
    return model.match()


def latest(records: list[Job]) -> list[Job]:
    """What a question has to make of it."""
    model = Model()
    for record in records:
        model.put(record)
    return model.match()


def test_killed_at_each_step(store: Store, server: RedisServer, engine: Engine, tmp_path: Path) -> None:
    words = [sys.executable, str(Path(__file__).with_name("killed_mover.py"))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as movers:
        assert movers.stdin is not None
        assert movers.stdout is not None
        for count in range(1, STEPS_MAX):
            directory = tmp_path / str(count)
            directory.mkdir()
            store.client.flushall()
            write_files(directory, COLD)
            store.put(*HOT)
            config = config_for(server, directory)
            print(count, config.model_dump_json(exclude={"ingest", "query"}), file=movers.stdin, flush=True)
            status = int(movers.stdout.readline())
            # whatever it left: the latest report of each run is somewhere, and Redis has each once
            assert latest([*in_files(directory, engine), *store.find()]) == expected(), count
            assert len(set(map(identity, store.find()))) == len(store.find())
            move(config, engine, LATER)
            assert in_files(directory, engine) == expected(), count
            assert store.find() == []
            assert not list(directory.glob(".tmp-*"))
            if status == 0:
                break
            assert status == -signal.SIGKILL
    assert 30 < count < STEPS_MAX - 1
