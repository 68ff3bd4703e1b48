# SPDX-License-Identifier: MIT
"""What can be done to a world, how each of it is undone, and a schedule in which they overlap."""

from __future__ import annotations

import contextlib
import errno
import heapq
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from tests.faults.proxy import ChaosProxy, Cut, End
from tests.faults.shim import Kill, Op, Shim
from tests.faults.world import World
from tests.harness.daemon import accepts
from tests.harness.process import Process
from tests.harness.waiting import wait_until

Undo = Callable[[], None]
_BACK_AFTER_S: Final = 0.5  # what was killed is started again, as systemd would
_KEEP_S: Final = 0.1  # how often it is looked whether something has to be
_ENDED_WELL: Final = (0, -signal.SIGKILL)


class Nemesis:
    """Each fault is a method that begins it and returns what ends it; none of them waits long.

    Faults may overlap. Ending one leaves the others as they are, as far as they don't touch the same switch.
    """

    def __init__(self, world: World, shim: Shim, chance: random.Random) -> None:
        self.world, self.shim, self.chance = world, shim, chance
        self._asked_to_end = 0  # the process id of a daemon that was
        self.asked_early = 0  # of one that was while it started: a signal may end Python before it knows of signals

    def begin(self, name: str) -> Undo:
        undo: Undo = getattr(self, name)()
        return undo

    def heal(self) -> None:
        """End everything, also what no undo was called for, and wait until all programs run."""
        self.shim.heal()
        daemon = self.world.daemon.process
        if daemon.running and daemon.pid == self._asked_to_end:
            daemon.send(signal.SIGCONT)
            daemon.wait()
        self.world.revive()
        wait_until(self.world.redis.answers, what="Redis to have read its data")
        with self.world.redis.client() as client:
            client.config_set("maxmemory", "0")

    # ---- programs ------------------------------------------------------------------------------------------------

    def kill_driver(self) -> Undo:
        return self._kill("driver")

    def kill_daemon(self) -> Undo:
        return self._kill("daemon")

    def kill_redis(self) -> Undo:
        return self._kill("redis")

    def kill_all(self) -> Undo:
        return self._kill("driver", "daemon", "redis")

    def _kill(self, *names: str) -> Undo:
        processes = [self.world.processes[name] for name in names]
        for process in processes:
            process.send(signal.SIGKILL)
        for process in processes:
            process.wait()
        return _nothing

    def term_daemon(self) -> Undo:
        self._asked_to_end = self.world.daemon.process.pid
        if not accepts(self.world.daemon.health_socket):
            self.asked_early = self._asked_to_end
        self.world.daemon.process.send(signal.SIGTERM)
        return _nothing

    def stop_driver(self) -> Undo:
        return self._stop("driver")

    def stop_daemon(self) -> Undo:
        return self._stop("daemon")

    def stop_redis(self) -> Undo:
        return self._stop("redis")

    def _stop(self, name: str) -> Undo:
        process = self.world.processes[name]
        process.send(signal.SIGSTOP)
        return lambda: process.send(signal.SIGCONT)

    # ---- connections ---------------------------------------------------------------------------------------------

    def cut_redis(self) -> Undo:
        return self._cut(self.world.redis_proxy)

    def cut_daemon(self) -> Undo:
        return self._cut(self.world.daemon_proxy)

    def _cut(self, proxy: ChaosProxy | None) -> Undo:
        assert proxy is not None
        way = self.chance.choice((proxy.requests, proxy.replies))
        way.cut = Cut(self.chance.randrange(3000), self.chance.choice(list(End)))
        return proxy.heal

    def drop_connections(self) -> Undo:
        for proxy in (self.world.redis_proxy, self.world.daemon_proxy):
            assert proxy is not None
            proxy.drop_all(End.CLOSE)
        return _nothing

    # ---- the spool's disk ----------------------------------------------------------------------------------------

    def disk_full(self) -> Undo:
        return self._disk(Op.WRITE, error=errno.ENOSPC, part=self.chance.choice((0, 30)))

    def disk_broken(self) -> Undo:
        op = self.chance.choice((Op.SYNC, Op.WRITE))
        return self._disk(op, error=errno.EIO, times=self.chance.randrange(1, 20))

    def disk_slow(self) -> Undo:
        return self._disk(Op.SYNC, error=0, delay_s=0.3)

    def disk_kills(self) -> Undo:
        op = self.chance.choice((Op.SYNC, Op.WRITE))
        return self._disk(op, error=0, nth=self.chance.randrange(1, 20), kill=Kill.BEFORE, times=1)

    def _disk(self, op: Op, **how: Any) -> Undo:
        self.shim.fail(op, **how)
        return lambda: self.shim.heal(op)

    # ---- Redis ---------------------------------------------------------------------------------------------------

    def redis_forgets(self) -> Undo:
        self._tell_redis("FLUSHALL")
        return _nothing

    def redis_refuses(self) -> Undo:
        self._tell_redis("CONFIG", "SET", "maxmemory", "1")
        return lambda: self._tell_redis("CONFIG", "SET", "maxmemory", "0")

    def _tell_redis(self, *words: str) -> None:
        """It may be stopped or gone: then that is the only fault."""
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis(unix_socket_path=str(self.world.redis.socket), socket_timeout=1.0) as client,
        ):
            client.execute_command(*words)


