# SPDX-License-Identifier: MIT
"""What one call of the record hook costs slurmctld, beside the plugins that Debian has, in the same process."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.harness import PLUGIN, Daemon, RedisServer, run_dir
from tests.harness.hook_driver import DRIVER
from tests.harness.rundir import ring_dir
from tests.harness.slurm_conf import slurm_plugin_dir

PEERS: Final = ("none", "lua", "filetxt")
# An empty script: what the call itself costs there.
_LUA: Final = "function slurm_jobcomp_log_record(rec)\n    return slurm.SUCCESS\nend\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_000_000, metavar="N", help="per plugin (default: %(default)s)")
    parser.add_argument(
        "--rate",
        type=int,
        default=50_000,
        metavar="N",
        help="calls per second, hundreds of times what the busiest site completes (default: %(default)s)",
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Reference jobs through every plugin in turns, ours with a daemon and Redis behind it."""
    with run_dir() as directory:
        redis = RedisServer(directory / "redis")
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        try:
            redis.start()
            daemon.start()
            report, missing = _drive(directory, daemon, options)
        finally:
            daemon.stop()
            redis.stop()
    ours = report["redis"]
    if ours["failed"]:
        raise SystemExit(f"error: {ours['failed']} of {ours['calls']} calls were refused: choose a lower --rate")
    found: dict[str, Any] = {"calls": ours["calls"], "calls_per_s": options.rate}
    found |= {key: ours[key] for key in ("p50_us", "p99_us", "p999_us", "max_us")}
    for peer in PEERS:
        if peer in report:
            found |= {f"{peer}_{key}": report[peer][key] for key in ("p50_us", "p99_us", "p999_us", "max_us")}
    if missing:
        found["left_out"] = ", ".join(missing)
    return found


def _drive(directory: Path, daemon: Daemon, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    home = directory / "hook"
    home.mkdir()
    state = home / "state"
    state.mkdir(mode=0o700)
    (home / "jobcomp.lua").write_text(_LUA)
    paths = {peer: slurm_plugin_dir() / f"jobcomp_{peer}.so" for peer in PEERS}
    present = {peer: path for peer, path in paths.items() if path.exists()}
    argv = [
        str(DRIVER),
        f"--plugin=redis={PLUGIN}",
        f"--loc=redis={daemon.run_dir}",
        f"--params=redis=ring_dir={ring_dir(home)}",
        *(f"--plugin={peer}={path}" for peer, path in present.items()),
        *([f"--loc=filetxt={home / 'jobcomp.txt'}"] if "filetxt" in present else []),
        f"--state={state}",
        f"--conf-dir={home}",
        f"--calls={options.calls}",
        f"--rate={options.rate}",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"error: {done.stderr.strip() or 'the driver failed'}")
    report: dict[str, Any] = json.loads(done.stdout)["plugins"]
    return report, [f"{peer} (not installed)" for peer in PEERS if peer not in present]
