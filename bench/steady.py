# SPDX-License-Identifier: MIT
"""What a steady rate of completions costs each process: processor time and bytes written, at one rate after another.

The whole way is there: the hook's driver, the daemon with its spool, and a Redis with an append-only file, synced every
second. `kept_up` says whether no call was refused and all jobs were stored when the time was up, or a second later.
`…_cpu` is in parts of one core; bytes written are what the kernel was given for the disk. The driver's share holds
making the jobs.
"""

from __future__ import annotations

import argparse
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.pipeline import Feeder, cpu_s, net_bytes, rss_mib, stored, wait_for
from bench.store import Client
from tests.harness.daemon import Daemon
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import ring_dir, run_dir

_LATE_S: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rates", default="10,100,1000,10000,100000", metavar="N,…", help="jobs that end per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each rate lasts")


def written_bytes(pid: int) -> int:
    """What a process has given to the disk so far."""
    found = re.search(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/{pid}/io names no bytes written")
    return int(found[1])


def measure_rate(directory: Path, rate: int, seconds: float) -> dict[str, Any]:
    with ExitStack() as stack:
        redis = RedisServer(directory / "redis", options={"appendonly": "yes"})
        stack.callback(redis.stop)
        redis.start()
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        stack.callback(daemon.stop)
        daemon.start()
        jobs = int(rate * seconds)
        options = ("--by-completion", f"--rate={rate}")
        feeder = Feeder(directory / "driver", ring_dir(directory.parent), daemon.run_dir, *options, jobs=jobs + 1)
        stack.callback(feeder.stop)
        client = Client(redis.socket)
        stack.callback(client.socket.close)
        feeder.call(1)  # the driver has everything ready when it answers
        wait_for(lambda: stored(client) == 1, "the first job to be stored")
        pids = {"driver": feeder.process.pid, "daemon": daemon.process.pid, "redis": redis.process.pid}
        used = {name: cpu_s(pid) for name, pid in pids.items()}
        written = {name: written_bytes(pid) for name, pid in pids.items()}
        received = net_bytes(client)[0]
        begin = time.perf_counter()
        refused = feeder.try_call(jobs)
        called_s = time.perf_counter() - begin
        wait_for(lambda: stored(client) == jobs + 1 - refused, "the last job to be stored")
        took_s = time.perf_counter() - begin
        found: dict[str, Any] = {"jobs": jobs, "refused": refused, "seconds": took_s, "called_per_s": jobs / called_s}
        found["kept_up"] = refused == 0 and took_s < seconds + _LATE_S
        for name, pid in pids.items():
            found[f"{name}_cpu"] = (cpu_s(pid) - used[name]) / took_s
            if name != "driver":
                found[f"{name}_written_mib_per_s"] = (written_bytes(pid) - written[name]) / took_s / 2**20
        found["redis_received_mib_per_s"] = (net_bytes(client)[0] - received) / took_s / 2**20
        found["daemon_rss_mib"] = rss_mib(daemon.process.pid, highest=True)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Nested figures: `rate.N.…`."""
    rates = [int(word) for word in options.rates.split(",")]
    with run_dir("sj-bench-") as directory:
        found = {
            str(rates[number]): measure_rate(directory / f"rate{number}", rates[number], options.seconds)
            for number in options.machine.rounds(len(rates))
        }
    return {"rate": found}
