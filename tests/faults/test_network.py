# SPDX-License-Identifier: MIT
"""The connections between the programs are cut at every byte, drip, hang and half close."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.driver import hold
from tests.faults.proxy import ChaosProxy, Cut, End, Way
from tests.faults.world import World
from tests.harness import wait_until

# short timeouts: what is tested is that they are there
SETTINGS = {"redis": {"reply_s": 1.0, "connect_s": 1.0}}
PUT_BYTES = 4000  # of one small batch with its head


def hop(world: World, name: str) -> ChaosProxy:
    found = world.redis_proxy if name == "redis" else world.daemon_proxy
    assert found is not None
    return found


def way(proxy: ChaosProxy, name: str) -> Way:
    return proxy.requests if name == "request" else proxy.replies


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(proxied=True, settings=SETTINGS)


def cut_at_each(world: World, proxy: ChaosProxy, direction: str, end: End, positions: range) -> None:
    """Ten records at a time, with the connection cut at the next position of that direction."""
    calls = 0
    for at in positions:
        before = proxy.cuts
        way(proxy, direction).cut = Cut(at, end)
        proxy.drop_all()
        world.driver.start(10)
        calls += 10
        world.driver.wait_calls(calls)
        wait_until(
            lambda before=before, calls=calls: proxy.cuts > before or world.stored_count() >= calls,
            what=f"a cut at byte {at}",
        )
        if proxy.cuts == before:
            break  # so many bytes never went that way
        world.driver.process.kill()


@pytest.mark.parametrize("end", [pytest.param(End.CLOSE, marks=pytest.mark.faults_fast), End.RESET, End.HALF])
@pytest.mark.parametrize("direction", ["request", "reply"])
@pytest.mark.parametrize("where", ["redis", "daemon"])
def test_connections_cut_here_and_there(world: World, where: str, direction: str, end: End) -> None:
    proxy = hop(world, where)
    world.driver.start(2000, rate=2000)
    for at in (0, 1, 30) if direction == "reply" else (0, 30, 1200):
        before, made = proxy.cuts, proxy.connections
        way(proxy, direction).cut = Cut(at, end)
        proxy.drop_all()
        wait_until(
            lambda before=before, made=made: proxy.cuts > before or proxy.connections > made + 1,
            what=f"a cut at byte {at}",
        )
    world.check()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("end", [End.CLOSE, End.HALF])
@pytest.mark.parametrize("direction", ["request", "reply"])
def test_every_byte_between_daemon_and_redis(world: World, direction: str, end: End) -> None:
    """The outcome of the PUT under way is unknown each time; the watermark says what it was."""
    proxy = hop(world, "redis")
    limit = PUT_BYTES if direction == "request" else 1000
    world.driver.start(0)
    world.driver.stop()
    cut_at_each(world, proxy, direction, end, range(0, limit, 7 if direction == "request" else 3))
    world.check()


@pytest.mark.parametrize("where", [pytest.param("redis", marks=pytest.mark.faults_fast), "daemon"])
def test_a_connection_that_hangs_is_given_up(world: World, where: str) -> None:
    """Half open: replies just stop. Another connection is made, and nothing of the old one counts twice."""
    proxy = hop(world, where)
    world.driver.start(1500, rate=1500)
    world.driver.wait_calls(200)
    made = proxy.connections
    proxy.replies.silent = True
    wait_until(lambda: proxy.connections > made, what="another connection", timeout_s=30)
    proxy.heal()
    world.check()


@pytest.mark.parametrize("where", ["redis", "daemon"])
@pytest.mark.parametrize("slow", [{"delay_s": 0.2}, {"chunk": 1, "delay_s": 0.0005}], ids=["slow", "dripping"])
def test_a_slow_connection_delays_and_loses_nothing(world: World, where: str, slow: dict[str, Any]) -> None:
    proxy = hop(world, where)
    for each in (proxy.requests, proxy.replies):
        for name, value in slow.items():
            setattr(each, name, value)
    proxy.drop_all()
    world.driver.start(1000, rate=500)
    hold(3)
    assert world.driver.calls > 900, "the hook waited"
    world.check()


@pytest.mark.parametrize("where", ["redis", "daemon"])
def test_a_peer_that_hangs_up_at_once_is_asked_again_later(world: World, where: str) -> None:
    """Connection refused and closed for a while: tried again with pauses, not in a busy loop."""
    proxy = hop(world, where)
    proxy.refuse = True
    made = proxy.connections
    proxy.drop_all()
    world.driver.start(1000, rate=1000)
    world.driver.wait_calls(1000)
    hold(2)
    assert proxy.connections - made < 60, "connections were tried without a pause"
    world.check()
