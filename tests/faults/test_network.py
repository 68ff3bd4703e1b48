# SPDX-License-Identifier: MIT
"""The connections between the programs are cut at every byte, drip, hang and half close."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults import oracle
from tests.faults.driver import hold
from tests.faults.feeder import Feeder, feed_until
from tests.faults.proxy import ChaosProxy, Cut, End, Way
from tests.faults.world import World
from tests.harness import wait_until
from tests.harness.paths import program

# short timeouts: what is tested is that they are there
SETTINGS = {"redis": {"reply_s": 1.0, "connect_s": 1.0}}
# a daemon that waits for 5 to 20 ms between attempts
IMPATIENT = """
from slurmjcd import backoff, cli
from slurmjcd.shipping import shipper
shipper.Backoff = lambda **_: backoff.Backoff(first_s=0.02, longest_s=0.02)
cli.main()
"""


def hop(world: World, name: str) -> ChaosProxy:
    found = world.redis_proxy if name == "redis" else world.daemon_proxy
    assert found is not None
    return found


def way(proxy: ChaosProxy, name: str) -> Way:
    return proxy.requests if name == "request" else proxy.replies


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(proxied=True, settings=SETTINGS)


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


EVERY_BYTE = [
    pytest.param("reply", End.CLOSE, 31, marks=pytest.mark.faults_fast),
    ("reply", End.CLOSE, 1),
    ("reply", End.HALF, 1),
    ("request", End.CLOSE, 3),
    ("request", End.HALF, 11),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("direction", "end", "step"), EVERY_BYTE)
def test_every_byte_between_daemon_and_redis(
    make_world: Callable[..., World], direction: str, end: End, step: int
) -> None:
    """Each connection is cut one place further on, from its first byte past the first PUTs, until none is left.

    The outcome of the PUT under way is unknown each time; the watermark says what it was. The daemon has its back-off
    shortened, which alone would make hours of this.
    """
    world = make_world(proxied=True, settings=SETTINGS, start=False)
    at = world.daemon.process.argv.index(str(program("slurmjcd")))
    world.daemon.process.argv[at : at + 1] = [sys.executable, "-c", IMPATIENT]
    world.start()
    proxy = hop(world, "redis")
    wait_until(world.daemon.ready, what="the daemon to be connected")
    handshake = way(proxy, direction).bytes  # of a connection that has not sent a record yet
    places = range(0, handshake + (4000 if direction == "request" else 30), step)
    with Feeder(world.daemon.ingest_socket) as feeder:
        way(proxy, direction).plan.extend(Cut(place, end) for place in places)
        way(proxy, direction).cut = way(proxy, direction).plan.popleft()
        proxy.drop_all()
        feed_until(feeder, lambda: proxy.cuts >= len(places), step=10, what=lambda: f"{proxy.cuts} cuts", timeout_s=600)
        proxy.heal()
        feeder.wait_acked()
        wait_until(lambda: world.stored_count() >= feeder.acked, what="all to arrive")
        with world.redis.client() as client:
            verdict = oracle.compare(feeder.job_ids(), oracle.stored(client))
        assert verdict.good, verdict
    assert world.daemon.process.running


@pytest.mark.timeout(600)
def test_every_byte_of_the_daemons_replies_to_the_plugin(world: World) -> None:
    """What the daemon took and could not say so is sent again and taken once."""
    proxy = hop(world, "daemon")
    world.driver.start(0)
    wait_until(lambda: proxy.replies.bytes, what="the plugin's greeting")
    handshake, place, made = proxy.replies.bytes, 0, 0
    world.driver.stop()
    while proxy.cuts == place:  # every one was carried out so far
        proxy.replies.cut = Cut(place, End.CLOSE)
        cuts, place, made = place, place + 1, made + 10
        world.driver.start(10)
        world.driver.wait_calls(made)
        wait_until(lambda cuts=cuts, made=made: proxy.cuts > cuts or world.stored_count() >= made, what=f"cut {cuts}")
        world.driver.process.kill()
    assert place > handshake + len(b":10\r\n"), "no answer to a PUT was cut"
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
