# SPDX-License-Identifier: MIT
"""Hot and cold: bytes a job in Redis and in files, moving days, and questions to Redis, to files and to both.

The reference jobs' strings over two years that end yesterday, some of them each hour. Files are made before the clock
starts but for the last days, which the mover takes out of Redis; the last week stays there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import hiredis
import msgpack

from bench import store
from bench.pipeline import summary
from bench.sacct_site import Site
from bench.store import PREFIX, PUT_BATCH, Client
from slurmjcd.cold.files import DAY_S, list_days
from slurmjcd.cold.writer import publish, write_day
from slurmjcd.config.settings import Config
from slurmjcd.record import POSITION
from tests.harness.daemon import Daemon
from tests.harness.paths import ENGINE, PLUGIN
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import run_dir
from tests.slurmjcd.wire import Wire

HOT_DAYS: Final = 7
_TIMES: Final = [POSITION[name] for name in ("submit", "eligible", "start", "end")]
_ID, _END, _RESTART = (POSITION[name] for name in ("job_id", "end", "restart_count"))
_OFTEN: Final = 5
RARE_USER: Final = "user351"  # has a job on about a tenth of the days
_SETTLED_S: Final = 2.5  # until the list of files is taken to be good until the directory changes; see reader.py


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=730, metavar="N", help="days of jobs")
    parser.add_argument("--per-day", type=int, default=200, metavar="N", help="jobs a day")
    parser.add_argument("--move", type=int, default=50_000, metavar="N", help="jobs that are moved in one go")
    parser.add_argument("--rounds", type=int, default=1)


def patterns(count: int) -> list[list[Any]]:
    """The reference jobs, in order of their end, decoded."""
    made = subprocess.run(
        [str(store.WRITE_JOBS), str(count), "put", PREFIX, "1", "0"], stdout=subprocess.PIPE, check=True
    )
    reader = hiredis.Reader()
    reader.feed(made.stdout)
    jobs = []
    while (command := reader.gets()) is not False:
        jobs.append(msgpack.unpackb(command[-1]))
    return jobs


def day_of_jobs(jobs: list[list[Any]], day: int, per_day: int, first_id: int) -> Iterator[bytes]:
    """So many of these jobs, over one day."""
    for number in range(per_day):
        row = list(jobs[(first_id + number) % len(jobs)])
        shift = day * DAY_S + number * DAY_S // per_day - row[_END]
        for position in _TIMES:
            row[position] = row[position] and row[position] + shift
        row[_ID] = first_id + number
        yield msgpack.packb(row)


def put(server: RedisServer, records: Iterator[bytes]) -> None:
    client, batch = Client(server.socket), []
    for record in records:
        batch.append(record)
        if len(batch) == PUT_BATCH:
            client.ask("SLURMJC.PUT", PREFIX, "RECORDS", *batch)
            batch.clear()
    if batch:
        client.ask("SLURMJC.PUT", PREFIX, "RECORDS", *batch)


def info(server: RedisServer) -> dict[bytes, Any]:
    flat = Client(server.socket).ask("SLURMJC.INFO", PREFIX)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def move(config: Config) -> tuple[float, float]:
    """Seconds that a mover took, and the most memory that it had, MiB."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "slurmjcd.cold.mover"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(config.model_dump_json(exclude={"ingest", "query"}) + "\n")
        process.stdin.flush()
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if status or '"moved"' not in said:
        raise RuntimeError(f"the mover ended with {status}: {said}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def measure(options: argparse.Namespace) -> dict[str, Any]:
    jobs, today = patterns(20_000), int(time.time()) // DAY_S
    first, hot_from = today - options.days, today - HOT_DAYS
    with run_dir("sj-bench-") as directory, store.running(directory / "redis") as redis:
        files = directory / "files"
        files.mkdir()
        section = {"dir": str(files), "engine": str(ENGINE), "after_days": HOT_DAYS}
        config = Config.model_validate({"redis": {"address": redis.address}, "cold": section})
        # one large day through the mover, which is then taken away again
        put(redis, day_of_jobs(jobs, first - 1, options.move, 1))
        large = info(redis)[b"bytes_per_job"]
        move_s, move_mib = move(config)
        (file,) = list_days(files)
        result: dict[str, Any] = {
            "move.jobs": options.move, "move.s": move_s, "move.jobs_s": options.move / move_s,
            "move.resident_mib": move_mib, "redis_bytes_per_job": large, "file_bytes_per_job": file.size / options.move,
        }  # fmt: skip
        file.path.unlink()
        for day in range(first, today):
            records = day_of_jobs(jobs, day, options.per_day, 1 + (day - first) * options.per_day)
            if day >= hot_from:
                put(redis, records)
            elif (path := write_day(files, day, records)) is not None:
                publish(path, day)
        result |= {
            "jobs": options.days * options.per_day,
            "files": len(list_days(files)),
            "hot_jobs": info(redis)[b"jobs"],
        }
        result["small_file_bytes_per_job"] = sum(file.size for file in list_days(files)) / (
            options.per_day * result["files"]
        )
        rounds = []
        daemon = Daemon(directory / "jc", redis_address=redis.address, settings={"cold": section})
        daemon.start()
        site = Site(directory / "site", PLUGIN, "jobcomp/redis", str(daemon.run_dir))
        try:
            begin = time.perf_counter()
            asyncio.run(asked(daemon, [("AGG", ("BY", "user", "job", "1"))]))
            result["first_question_s"] = time.perf_counter() - begin
            time.sleep(_SETTLED_S)
            for _ in options.machine.rounds(options.rounds):
                rounds.append(measure_round(daemon, site, first, hot_from, options))
        finally:
            daemon.stop()
    return result | summary(rounds)


def measure_round(
    daemon: Daemon, site: Site, first: int, hot_from: int, options: argparse.Namespace
) -> dict[str, float]:
    day = first + options.days // 2
    hot_id = (hot_from - first) * options.per_day + options.per_day // 2
    cold_id = (day - first) * options.per_day + options.per_day // 2
    month = ("start", day * DAY_S, "end", (day + 30) * DAY_S)
    week = ("start", (hot_from + 2) * DAY_S)
    questions: dict[str, tuple[str, tuple[object, ...]]] = {
        "hot.user_days": ("MATCH", ("user", "user007", *week)),
        "hot.agg": ("AGG", ("BY", "account", *week)),
        "id_hot": ("MATCH", ("job", hot_id)),
        "id_cold": ("MATCH", ("job", cold_id)),
        "user_month": ("MATCH", ("user", "user007", "state", "3,4,5,6", *month)),
        "user_two_years": ("MATCH", ("user", "user007")),
        "rare_user_two_years": ("MATCH", ("user", RARE_USER)),
        "agg_month": ("AGG", ("BY", "account", "state", "3,4,5,6", *month)),
        "agg_year": ("AGG", ("BY", "account", "start", (hot_from + HOT_DAYS - 365) * DAY_S)),
    }
    found: dict[str, float] = {}
    for name, question in questions.items():
        took, rows = zip(*(asyncio.run(asked(daemon, [question])) for _ in range(_OFTEN)), strict=True)
        found[f"{name}_ms"], found[f"{name}_rows"] = statistics.median(took) * 1000, rows[0]
    begin = time.strftime("%Y-%m-%d", time.gmtime(first * DAY_S))
    whole = site.sacct("-S", begin, "-E", "now")
    if whole.rows != options.days * options.per_day:
        raise RuntimeError(f"sacct printed {whole.rows} of {options.days * options.per_day} jobs")
    one = site.sacct("-S", begin, "-E", "now", "-j", str(cold_id))
    return found | {
        "sacct_two_years_s": whole.seconds,
        "sacct_two_years_rows": whole.rows,
        "sacct_id_cold_s": one.seconds,
    }


async def asked(daemon: Daemon, questions: list[tuple[str, tuple[object, ...]]]) -> tuple[float, int]:
    """Seconds until all rows have come, and how many there were."""
    wire = await Wire.connect(daemon.query_socket)
    begin, rows = time.perf_counter(), 0
    for command, words in questions:
        if command == "AGG":
            rows += len(await wire.call("SLURMJC.AGG", *map(str, words)))
            continue
        if await wire.call("SLURMJC.MATCH", "q", *map(str, words)) is None:
            continue
        while page := await wire.call("SLURMJC.FETCH", "q", 2000, "RECORDS"):
            rows += len(page)
    took = time.perf_counter() - begin
    await wire.close()
    return took, rows
