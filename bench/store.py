# SPDX-License-Identifier: MIT
"""The store: bytes per job, rates, answers and how long anyone else has to wait, beside upstream's form of storage.

Everything runs against real servers that are started for it. Upstream's form is what slurm-redis 0.1.3 leaves in
Redis: a hash of up to 27 fields per job and a set of job ids per day. It is loaded up to UPSTREAM_JOBS jobs, because it
needs more than a kilobyte for each.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Array, Process
from pathlib import Path
from typing import Any

import hiredis

from bench.calibration import Calibration
from tests.harness.paths import MODULE
from tests.harness.redis_server import RedisServer

ROOT = Path(__file__).parents[1]
WRITE_JOBS = ROOT / "build/cmake/bench/write_jobs"
PREFIX = "job"
PUT_BATCH = 500
PAGE = 10_000
AHEAD = 3  # pages asked for before the first of them is read
READ_BYTES = 1 << 18
UPSTREAM_JOBS = 1_000_000
LATE_JOBS = 10_000
RUNS = 9
ROUNDS = 3
IDLE_S = 1.0  # how long the bystander pings a server that does nothing else
BLOCK_S = 0.005  # a PING that takes longer is one too many

# What reference_jobs.h says of the jobs.
FIRST_JOB_ID = 1_000_000
DAY_START = 1_767_571_200 + 3 * 86_400
FAILED = 5
QUESTIONS: dict[str, list[str]] = {
    "none": ["user", "nobody"],
    "user": ["user", "user007"],
    "failed": ["state", str(FAILED), "start", str(DAY_START), "end", str(DAY_START + 86_399)],
    "day_user": ["user", "user007", "start", str(DAY_START), "end", str(DAY_START + 86_400)],
    "all": ["limit", "1000000000"],
}


Word = str | int | float | bytes | memoryview


class Client:
    """A connection that sends commands and reads replies, with as little of its own in between as Python allows."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.reader = hiredis.Reader()

    def send(self, *words: Word) -> None:
        self.socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub says one word

    def read(self) -> Any:
        """The next reply; an error reply is raised."""
        while (reply := self.reader.gets()) is False:
            self.reader.feed(self.socket.recv(1 << 20))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def ask(self, *words: Word) -> Any:
        self.send(*words)
        return self.read()


ahead_of_others = False


def go_ahead(pid: int) -> None:
    """Let a process run before all others, if the system allows."""
    with suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def ping_for_ever(path: str, seen: Any) -> None:
    """Note in `seen` the longest PING in seconds, how many there were, and how many took too long; in a process of its
    own."""
    go_ahead(0)
    client = Client(Path(path))
    while True:
        begin = time.perf_counter()
        client.ask("PING")
        took = time.perf_counter() - begin
        seen[0] = max(seen[0], took)
        seen[1] += 1
        seen[2] += took > BLOCK_S
        time.sleep(0.0002)


