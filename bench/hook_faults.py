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

from tests.faults.shim import Op, Shim
from tests.faults.world import World
from tests.harness.rundir import ring_dir, run_dir

_P999_US: Final = 20.0
_MAX_US: Final = 1000.0
_P50_OVER_HEALTHY: Final = 1.2


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
        process = world.driver.start(calls, rate=rate)
        return world.driver.report(process, timeout_s=calls / rate + 120)


def _table(found: dict[str, dict[str, Any]], rate: int) -> str:
    lines = [
        f"one call of the record hook, {rate} calls a second",
        f"{'':16}{'p50 µs':>10}{'p99.9 µs':>10}{'max µs':>10}{'calls':>12}{'dropped':>10}",
    ]
    for name, row in found.items():
        lines.append(
            f"{name:16}{row['p50_us']:10.2f}{row['p999_us']:10.2f}{row['max_us']:10.1f}"
            f"{row['calls']:12}{row['failed']:10}"
        )
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
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    found = {name: measure(name, calls=options.calls, rate=options.rate) for name in FAULTS}
    if options.json:
        print(json.dumps({**found, "rate": options.rate}))
    else:
        print(_table(found, options.rate))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
