# SPDX-License-Identifier: MIT
"""Pairs of faults, and schedules of random ones under steady load; the seed of each is printed.

SEED=random MINUTES=10 make test-faults runs one long schedule at 1,000 records a second, a fault every 5 s.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import redis

from tests.faults.driver import hold
from tests.faults.proxy import Cut, End
from tests.faults.shim import Op, Shim
from tests.faults.world import World

SEED: Final = os.environ.get("SEED", "1")
MINUTES: Final = float(os.environ.get("MINUTES", "0.5"))
RATE: Final = int(os.environ.get("RATE", "1000"))
EVERY_S: Final = 5.0  # from one fault to the next
RSS_MAX_MIB: Final = 256
LIVES_S: Final = (0.2, 2.0)  # how long a fault lasts


class Nemesis:
    """What can be done to a world, and how it is undone. Each fault takes the world and a source of chance."""

    def __init__(self, world: World, shim: Shim, chance: random.Random) -> None:
        self.world, self.shim, self.chance = world, shim, chance

    def begin(self, name: str) -> None:
        getattr(self, name)()

    def heal(self) -> None:
        self.shim.heal()
        self.world.revive()

    # ---- faults --------------------------------------------------------------------------------------------------

    def kill_driver(self) -> None:
        self.world.driver.process.kill()

    def kill_daemon(self) -> None:
        self.world.daemon.kill()

    def kill_redis(self) -> None:
        self.world.redis.kill()

    def kill_all(self) -> None:
        for process in self.world.processes.values():
            process.send(signal.SIGKILL)
        for process in self.world.processes.values():
            process.wait()

    def term_daemon(self) -> None:
        self.world.daemon.process.send(signal.SIGTERM)

    def stop_driver(self) -> None:
        self.world.driver.process.send(signal.SIGSTOP)

    def stop_daemon(self) -> None:
        self.world.daemon.process.send(signal.SIGSTOP)

    def stop_redis(self) -> None:
        self.world.redis.process.send(signal.SIGSTOP)

    def cut_redis(self) -> None:
        assert self.world.redis_proxy is not None
        proxy = self.world.redis_proxy
        way = self.chance.choice((proxy.requests, proxy.replies))
        way.cut = Cut(self.chance.randrange(3000), self.chance.choice(list(End)))

    def cut_daemon(self) -> None:
        assert self.world.daemon_proxy is not None
        proxy = self.world.daemon_proxy
        way = self.chance.choice((proxy.requests, proxy.replies))
        way.cut = Cut(self.chance.randrange(3000), self.chance.choice(list(End)))

    def drop_connections(self) -> None:
        for proxy in (self.world.redis_proxy, self.world.daemon_proxy):
            assert proxy is not None
            proxy.drop_all(End.CLOSE)

    def disk_full(self) -> None:
        self.shim.fail(Op.WRITE, error=errno.ENOSPC, part=self.chance.choice((0, 30)))

    def disk_broken(self) -> None:
        self.shim.fail(self.chance.choice((Op.SYNC, Op.WRITE)), error=errno.EIO, times=self.chance.randrange(1, 20))

    def disk_slow(self) -> None:
        self.shim.fail(Op.SYNC, error=0, delay_s=0.3)

    def disk_kills(self) -> None:
        self.shim.fail(
            self.chance.choice((Op.SYNC, Op.WRITE)),
            error=0,
            nth=self.chance.randrange(1, 20),
            kill=1,
            times=1,  # type: ignore[arg-type]
        )

    def redis_forgets(self) -> None:
        self._tell_redis("FLUSHALL")

    def redis_refuses(self) -> None:
        self._tell_redis("CONFIG", "SET", "maxmemory", "1")

    def _tell_redis(self, *words: str) -> None:
        """It may be stopped or gone: then that is the only fault."""
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis(unix_socket_path=str(self.world.redis.socket), socket_timeout=1.0) as client,
        ):
            client.execute_command(*words)


ALL: Final = sorted(name for name in vars(Nemesis) if not name.startswith("_") and name not in ("begin", "heal"))
FOR_PAIRS: Final = (
    "redis_forgets", "kill_driver", "kill_daemon", "kill_redis", "stop_daemon", "stop_redis", "cut_redis", "disk_full",
    "disk_broken",
)  # fmt: skip
PAIRS: Final = list(itertools.combinations(FOR_PAIRS, 2))


def make_nemesis(make_world: Callable[..., World], rundir: Path, seed: str) -> Nemesis:
    shim = Shim(rundir / "shim", "/spool.db")
    world = make_world(proxied=True, daemon_env=shim.env, settings={"redis": {"reply_s": 2.0, "connect_s": 2.0}})
    return Nemesis(world, shim, random.Random(seed))


def heal(nemesis: Nemesis) -> None:
    """As Nemesis.heal, and Redis has memory again."""
    nemesis.heal()
    with nemesis.world.redis.client() as client:
        client.config_set("maxmemory", "0")


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
    heal(nemesis)
    if not world.driver.process.running:
        world.driver.start(500, rate=1500)
    world.check()


@pytest.mark.timeout(MINUTES * 60 * 3 + 300)
def test_random_schedule(make_world: Callable[..., World], rundir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.token_hex(4) if SEED == "random" else SEED
    with capsys.disabled():
        print(f"\nrandom schedule: SEED={seed} MINUTES={MINUTES:g}, {RATE} records/s")
    nemesis = make_nemesis(make_world, rundir, seed)
    world, chance = nemesis.world, nemesis.chance
    calls = int(MINUTES * 60 * RATE * 2)
    world.driver.start(calls, rate=RATE)
    end = time.monotonic() + MINUTES * 60
    faults: list[str] = []
    peak_mib = 0
    while time.monotonic() < end:
        begun = time.monotonic()
        faults.append(chance.choice(ALL))
        try:
            nemesis.begin(faults[-1])
            hold(chance.uniform(*LIVES_S))
            peak_mib = max(peak_mib, peak_rss_mib(world))
            heal(nemesis)
        except BaseException:
            print(f"SEED={seed}, after {faults}")
            raise
        if not world.driver.process.running:
            world.driver.start(calls, rate=RATE)
        assert peak_mib <= RSS_MAX_MIB, f"slurmjcd takes {peak_mib} MiB: SEED={seed}, after {faults}"
        hold(max(0.0, EVERY_S - (time.monotonic() - begun)))
    world.driver.process.kill()
    promised = world.driver.calls
    with capsys.disabled():
        print(f"{promised} records promised, {len(faults)} faults, slurmjcd at most {peak_mib} MiB")
    try:
        world.check(timeout_s=180)
    except BaseException:
        print(f"SEED={seed}, after {faults}")
        raise


def peak_rss_mib(world: World) -> int:
    """The daemon's largest resident set, 0 when it isn't there."""
    try:
        status = Path(f"/proc/{world.daemon.process.pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