def stolen_ms() -> float:
    """Time the machine below this one kept for itself since the start (proc(5), /proc/stat), in ms."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) * 1000 / os.sysconf("SC_CLK_TCK")


class Bystander:
    """Another client, which only wants its PINGs answered."""

    def __init__(self, server: RedisServer) -> None:
        self.seen = Array("d", 3)
        self.stolen_ms = stolen_ms()
        self.process = Process(target=ping_for_ever, args=(str(server.socket), self.seen), daemon=True)
        self.process.start()

    def since(self) -> dict[str, float]:
        """The longest PING since the last call, how many of how many took too long, and the time stolen meanwhile."""
        (worst, pings, late), self.seen[:] = self.seen[:], [0.0, 0.0, 0.0]
        before, self.stolen_ms = self.stolen_ms, stolen_ms()
        return {
            "block_ms": worst * 1000, "pings": pings, "blocks_over_5_ms": late, "stolen_ms": self.stolen_ms - before
        }  # fmt: skip

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


@contextmanager
def running(directory: Path, *, module: Path | None = MODULE) -> Iterator[RedisServer]:
    server = RedisServer(directory, module=module)
    server.start(timeout_s=120)
    if ahead_of_others:
        go_ahead(int(Client(server.socket).ask("INFO", "server").split(b"process_id:")[1].split()[0]))
    try:
        yield server
    finally:
        server.stop()


def cpu_s(client: Client) -> float:
    """Processor time the server has used; what others do on the machine changes it far less than it does a clock."""
    text = client.ask("INFO", "cpu").decode()
    return sum(float(v) for v in re.findall(r"^used_cpu_(?:sys|user):([0-9.]+)", text, re.MULTILINE))


def load(server: RedisServer, jobs: int, form: str, late: int = 0) -> tuple[float, float]:
    """Pipe the jobs into the server, or `late` of them; seconds by the clock, and of the server's processor time.

    The input is made before the clock starts, but for very many jobs.
    """
    client = Client(server.socket)
    command = [str(WRITE_JOBS), str(jobs), form, PREFIX, str(PUT_BATCH), str(late)]
    pipe = ["redis-cli", "-s", str(server.socket), "--pipe"]
    with tempfile.TemporaryFile(dir="/dev/shm") as made:
        source: Any = made
        if jobs <= 2_000_000 or late:
            subprocess.run(command, stdout=made, check=True)
            made.seek(0)
        else:
            source = subprocess.Popen(command, stdout=subprocess.PIPE).stdout
        begin, cpu_begin = time.perf_counter(), cpu_s(client)
        done = subprocess.run(pipe, stdin=source, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - begin, cpu_s(client) - cpu_begin
    if "errors: 0," not in done.stdout:
        raise RuntimeError(f"{form}: {done.stdout.strip()}")
    return seconds


def info_number(client: Client, section: str, name: str) -> float:
    found = re.search(rf"^{name}:(\d+)", client.ask("INFO", section).decode(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"INFO {section} has no {name}")
    return float(found[1])


def used_memory(client: Client) -> int:
    return int(info_number(client, "memory", "used_memory"))


def median_ms(client: Client, *words: str) -> float:
    """Median time of a command's reply, in milliseconds."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        client.ask(*words)
        times.append(time.perf_counter() - begin)
    return sorted(times)[RUNS // 2] * 1000


def fetch_all(client: Client, *criteria: str) -> tuple[int, float]:
    """MATCH and FETCH to the end, each reply parsed: rows and seconds. The next page is asked for before this one is
    read."""
    begin = time.perf_counter()
    rows = 0
    if client.ask("SLURMJC.MATCH", PREFIX, "bench", *criteria) is not None:
        client.send("SLURMJC.FETCH", PREFIX, "bench", str(PAGE), "RECORDS")
        while page := client.read():
            client.send("SLURMJC.FETCH", PREFIX, "bench", str(PAGE), "RECORDS")
            rows += len(page)
    return rows, time.perf_counter() - begin


def fetch_unread(client: Client, *criteria: str) -> tuple[int, int, float]:
    """MATCH and FETCH to the end by a client that reads replies but does not parse them: rows, bytes, seconds.

    Behind each FETCH goes an ECHO of a random word. Where that comes back a page has ended; a page begins with the
    number of its rows.
    """
    begin = time.perf_counter()
    rows = received = 0
    word = os.urandom(16).hex().encode()
    mark = b"$%d\r\n%s\r\n" % (len(word), word)
    fetch = hiredis.pack_command(("SLURMJC.FETCH", PREFIX, "bench", str(PAGE), "RECORDS"))  # type: ignore[arg-type]
    ask = fetch + hiredis.pack_command((b"ECHO", word))  # type: ignore[arg-type]
    if client.ask("SLURMJC.MATCH", PREFIX, "bench", *criteria) is None:
        return 0, 0, time.perf_counter() - begin
    client.socket.sendall(ask * AHEAD)
    buffer = bytearray(READ_BYTES)
    view, kept = memoryview(buffer), 0  # so many bytes of the last turn stand at the beginning
    pages, more, at_head = AHEAD, True, True
    while pages:
        got = client.socket.recv_into(view[kept:])
        received, end, at = received + got, kept + got, 0
        while True:
            if at_head:
                line = buffer.find(b"\r\n", at, end)
                if line < 0:
                    break
                if more and buffer[at] != ord("*"):
                    raise RuntimeError(buffer[at:line].decode())
                page = int(buffer[at + 1 : line]) if more else 0
                rows, more, at, at_head = rows + page, page > 0, line + 2, False
            found = buffer.find(mark, at, end)
            if found < 0:
                at = max(at, end - len(mark) + 1)
                break
            at, at_head = found + len(mark), True
            if more:
                client.socket.sendall(ask)
            pages -= not more
        kept = end - at
        view[:kept] = view[at:end]
    return rows, received, time.perf_counter() - begin


def fetch_rate(client: Client, jobs: int) -> float:
    """Rows a second of everything leaving the server."""
    rows, _, seconds = fetch_unread(client, *QUESTIONS["all"])
    if rows != jobs:
        raise RuntimeError(f"{rows} of {jobs} jobs came back")
    return rows / seconds


def fork_ms(client: Client) -> float:
    """How long Redis stands still when it begins to save in the background, as for each rewrite of its AOF."""
    client.ask("BGSAVE")
    while int(info_number(client, "persistence", "rdb_bgsave_in_progress")):
        time.sleep(0.01)
    return info_number(client, "stats", "latest_fork_usec") / 1000


def save_and_load(directory: Path, server: RedisServer) -> dict[str, float]:
    """SAVE, its file's size, and the time a new server needs to read it, as its log says."""
    client = Client(server.socket)
    begin = time.perf_counter()
    client.ask("SAVE")
    saved_s = time.perf_counter() - begin
    server.kill()
    server.start(timeout_s=300)
    seconds = re.findall(r"DB loaded from disk: ([0-9.]+) seconds", (directory / "redis.log").read_text())
    return {
        "save_ms": saved_s * 1000,
        "load_ms": float(seconds[-1]) * 1000,
        "rdb_bytes": float((directory / "dump.rdb").stat().st_size),
    }


def measure_ours(directory: Path, jobs: int, late: int) -> dict[str, Any]:
    with running(directory) as server:
        client = Client(server.socket)
        empty, empty_rss = used_memory(client), info_number(client, "memory", "used_memory_rss")
        bystander = Bystander(server)
        time.sleep(IDLE_S)
        result: dict[str, Any] = {"ping_idle_ms": bystander.since()["block_ms"]}
        load(server, jobs, "put")
        seen = {"put": bystander.since()}
        result["bytes_per_job"] = (used_memory(client) - empty) / jobs
        result["rss_bytes_per_job"] = (info_number(client, "memory", "used_memory_rss") - empty_rss) / jobs
        result["match_ms"] = {
            name: median_ms(client, "SLURMJC.MATCH", PREFIX, "bench", *criteria) for name, criteria in QUESTIONS.items()
        }
        seen["match"] = bystander.since()
        result["fetch_ms"], result["rows"] = {}, {}
        for name, criteria in QUESTIONS.items():
            rows, seconds = fetch_all(client, *criteria)
            result["rows"][name], result["fetch_ms"][name] = rows, seconds * 1000
        if result["rows"]["all"] != jobs:
            raise RuntimeError(f"{result['rows']['all']} of {jobs} jobs came back")
        result["fetch_parsed_jobs_per_s"] = jobs / result["fetch_ms"]["all"] * 1000
        result["fetch_jobs_per_s"] = max(fetch_rate(client, jobs) for _ in range(ROUNDS))
        seen["fetch"] = bystander.since()
        middle = str(FIRST_JOB_ID + jobs // 2 + 50)
        result["job_id_ms"] = median_ms(client, "SLURMJC.MATCH", PREFIX, "bench", "job", middle)
        seen["job_id"] = bystander.since()
        result["agg_user_ms"] = median_ms(client, "SLURMJC.AGG", PREFIX, "BY", "user")
        seen["agg"] = bystander.since()
        result["info_ms"] = median_ms(client, "SLURMJC.INFO", PREFIX)
        seen["info"] = bystander.since()
        bystander.stop()
        result["fork_ms"] = fork_ms(client)
        result.update(save_and_load(directory, server))
        client = Client(server.socket)
        bystander = Bystander(server)
        time.sleep(IDLE_S)
        bystander.since()
        if late:
            result["late_cpu_us_per_job"] = load(server, jobs, "late", late)[1] / late * 1e6
            seen["late"] = bystander.since()
        if client.ask("SLURMJC.TRIM", PREFIX, "BEFORE", str(DAY_START)) <= 0:
            raise RuntimeError("TRIM deleted nothing")
        seen["trim"] = bystander.since()
        bystander.stop()
        for figure in seen["put"]:
            result[figure] = {name: waits[figure] for name, waits in seen.items()}
        result["longest_block_ms"] = max(result["block_ms"].values())
    return result


def measure_rates(directory: Path, jobs: int, machine: Calibration) -> dict[str, float]:
    """PUT and, as its ceiling, SET of one record per job; the best of some rounds in turn."""
    best: dict[str, float] = {}
    for i in machine.rounds(ROUNDS if jobs <= 1_000_000 else 1):
        for form, module in (("set", None), ("put", MODULE)):
            with running(directory / f"{form}-{i}", module=module) as server:
                seconds, cpu = load(server, jobs, form)
            for name, rate in ((f"{form}_per_s", jobs / seconds), (f"{form}_per_cpu_s", jobs / cpu)):
                best[name] = max(best.get(name, 0.0), rate)
    return best


def measure_upstream(directory: Path, jobs: int) -> dict[str, float]:
    with running(directory, module=None) as server:
        client = Client(server.socket)
        empty = used_memory(client)
        result = {"upstream_put_per_s": jobs / load(server, jobs, "upstream")[0]}
        result["upstream_bytes_per_job"] = (used_memory(client) - empty) / jobs
        saved = save_and_load(directory, server)
        result.update({f"upstream_{name}": value for name, value in saved.items()})
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="N", help="jobs to store (default: %(default)s)")
    parser.add_argument(
        "--late",
        type=int,
        default=LATE_JOBS,
        metavar="N",
        help="jobs to store that ended among those (default: %(default)s)",
    )
    parser.add_argument(
        "--ahead",
        action="store_true",
        help="let the servers run before all other processes: for a machine with other work",
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All of it; keys as in the table this prints."""
    global ahead_of_others
    ahead_of_others = options.ahead
    jobs = options.jobs
    with tempfile.TemporaryDirectory(prefix="sj-bench-") as name:
        directory = Path(name)
        result: dict[str, Any] = {"jobs": jobs}
        result.update(measure_rates(directory, jobs, options.machine))
        result.update(measure_ours(directory / "ours", jobs, min(options.late, jobs)))
        result["put_over_set"] = result["put_per_s"] / result["set_per_s"]
        result["put_over_set_cpu"] = result["put_per_cpu_s"] / result["set_per_cpu_s"]
        upstream_jobs = min(jobs, UPSTREAM_JOBS)
        result["upstream_jobs"] = upstream_jobs
        result.update(measure_upstream(directory / "upstream", upstream_jobs))
    return result
