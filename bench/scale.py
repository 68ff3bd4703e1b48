# SPDX-License-Identifier: MIT
"""One server, and a cluster of three masters with 1, 3 and 6 shards: rates of ingest, times of answers, who is busy.

The same jobs go through the hook, the daemon with its spool, and to wherever their shard lies; then query.sock is
asked. All of it runs on this machine, so what more servers bring shows in the processor time that each program takes
for a job: `bound` names the program that would be full first if each had a core of its own. At the end a cluster with
replicas loses a master and moves slots while jobs come in, and every job is counted.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from bench.ingest import push
from bench.pipeline import CHUNK_JOBS, Feeder, cpu_s, quantile, summary, thread_cpu_s
from bench.query import Asker
from bench.store import DAY_START, FIRST_JOB_ID, PREFIX, Client, used_memory
from slurmjcd.store.shards import shard_prefixes
from tests.faults.cluster_world import OPTIONS, ClusterWorld
from tests.harness.cluster import ClusterSite, slot_of
from tests.harness.daemon import Daemon
from tests.harness.paths import MODULE
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import ring_dir, run_dir

MASTERS: Final = 3
USER: Final = "user007"
ASKED: Final = 30  # times for each question; the median counts
POLL_S: Final = 0.01  # between two looks at how far all shards are
CALLS_PER_S: Final = 1000  # of the run that counts jobs over faults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", default="1,3,6", metavar="N,…", help="numbers of shards (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="jobs, the same each time")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of one server and all numbers of shards")
    parser.add_argument(
        "--fault-jobs", type=int, default=20_000, metavar="N", help="jobs that come while a master dies; 0: none"
    )


class Servers:
    """Where the shards are: one server without cluster, or the masters of one."""

    def __init__(self, directory: Path, *, cluster: bool) -> None:
        self.site = ClusterSite(directory, masters=MASTERS, replicas=False) if cluster else None
        self.nodes = self.site.nodes if self.site else [RedisServer(directory)]
        self.address = self.site.address if self.site else self.nodes[0].address

    def start(self) -> None:
        if self.site:
            self.site.start()
        else:
            self.nodes[0].start()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def of(self, prefix: bytes) -> RedisServer:
        """The one that has a shard."""
        return self.nodes[self.site.owner(slot_of(prefix.decode()))] if self.site else self.nodes[0]

    def memory(self) -> int:
        return sum(self._each(used_memory))

    def empty(self) -> None:
        # not in the background, as Valkey does it otherwise: what is free later would count as the next round's
        self._each(lambda client: client.ask("FLUSHALL", "SYNC"))

    def _each(self, ask: Callable[[Client], Any]) -> list[Any]:
        answers = []
        for node in self.nodes:
            client = Client(node.socket)
            with closing(client.socket):
                answers.append(ask(client))
        return answers


class Counts:
    """How many jobs all shards have, asked of each where it is."""

    def __init__(self, servers: Servers, prefixes: tuple[bytes, ...]) -> None:
        self._asked = [(Client(servers.of(prefix).socket), prefix) for prefix in prefixes]

    def __call__(self) -> int:
        for client, prefix in self._asked:
            client.send("SLURMJC.INFO", prefix)
        infos = [client.read() for client, _ in self._asked]
        return sum(int(dict(zip(info[::2], info[1::2], strict=True))[b"jobs"]) for info in infos)

    def close(self) -> None:
        for client, _ in self._asked:
            client.socket.close()


def measure_shards(directory: Path, servers: Servers, shards: int, jobs: int) -> dict[str, float]:
    """Ingest and questions with so many shards; the servers are empty again then."""
    base = f"{{{PREFIX}}}" if servers.site and shards == 1 else PREFIX
    settings = {"redis": {"shards": shards, "prefix": base}}
    before = servers.memory()
    daemon = Daemon(directory / "jc", redis_address=servers.address, settings=settings)
    daemon.start()
    try:
        with closing(Counts(servers, shard_prefixes(base.encode(), shards))) as counts:
            found = ingested(directory, daemon, servers, counts, jobs)
        found["bytes_per_job"] = (servers.memory() - before) / found["jobs"]
        found |= asked(daemon, int(found["jobs"]))
    finally:
        daemon.stop()
        servers.empty()
    return found


def ingested(directory: Path, daemon: Daemon, servers: Servers, counts: Counts, jobs: int) -> dict[str, float]:
    """Rate, and processor time in µs a job: of the daemon's two sides, of all servers, of the one that had most."""
    feeder = Feeder(directory / "driver", ring_dir(directory), daemon.run_dir, "--by-completion", jobs=jobs)
    try:
        feeder.call(1)  # the driver has everything ready when it answers
        pids = [node.process.pid for node in servers.nodes]
        cpu, threads, driver = [cpu_s(pid) for pid in pids], thread_cpu_s(daemon.process.pid), cpu_s(feeder.process.pid)
        came, seconds = push(feeder, counts, lambda _: feeder.called + CHUNK_JOBS <= jobs, every_s=POLL_S)
        each = [cpu_s(pid) - used for pid, used in zip(pids, cpu, strict=True)]
        daemon_s = {name: used - threads[name] for name, used in thread_cpu_s(daemon.process.pid).items()}
        driver = cpu_s(feeder.process.pid) - driver
    finally:
        feeder.stop()
    us = 1e6 / came
    return {
        "jobs": counts(),
        "jobs_per_s": came / seconds,
        "daemon_loop_us_per_job": daemon_s["main"] * us,
        "daemon_others_us_per_job": daemon_s["others"] * us,
        "servers_us_per_job": sum(each) * us,
        "busiest_server_us_per_job": max(each) * us,
        "driver_us_per_job": driver * us,
        "cores_busy": (sum(daemon_s.values()) + sum(each) + driver) / seconds,
    }


