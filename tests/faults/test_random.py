# SPDX-License-Identifier: MIT
"""Pairs of faults, and schedules of random ones under steady load; the seed of each is printed.

SEED=random MINUTES=10 make test-faults runs one long schedule at 1,000 records a second, a fault every 5 s.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.faults.driver import hold
from tests.faults.nemesis import Nemesis, Schedule
from tests.faults.shim import Shim
from tests.faults.world import World

SEED: Final = os.environ.get("SEED", "1")
MINUTES: Final = float(os.environ.get("MINUTES", "0.5"))
RATE: Final = int(os.environ.get("RATE", "1000"))
RSS_MAX_MIB: Final = 256
FOR_PAIRS: Final = (
    "redis_forgets", "kill_driver", "kill_daemon", "kill_redis", "stop_daemon", "stop_redis", "cut_redis", "disk_full",
    "disk_broken",
)  # fmt: skip
PAIRS: Final = list(itertools.combinations(FOR_PAIRS, 2))


def make_nemesis(make_world: Callable[..., World], rundir: Path, seed: str, *, jobs: int = 10_000) -> Nemesis:
    shim = Shim(rundir / "shim", "/spool.db")
    settings = {"redis": {"reply_s": 2.0, "connect_s": 2.0}}
    world = make_world(proxied=True, daemon_env=shim.env, settings=settings, jobs=jobs)
    return Nemesis(world, shim, random.Random(seed))


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_faults_at_a_time(make_world: Callable[..., World], rundir: Path, pair: tuple[str, str]) -> None:
    nemesis = make_nemesis(make_world, rundir, "+".join(pair))
    world = nemesis.world
    world.driver.start(3000, rate=1500)
    world.driver.wait_calls(300)
    for name in pair:
        nemesis.begin(name)
        hold(0.3)
    hold(0.5)
    nemesis.heal()
    if not world.driver.process.running:
        world.driver.start(500, rate=1500)
    world.check()


@pytest.mark.timeout(MINUTES * 60 * 3 + 300)
def test_random_schedule(make_world: Callable[..., World], rundir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.token_hex(4) if SEED == "random" else SEED
    with capsys.disabled():
        print(f"\nrandom schedule: SEED={seed} MINUTES={MINUTES:g}, {RATE} records/s")
    calls = int(MINUTES * 60 * RATE)
    nemesis = make_nemesis(make_world, rundir, seed, jobs=2 * calls)
    world = nemesis.world
    schedule = Schedule(nemesis, lambda: world.driver.start(calls, rate=RATE))
    schedule.start_driver()
    begun = time.monotonic()
    try:
        schedule.run(MINUTES * 60)
        seconds = time.monotonic() - begun
        world.driver.process.kill()
        promised = world.driver.calls
        nemesis.heal()
        world.check(timeout_s=180)
    except BaseException:
        print(f"SEED={seed}, after {schedule.faults}")
        raise
    with capsys.disabled():
        print(
            f"{promised} records promised, {promised / seconds:.0f} a second; {len(schedule.faults)} faults, "
            f"{schedule.overlaps} of them while another lasted; slurmjcd at most {schedule.peak_mib} MiB"
        )
        print(", ".join(f"{name} {count}" for name, count in sorted(Counter(schedule.faults).items())))
    assert not schedule.surprises, f"SEED={seed}: {schedule.surprises}"
    assert schedule.peak_mib <= RSS_MAX_MIB, f"slurmjcd took {schedule.peak_mib} MiB: SEED={seed}, {schedule.faults}"
