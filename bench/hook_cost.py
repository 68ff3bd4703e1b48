# SPDX-License-Identifier: MIT
"""What one call of the record hook costs slurmctld, beside the plugins that Debian has, in turns.

Each plugin is in a process of its own, and a peer's process is stopped while others have their turn: jobcomp/script
goes on starting a process for each job, and jobcomp/elasticsearch trying to connect, long after the calls. A peer that
is too slow for all calls gets as many as fit its time. `min` and `max` are of the rounds, the other figures of all
calls.
"""

from __future__ import annotations

import argparse
import signal
import time
from contextlib import ExitStack
from typing import Any, Final

from bench import hook_peers
from bench.pipeline import Caller, Feeder
from tests.harness import Daemon, RedisServer, run_dir
from tests.harness.rundir import ring_dir

_KEYS: Final = ("p50_us", "p99_us", "p999_us", "max_us")
_PIECE: Final = 500  # calls of a peer between two looks at the clock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_000_000, metavar="N", help="per plugin (default: %(default)s)")
    parser.add_argument(
        "--rate",
        type=int,
        default=50_000,
        metavar="N",
        help="calls per second, hundreds of times what the busiest site completes (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns that the calls are split into")
    parser.add_argument(
        "--peer-seconds", type=float, default=2.0, metavar="S", help="longest turn of a peer (default: %(default)s)"
    )


class Turns:
    """Everybody's driver, and what each turn took."""

    def __init__(self, ours: Caller, peers: dict[str, Caller], seconds: float) -> None:
        self.callers = {"redis": ours, **peers}
        self.times: dict[str, list[dict[str, float]]] = {name: [] for name in self.callers}
        self._peers, self._seconds = peers, seconds
        for peer in peers.values():
            peer.call(0)  # it has loaded its plugin when it answers
            peer.process.send_signal(signal.SIGSTOP)

    def round(self, number: int, calls: int) -> None:
        """A turn for each, another one first in each round."""
        names = list(self.callers)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            self._turn(name, calls)
            self.times[name].append(self.callers[name].times())
            if name in self._peers:
                self.callers[name].process.send_signal(signal.SIGSTOP)

    def _turn(self, name: str, calls: int) -> None:
        caller = self.callers[name]
        if name not in self._peers:
            caller.call(calls)
            return
        caller.process.send_signal(signal.SIGCONT)
        until = time.monotonic() + self._seconds
        while calls > 0 and time.monotonic() < until:
            caller.call(min(_PIECE, calls))
            calls -= _PIECE

    def report(self, name: str) -> dict[str, float]:
        """Of all calls, with the ends of each round's figures under `min` and `max`."""
        caller = self.callers[name]
        caller.process.send_signal(signal.SIGCONT)
        found = caller.report()
        ends = {end.__name__: {key: end(each[key] for each in self.times[name]) for key in _KEYS} for end in (min, max)}
        return {**found, **ends}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Reference jobs through every plugin in turns, ours with a daemon and Redis behind it."""
    with ExitStack() as stack:
        directory = stack.enter_context(run_dir())
        redis = RedisServer(directory / "redis")
        stack.callback(redis.stop)
        redis.start()
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        stack.callback(daemon.stop)
        daemon.start()
        left_out = {name: why for name in hook_peers.NAMES if (why := hook_peers.missing(name))}
        driver = (f"--rate={options.rate}",)
        peers = {
            name: stack.enter_context(hook_peers.running(name, directory / name, *driver, jobs=options.calls))
            for name in hook_peers.NAMES
            if name not in left_out
        }
        ours = Feeder(directory / "ours", ring_dir(directory), daemon.run_dir, *driver, jobs=options.calls)
        stack.callback(ours.stop)
        turns = Turns(ours, peers, options.peer_seconds)
        for number in options.machine.rounds(options.rounds):
            turns.round(number, options.calls * (number + 1) // options.rounds - ours.called)
        return figures({name: turns.report(name) for name in turns.callers}, left_out, options.rate)


def figures(reports: dict[str, dict[str, Any]], left_out: dict[str, str], rate: int) -> dict[str, Any]:
    """Ours under plain names, a peer's under its own and with their ratio to ours; who is not there is named."""
    ours = reports["redis"]
    found: dict[str, Any] = {"calls": ours["calls"], "calls_per_s": rate, "min": {}, "max": {}}
    for name, report in reports.items():
        prefix = "" if name == "redis" else f"{name}_"
        found |= {f"{prefix}{key}": report[key] for key in _KEYS}
        for end in ("min", "max"):
            found[end] |= {f"{prefix}{key}": report[end][key] for key in _KEYS}
        if prefix:
            found |= {f"{name}_calls": report["calls"], f"{name}_over_ours": report["p50_us"] / ours["p50_us"]}
    if left_out:
        found["left_out"] = ", ".join(f"{name} ({why})" for name, why in left_out.items())
    return found