def _nothing() -> None:
    """What a fault that is over at once needs to end."""


ALL: Final = sorted(name for name in vars(Nemesis) if not name.startswith("_") and name not in ("begin", "heal"))


@dataclass
class Schedule:
    """Random faults at a steady pace, each with a life of its own, while programs that ended are started again.

    Args:
        every_s: from the beginning of one fault to the next.
        lives_s: shortest and longest time that a fault lasts; longer than every_s makes them overlap.
        start_driver: makes a new slurmctld.
    """

    nemesis: Nemesis
    start_driver: Callable[[], object]
    every_s: float = 5.0
    lives_s: tuple[float, float] = (0.5, 9.0)
    faults: list[str] = field(default_factory=list)  # that began, in order
    overlaps: int = 0  # of them, that began while another one lasted
    surprises: list[str] = field(default_factory=list)  # programs that ended of themselves
    peak_mib: int = 0  # the daemon's largest resident set
    _undos: list[tuple[float, int, Undo]] = field(default_factory=list)
    _gone_since: dict[str, float] = field(default_factory=dict)

    def run(self, seconds: float) -> None:
        """Let faults come and go for so long; in the end some may last still."""
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + seconds:
            while self._undos and self._undos[0][0] <= now:
                heapq.heappop(self._undos)[2]()
            if now >= begun + self.every_s * len(self.faults):
                self._begin(now)
            self._keep(now)
            self.peak_mib = max(self.peak_mib, self.nemesis.world.daemon_peak_mib())
            time.sleep(_KEEP_S)

    def _begin(self, now: float) -> None:
        chance = self.nemesis.chance
        name, life = chance.choice(ALL), chance.uniform(*self.lives_s)
        self.overlaps += bool(self._undos)
        self.faults.append(name)
        heapq.heappush(self._undos, (now + life, len(self.faults), self.nemesis.begin(name)))

    def _keep(self, now: float) -> None:
        """Start again what has been gone for a moment."""
        world = self.nemesis.world
        starts = {"driver": self.start_driver, "daemon": world.daemon.process.start, "redis": world.redis.process.start}
        for name, process in world.processes.items():
            if process.running:
                self._gone_since.pop(name, None)
            elif name not in self._gone_since:
                self._gone_since[name] = now
                self._look_at_end(name, process)
            elif now - self._gone_since[name] >= _BACK_AFTER_S:
                starts[name]()

    def _look_at_end(self, name: str, process: Process) -> None:
        """Whether a program ended because a fault wanted it to. A daemon that can't open its spool says so and ends."""
        spool = name == "daemon" and process.returncode == 1 and "spool" in process.log_tail(3)
        early = process.returncode == -signal.SIGTERM and process.pid == self.nemesis.asked_early
        if process.returncode not in _ENDED_WELL and not spool and not early:
            self.surprises.append(f"{name} ended with {process.returncode}: {process.log_tail()}")
