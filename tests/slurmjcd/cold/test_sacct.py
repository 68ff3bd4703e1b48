# SPDX-License-Identifier: MIT
"""The real sacct -c over two years with a week in Redis: each row as it was stored, whatever the time zone.

Jobs end where something could go wrong: a second around each midnight, UTC and local, and around the hours at which
clocks were changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.harness import Daemon, RedisServer
from tests.module.records import Job, completion, job
from tests.slurmjcd.cold.conftest import Store, write_files
from tests.slurmjcd.cold.test_daemon import sacct, settings

DAY_S = 86_400
HOUR_S = 3600
YEARS_S = 2 * 365 * DAY_S
HOT_DAYS = 7
ZONE = "Europe/Berlin"
# not submit, for which sacct -c prints the start
COLUMNS = (
    "jobid,jobname,user,uid,group,account,partition,state,exitcode,eligible,start,end,elapsed,nnodes,ncpus,nodelist,"
    "workdir"
)
STATES = {3: "COMPLETED", 5: "FAILED", 6: "TIMEOUT"}


def offset_s(moment: int, zone: ZoneInfo) -> float:
    found = datetime.fromtimestamp(moment, zone).utcoffset()
    assert found is not None
    return found.total_seconds()


def changes(first: int, last: int, zone: ZoneInfo) -> Iterator[int]:
    """When clocks were changed, which is at full hours."""
    for hour in range(first // HOUR_S, last // HOUR_S):
        if offset_s(hour * HOUR_S, zone) != offset_s(hour * HOUR_S - 1, zone):
            yield hour * HOUR_S


def midnights(moment: int, zone: ZoneInfo) -> list[datetime]:
    """Of that local day, the one before and the two behind."""
    local = datetime.fromtimestamp(moment, zone).replace(hour=0, minute=0, second=0)
    return [(local + timedelta(days=days)) for days in (-1, 0, 1, 2)]


def jobs_of(now: int, zone: ZoneInfo) -> list[Job]:
    """Over two years, in order of completion."""
    moments = {now - days * DAY_S - 60 for days in range(30, YEARS_S // DAY_S, 30)}
    for change in changes(now - YEARS_S, now, zone):
        around = [change, *(int(midnight.timestamp()) for midnight in midnights(change, zone))]
        around += [midnight // DAY_S * DAY_S for midnight in around]
        moments |= {moment + second for moment in around for second in (-1, 0, 1, HOUR_S)}
    days = range(now // DAY_S - HOT_DAYS - 2, now // DAY_S + 1)
    moments |= {day * DAY_S + second for day in days for second in (-1, 0, 1)}
    made = []
    for number, end in enumerate(sorted(moments), 1):
        ran_s, state = [600, HOUR_S, 3 * DAY_S][number % 3], list(STATES)[number % 5 % 3]
        made.append(
            job(
                number, end, submit=end - ran_s - 60, eligible=end - ran_s - 30, start=end - ran_s, state=state,
                exit_code=256 if state == 5 else 0, name=f"job {number}", node_count=1 + number % 3, cpu_count=number,
                nodes=f"n[{number}-{number + number % 3}]" if number % 3 else f"n{number}", uid=1000 + number % 7,
                user=f"user{number % 7}", account=f"acct{number % 4}", work_dir=f"/home/user{number % 7}",
            )
        )  # fmt: skip
    return sorted(made, key=completion)


def shown(record: Job, zone: ZoneInfo) -> list[str]:
    """A row as sacct prints it."""

    def local(name: str) -> str:
        return datetime.fromtimestamp(record[name], zone).strftime("%Y-%m-%dT%H:%M:%S")

    days, rest = divmod(record["end"] - record["start"], DAY_S)
    elapsed = (f"{days}-" if days else "") + time.strftime("%H:%M:%S", time.gmtime(rest))
    return [
        *(str(record[name]) for name in ("job_id", "name", "user", "uid", "group", "account", "partition")),
        STATES[record["state"]], f"{record['exit_code'] >> 8}:0", *map(local, ("eligible", "start", "end")),
        elapsed, *(str(record[name]) for name in ("node_count", "cpu_count", "nodes", "work_dir")),
    ]  # fmt: skip


@pytest.mark.parametrize("zone", [ZoneInfo(ZONE), ZoneInfo("UTC")], ids=str)
def test_each_row_of_two_years_as_it_was_stored(
    make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon], tmp_path: Path, zone: ZoneInfo
) -> None:
    server, files, now = make_redis(), tmp_path / "files", int(time.time())
    files.mkdir()
    stored = [record for record in jobs_of(now, ZoneInfo(ZONE)) if record["end"] <= now]
    hot_from = now // DAY_S - HOT_DAYS
    hot = [record for record in stored if record["end"] // DAY_S >= hot_from]
    with server.client() as client:
        Store(client).put(*hot)
    write_files(files, stored[: -len(hot)])
    daemon = make_daemon(redis_address=server.address, settings=settings(files, after_days=HOT_DAYS))
    site = tmp_path / "site"

    def asked(*words: str) -> list[list[str]]:
        return sacct(site, daemon, *words, columns=COLUMNS, zone=str(zone))

    assert asked("-S", "now-750days", "-E", "now") == [shown(record, zone) for record in stored]
    marks = {midnight for change in changes(now - YEARS_S, now, ZoneInfo(ZONE)) for midnight in midnights(change, zone)}
    marks |= set(midnights((hot_from + 1) * DAY_S, zone))
    for begin in sorted(marks):
        end = begin + timedelta(days=1)  # of the wall's clock
        window = ("-S", f"{begin:%Y-%m-%dT%H:%M:%S}", "-E", f"{end:%Y-%m-%dT%H:%M:%S}")
        since, until = begin.timestamp(), end.timestamp()
        inside = [record for record in stored if record["end"] >= since and record["eligible"] < until]
        assert asked(*window) == [shown(record, zone) for record in inside], window
        failed = [record for record in stored if since <= record["end"] <= until and record["state"] == 5]
        assert asked(*window, "-s", "F") == [shown(record, zone) for record in failed], window
    one = stored[len(stored) // 3]
    assert asked("-j", str(one["job_id"])) == [shown(one, zone)]
