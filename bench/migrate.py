# SPDX-License-Identifier: MIT
"""slurmjc migrate: how fast slurm-redis' hashes become records in place, and what others wait for meanwhile.

A Redis with appendonly yes holds a hash for each job and the index sets, as slurm-redis leaves them. In turns: in one
piece; and killed (SIGKILL) when a third and when two thirds of the hashes are gone, then run once more. Beside it, in
a process of its own that comes before all others, a client does what slurm-redis' plugin does, one thing after another:
it ends a job (the whole transaction with SLURMJC.INDEX), asks for one job (MATCH and FETCH), and pings. `quiet` is the
same before the migration. At the end job ids and ends of every record are compared with what was written, by whomever.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Event, Process, Queue
from pathlib import Path
from typing import Any, Final

import hiredis

from bench.import_jobs import runs
from bench.pipeline import summary, wait_for
from bench.store import FIRST_JOB_ID, PREFIX, WRITE_JOBS, Client, go_ahead, load, used_memory
from tests.harness.daemon import Daemon
from tests.harness.paths import program
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import run_dir

_QUIET_S: Final = 5.0
_PAUSE_S: Final = 0.002
_LIVE_ID: Final = 2_000_000_000  # no job of the reference set has such an id
_KINDS: Final = ("job_ends", "ask_one", "ping")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="hashes")
    parser.add_argument("--rounds", type=int, default=1, help="of each way")


def expected(jobs: int) -> Counter[tuple[int, int]]:
    """Job id and end of every hash, out of the commands that write them."""
    found: Counter[tuple[int, int]] = Counter()
    reader = hiredis.Reader()
    with subprocess.Popen([WRITE_JOBS, str(jobs), "upstream", PREFIX], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while data := process.stdout.read(1 << 20):
            reader.feed(data)
            while (words := reader.gets()) is not False:
                if words[0] == b"HSET":
                    fields = dict(zip(words[2::2], words[3::2], strict=True))
                    found[int(fields[b"JobID"]), int(fields[b"End"])] += 1
    return found


def _end_job(client: Client, number: int, now: int) -> None:
    """As slurm-redis' plugin, in two pieces: what it pipes, and EXEC."""
    key = f"{PREFIX}:{_LIVE_ID + number}"
    fields = {
        "_abi": 0, "_tmf": 0, "JobID": _LIVE_ID + number, "Partition": "live", "Start": now, "End": now, "Elapsed": 0,
        "UID": 1, "User": "live", "GID": 1, "Group": "live", "NNodes": 1, "NCPUs": 1, "NodeList": "n1",
        "JobName": "live", "State": 3, "TimeLimit": 60, "WorkDir": "/live", "Submit": now, "Eligible": now,
    }  # fmt: skip
    commands = [("HSET", key, name, value) for name, value in fields.items()]
    client.ask("MULTI")
    client.socket.sendall(b"".join(hiredis.pack_command(words) for words in commands))  # type: ignore[arg-type]
    client.send("SLURMJC.INDEX", PREFIX, _LIVE_ID + number)
    for _ in range(len(commands) + 1):
        client.read()
    client.ask("EXEC")


def live(path: str, phase: Any, stop: Any, out: Any) -> None:
    """Put into `out` the jobs that were ended, and the times in seconds of each kind, before and after `phase`."""
    go_ahead(0)
    client = Client(Path(path))
    times: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in _KINDS} for name in ("quiet", "busy")}
    number, now = 0, int(time.time())
    while not stop.is_set():
        into = times["busy" if phase.is_set() else "quiet"]
        for kind in _KINDS:
            begin = time.perf_counter()
            if kind == "job_ends":
                _end_job(client, number, now)
                number += 1
            elif kind == "ask_one":
                words = ("SLURMJC.MATCH", PREFIX, "one", "job", str(FIRST_JOB_ID + number % 1000))
                if client.ask(*words) is not None:
                    while client.ask("SLURMJC.FETCH", PREFIX, "one", 500):
                        pass
            else:
                client.ask("PING")
            into[kind].append(time.perf_counter() - begin)
            time.sleep(_PAUSE_S)
    out.put((number, now, times))


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
        "max_ms": ordered[-1] * 1000,
        "n": len(ordered),
    }