def asked(daemon: Daemon, jobs: int) -> dict[str, float]:
    """Median milliseconds of questions at query.sock, to the last row."""
    asker = Asker(daemon.query_socket)
    with closing(asker.client.socket):
        asker.client.ask("SLURMJC.HELLO", "1", "bench/1")
        day = ("user", USER, "start", str(DAY_START), "end", str(DAY_START + 86_400))
        found = {
            "job_ms": median_ms(lambda: rows(asker, "job", str(FIRST_JOB_ID + jobs // 2))),
            "user_day_ms": median_ms(lambda: rows(asker, *day)),
            "user_week_ms": median_ms(lambda: rows(asker, "user", USER)),
            "agg_ms": median_ms(lambda: asker.client.ask("SLURMJC.AGG", "BY", "user", "state")),
        }
        begin = time.perf_counter()
        if (number := rows(asker, "limit", "1000000000")) != jobs:
            raise RuntimeError(f"{number} of {jobs} jobs came back")
        return {**found, "match_ms": found["user_day_ms"], "rows_per_s": jobs / (time.perf_counter() - begin)}


def rows(asker: Asker, *criteria: str) -> int:
    """Ask for the next page before this one is read, as sacct's plugin does."""
    found = 0
    if asker.client.ask("SLURMJC.MATCH", "bench", *criteria) is None:
        return 0
    asker.send("SLURMJC.FETCH", "bench", "10000", "RECORDS")
    while page := asker.client.read():
        asker.send("SLURMJC.FETCH", "bench", "10000", "RECORDS")
        found += len(page)
    return found


def median_ms(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(ASKED):
        begin = time.perf_counter()
        ask()
        times.append(time.perf_counter() - begin)
    return quantile(times, 0.5) * 1000


def bounds(found: dict[str, float], cores: int) -> dict[str, Any]:
    """Who would be full first with a core for each program and thread, and at how many jobs a second; in words."""
    parts = {
        "the daemon's event loop": found["daemon_loop_us_per_job"],
        "the daemon's other threads": found["daemon_others_us_per_job"],
        "the busiest server": found["busiest_server_us_per_job"],
    }
    first = max(parts, key=lambda name: parts[name])
    most = 1e6 / parts[first] if parts[first] else 0.0
    words = f"{found['cores_busy']:.1f} of {cores} cores were busy; with a core for each, {first} at {most:,.0f} jobs/s"
    return {"limit": first, "limit_jobs_per_s": most, "bound": words}


def told(rounds: list[dict[str, float]], cores: int) -> dict[str, Any]:
    """Medians, and the ends of what was measured for the rate."""
    every = summary(rounds)
    ends = {name: {"jobs_per_s": every.pop(name)["jobs_per_s"]} for name in ("min", "max")}
    return {**every, **ends, **bounds(every, cores)}


def faults(directory: Path, jobs: int) -> dict[str, int]:
    """How many jobs are lost or there twice after a master was killed and slots were moved while they came in."""
    with ExitStack() as stack:
        ring_dir(directory).mkdir()
        site = ClusterSite(directory / "site", masters=MASTERS, options=OPTIONS)
        stack.callback(site.stop)
        site.start()
        world = ClusterWorld(directory, stack, site, shards=6, jobs=jobs + 1000)
        world.daemon.start()
        world.driver.start(jobs, rate=CALLS_PER_S)
        world.driver.wait_calls(jobs // 4)
        slot = slot_of(world.prefixes[0])
        master = site.owner(slot)
        site.kill(master)
        site.wait_failover(slot, master)
        site.nodes[master].start()
        site.wait_ok()
        for prefix in world.prefixes[2:4]:
            site.move_prefix(prefix, site.owner(slot), pause_s=0.5)
        world.driver.wait_calls(jobs)
        world.revive()
        world.drain()
        verdict = world.verdict()
        return {"lost": len(verdict.lost), "twice": len(verdict.twice), "counted": len(verdict.seen)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over rounds in which one server and each number of shards take turns."""
    if not MODULE.exists():
        raise FileNotFoundError(f"{MODULE} is missing: run `make plugin`")
    numbers = [int(word) for word in options.shards.split(",")]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ("single", *map(str, numbers))}
    with run_dir("sj-bench-") as directory:
        single, cluster = Servers(directory / "single", cluster=False), Servers(directory / "cluster", cluster=True)
        with ExitStack() as stack:
            for servers in (single, cluster):
                stack.callback(servers.stop)
                servers.start()
            for number in options.machine.rounds(options.rounds):
                rounds["single"].append(measure_shards(directory / f"s{number}", single, 1, options.jobs))
                for shards in numbers:
                    where = directory / f"c{shards}-{number}"
                    rounds[str(shards)].append(measure_shards(where, cluster, shards, options.jobs))
        cores = os.cpu_count() or 1
        found = {name: told(each, cores) for name, each in rounds.items()}
        result: dict[str, Any] = {"jobs": options.jobs, "masters": MASTERS, "cores": cores}
        result |= {"single": found.pop("single"), "per_shards": found}
        if options.fault_jobs:
            result |= faults(directory / "faults", options.fault_jobs)
    return result
