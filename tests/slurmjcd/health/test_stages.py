# SPDX-License-Identifier: MIT
"""What the stages say, read from the parts of a daemon that are real but not running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurmjcd.config.settings import Config
from slurmjcd.daemon import Daemon
from slurmjcd.health.stages import Stage, Stages, overall, size, span
from slurmjcd.protocol import join_frames
from slurmjcd.shipping.shipper import Shipper
from slurmjcd.shipping.shippers import Shippers
from slurmjcd.spool.batch import Intake, Ring
from slurmjcd.spool.spool import Spool
from slurmjcd.store.storeinfo import StoreInfo
from tests.slurmjcd.jobs import job


class World:
    """A daemon's parts, and what its stages say."""

    def __init__(self, daemon: Daemon, spool: Spool, shipper: Shipper) -> None:
        self.daemon, self.spool, self.shipper = daemon, spool, shipper
        self.stages = Stages(daemon)
        self.stages.now()

    def __getitem__(self, key: str) -> Stage:
        return next(stage for stage in self.stages.now() if stage.key == key)

    @property
    def overall(self) -> tuple[str, str]:
        return overall(self.stages.now())

    async def take(self, count: int) -> None:
        records = [job(number) for number in range(1, count + 1)]
        last = self.spool.state.watermarks.get("ring", 0) + count
        await self.spool.append([Intake("ring", last, count, join_frames(records))], {})


def info(**fields: Any) -> StoreInfo:
    return StoreInfo({"server": b"redis", "server_version": b"7.0.15", "module_version": b"0.1.0", **fields}, {})


@pytest.fixture
async def world(rundir: Path) -> AsyncIterator[World]:
    config = Config.model_validate({"redis": {"address": "redis://localhost:1"}})
    daemon = Daemon(config, lambda: config)
    spool = await Spool.open(rundir / "spool.db", max_bytes=100_000, replay_s=0, replay_bytes=0)
    daemon.spool = spool
    daemon.shipper = Shippers(spool, daemon.store, config.redis, daemon.metrics)
    shipper = daemon.shipper.each[0]
    shipper.up, shipper.status, shipper.info = True, "shipping", info()
    yield World(daemon, spool, shipper)
    await spool.close()


async def test_all_is_well(world: World) -> None:
    assert [stage.level for stage in world.stages.now()] == ["idle", "ok", "ok", "ok"]
    assert world.overall == ("ok", "All stages work")


async def test_redis_that_is_away(world: World) -> None:
    await world.take(3)
    world.shipper.up, world.shipper.status = False, "no connection to Redis at redis://localhost:1: refused"
    assert world["redis"].level == "error"
    assert "systemctl status" in world["redis"].advice
    assert world["shipper"].text == "Holds 3 records until Redis takes them."
    assert world["shipper"].kind == ""  # Redis' trouble, which is told once
    assert world.overall == ("error", "Redis is away: records wait, questions fail")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("Redis at x doesn't take commands now: OOM command not allowed", "maxmemory"),
        ("Redis at x doesn't take commands now: LOADING Redis is loading", "wait"),
        ("Redis at x doesn't take commands now: READONLY You can't write", "primary"),
        ("Redis at x doesn't take commands now: MISCONF Redis is configured", "disk"),
        ("Redis at x doesn't take commands now: NOAUTH Authentication required", "ACL"),
        ("Redis at x lacks the module: add 'loadmodule …'", "doctor"),
    ],
)
async def test_what_to_do_is_what_helps(world: World, status: str, advice: str) -> None:
    world.shipper.up, world.shipper.status = False, status
    assert advice in world["redis"].advice


async def test_a_redis_that_may_evict(world: World) -> None:
    world.shipper.info = info(maxmemory_policy=b"allkeys-lru")
    assert (world["redis"].level, world["redis"].kind) == ("warning", "eviction")


async def test_a_spool_that_fills_and_is_full(world: World) -> None:
    one = len(join_frames([job(100)]))
    world.spool.max_bytes = one * 100
    await world.take(60)
    assert (world["spool"].level, world["spool"].kind) == ("warning", "filling")
    await world.take(39)
    assert (world["spool"].level, world["spool"].kind) == ("error", "full")
    assert world.overall == ("error", "Records can't all be taken")


async def test_what_is_shipped_fills_no_spool(world: World) -> None:
    world.spool.max_bytes = len(join_frames([job(100)])) * 100
    await world.take(60)
    world.spool.confirm(60)
    assert world["spool"].level == "ok"


async def test_a_disk_that_fails(world: World) -> None:
    world.spool.state.error = "disk I/O error"
    assert (world["spool"].level, world["spool"].kind) == ("error", "disk")


async def test_counts_that_rise_are_told_and_old_ones_are_not(world: World) -> None:
    world.spool.state.rings["ring"] = Ring(attempted=10, dropped=0)
    assert world["ring"].level == "idle"
    world.spool.state.rings["ring"] = Ring(attempted=11, dropped=2)
    assert (world["ring"].level, world["ring"].kind) == ("error", "dropped")
    # a daemon that starts now finds the same counts, and nothing new
    assert next(iter(Stages(world.daemon).now())).level == "idle"


async def test_a_slurmctld_that_went_away_is_told_for_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("slurmjcd.health.stages.time.monotonic", lambda: clock.now)
    connected: set[object] = set()
    world.daemon.ingest = SimpleNamespace(connections=connected)  # type: ignore[assignment]
    assert world["ring"].level == "idle"  # it was never there
    connected.add("slurmctld")
    assert world["ring"].level == "ok"
    connected.clear()
    said = []
    for clock.now in (1059.0, 1061.0, 4599.0, 4601.0):
        said.append((world["ring"].level, world["ring"].kind))
    assert said == [("idle", ""), ("warning", "gone"), ("warning", "gone"), ("idle", "")]


async def test_quarantine_is_told(world: World) -> None:
    world.spool.state.quarantined = 2
    assert (world["spool"].level, world["spool"].kind) == ("warning", "quarantine")
    assert "slurmjc quarantine" in world["spool"].advice


async def test_a_servers_words_stay_on_one_short_line(world: World) -> None:
    world.shipper.up, world.shipper.status = False, "a\nb\x1b[31m" + "x" * 1000
    text = world["redis"].text
    assert text.startswith("A\\nb\\x1b[31m")
    assert len(text) == 300


def test_figures_for_people() -> None:
    assert [size(n) for n in (0, 1023, 4096, 4 * 2**30, 2**42)] == ["0 B", "1023 B", "4.0 KiB", "4.0 GiB", "4.0 TiB"]
    assert [span(s) for s in (0.25, 75, 600, 9000, 200_000)] == ["0.2 s", "75 s", "10 min", "2.5 h", "2.3 d"]