def _migrate(daemon: Daemon) -> subprocess.Popen[str]:
    words = ["migrate", "--config", str(daemon.conf), "--cluster", "cluster", "--json"]
    return subprocess.Popen([program("slurmjc"), *words], stdout=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"slurmjc migrate ended with {process.returncode}: {out}")
    said: dict[str, Any] = json.loads(out)
    return said


def _kill_each(daemon: Daemon, client: Client, marks: list[int]) -> Iterator[int]:
    """Run migrations until so few keys are left, and kill each; keys that were left."""
    for mark in marks:
        process = _migrate(daemon)
        wait_for(lambda mark=mark: client.ask("DBSIZE") <= mark, f"{mark} keys to be left")  # type: ignore[misc]
        process.kill()
        process.communicate()
        yield client.ask("DBSIZE")


def measure_round(directory: Path, jobs: int, wanted: Counter[tuple[int, int]], *, kills: int) -> dict[str, Any]:
    redis = RedisServer(directory / "redis", options={"appendonly": "yes"})
    redis.start()
    daemon = Daemon(directory / "jc", redis_address=redis.address)  # for its configuration; it need not run
    client = Client(redis.socket)
    load(redis, jobs, "upstream")
    phase, stop, out = Event(), Event(), Queue()  # type: ignore[var-annotated]
    bystander = Process(target=live, args=(str(redis.socket), phase, stop, out), daemon=True)
    try:
        before = used_memory(client)
        bystander.start()
        time.sleep(_QUIET_S)
        phase.set()
        begin = time.perf_counter()
        cuts = list(_kill_each(daemon, client, [jobs * (kills - n) // (kills + 1) for n in range(kills)]))
        said = _finish(_migrate(daemon))
        seconds = time.perf_counter() - begin
        stop.set()
        ended, now, times = out.get(timeout=60)
        bystander.join()
        found, every = runs(client), wanted + Counter((_LIVE_ID + n, now) for n in range(ended))
        return {
            "hashes_per_s": jobs / seconds,
            "seconds": seconds,
            "missing": (every - found).total(),
            "double": (found - every).total(),
            "hashes_left": sum(1 for _ in _hashes(client)),
            "said_stored": said["stored"],
            "index_sets": said["index_sets"],
            "mib_before": before / 2**20,
            "mib_after": used_memory(client) / 2**20,
            **{f"killed_with_left.{number}": cut for number, cut in enumerate(cuts, 1)},
            **{f"{name}.{kind}": _spread(times[name][kind]) for name in times for kind in _KINDS},
        }
    finally:
        bystander.terminate()
        redis.stop()


def _hashes(client: Client) -> Iterator[bytes]:
    """What is left of upstream's."""
    cursor = b"0"
    while True:
        cursor, keys = client.ask("SCAN", cursor, "MATCH", f"{PREFIX}:[0-9i]*", "COUNT", 10_000)
        yield from keys
        if cursor == b"0":
            return


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a migration in one piece, and under `killed` those of one that was killed twice."""
    wanted = expected(options.jobs)
    ways: dict[int, list[dict[str, Any]]] = {0: [], 2: []}
    with run_dir("sj-bench-") as directory:
        for number in options.machine.rounds(options.rounds):
            for kills, rounds in ways.items():
                one = measure_round(directory / f"{kills}-{number}", options.jobs, wanted, kills=kills)
                rounds.append(_flat(one))
    return {"jobs": options.jobs, **summary(ways[0]), "killed": summary(ways[2])}


def _flat(found: dict[str, Any]) -> dict[str, float]:
    return {
        f"{name}.{key}" if key else name: number
        for name, value in found.items()
        for key, number in (value.items() if isinstance(value, dict) else [("", value)])
    }
