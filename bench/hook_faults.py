# SPDX-License-Identifier: MIT
"""What one call of the record hook costs while something is broken, beside what it costs when all is well."""

from __future__ import annotations

import argparse
import errno
import json
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import calibration
from tests.faults.shim import Op, Shim
from tests.faults.world import World
from tests.harness.rundir import ring_dir, run_dir

_P999_US: Final = 20.0
_MAX_US: Final = 1000.0
_P50_OVER_HEALTHY: Final = 1.2

_COLUMNS: Final = {
    "p50 µs": "p50_us",
    "p99.9 µs": "p999_us",
    "max µs": "max_us",
    "max kept": "kept_max_us",
    "calls": "calls",
    "dropped": "failed",
    "> 20 µs": "slow",
    "switched": "slow_switched",
    "faulted": "slow_faulted",
    "spin p50": "spin_p50_us",
    "spin > 20": "slow_spins",
    "spin 99.9": "spin_p999_us",
    "spin max": "spin_max_us",
}


def _nothing(world: World, shim: Shim) -> None:
    """All is well."""


def _daemon_absent(world: World, shim: Shim) -> None:
    world.daemon.stop()


def _daemon_stopped(world: World, shim: Shim) -> None:
    world.daemon.process.send(signal.SIGSTOP)


def _redis_stopped(world: World, shim: Shim) -> None:
    world.redis.process.send(signal.SIGSTOP)


def _spool_full(world: World, shim: Shim) -> None:
    shim.fail(Op.WRITE, error=errno.ENOSPC)


FAULTS: Final[dict[str, tuple[Callable[[World, Shim], None], str]]] = {
    "healthy": (_nothing, ""),
    "daemon_absent": (_daemon_absent, ""),
    "daemon_stopped": (_daemon_stopped, ""),
    "redis_stopped": (_redis_stopped, ""),
    "ring_full": (_daemon_absent, "ring_mib=1,spill_mib=0"),
    "spool_full": (_spool_full, ""),
}


def measure(name: str, *, calls: int, rate: int) -> dict[str, Any]:
    """One fault in a site of its own; what the driver says of its calls."""
    begin, params = FAULTS[name]
    with run_dir() as directory, ExitStack() as stack:
        shim = Shim(directory / "shim", "/spool.db")
        world = World(directory, ring_dir(directory), stack, params=params, daemon_env=shim.env, promises=False)
        world.start()
        begin(world, shim)
        process = world.driver.start(calls, rate=rate, options=("--why",))
        return world.driver.report(process, timeout_s=calls / rate + 120)


def _table(found: dict[str, dict[str, Any]], rate: int) -> str:
    lines = [
        f"one call of the record hook, {rate} calls a second",
        f"{'':16}" + "".join(f"{head:>11}" for head in _COLUMNS),
    ]
    for name, row in found.items():
        cells = (f"{row[key]:11.2f}" if isinstance(row[key], float) else f"{row[key]:11}" for key in _COLUMNS.values())
        lines.append(f"{name:16}" + "".join(cells))
    lines += [
        "",
        "max kept: the longest call in which the thread kept its processor; > 20 µs: calls that took longer; of these,",
        "in how many the thread lost its processor to another (switched) or a page was missing (faulted).",
        "spin: 500 multiplications by the same thread between the calls, which no plugin can slow down.",
    ]
    late = [
        f"{name}: {what}"
        for name, row in found.items()
        for what, bad in (
            (f"p99.9 above {_P999_US} µs", row["p999_us"] > _P999_US),
            (f"max above {_MAX_US} µs", row["max_us"] > _MAX_US),
            ("p50 20 % above healthy", row["p50_us"] > _P50_OVER_HEALTHY * found["healthy"]["p50_us"]),
        )
        if bad
    ]
    return "\n".join([*lines, "", *(late or ["all within the targets"])])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench/run hook --faults", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls per fault")
    parser.add_argument("--rate", type=int, default=20_000, help="calls per second")
    parser.add_argument("--only", default="", metavar="NAME,…", help=f"beside healthy, some of: {', '.join(FAULTS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    only = options.only.split(",") if options.only else list(FAULTS)
    if unknown := set(only) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    names = [name for name in FAULTS if name in only or name == "healthy"]
    with calibration.running() as machine:
        found = {
            names[number]: measure(names[number], calls=options.calls, rate=options.rate)
            for number in machine.rounds(len(names))
        }
    if options.json:
        print(json.dumps({**found, "rate": options.rate, "calibration": calibration.report(machine.taken)}))
    else:
        print("\n".join([_table(found, options.rate), *calibration.moved(machine.taken)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
