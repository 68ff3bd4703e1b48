# SPDX-License-Identifier: MIT
"""Search and reports over HTTP: who gets in, what they get, and what it costs at most."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from slurmjcd.config.settings import Config
from slurmjcd.daemon import Daemon as InProcess
from slurmjcd.errors import ConfigError
from slurmjcd.health import jobpages
from slurmjcd.health.jobpages import JobPages, page_token
from slurmjcd.shipping.shippers import Shippers
from slurmjcd.spool.spool import Spool
from tests.harness import Daemon, RedisServer, run_dir, wait_until
from tests.harness.paths import program
from tests.slurmjcd.jobs import NOON, job
from tests.slurmjcd.wire import Wire

MakeDaemon = Callable[..., Daemon]
MakeRedis = Callable[..., RedisServer]
TOKEN = "a-token/that+nobody=knows"
EVIL = '<script>alert("1")</script>'
DAY = 86_400
# job id, changes; a week of them, and one that ran twice
JOBS: list[tuple[int, dict[str, Any]]] = [
    *((number, {"end": NOON - number * DAY // 4, "user": "ada" if number % 3 else "bob"}) for number in range(1, 29)),
    (29, {"end": NOON + 60, "name": EVIL, "work_dir": "/a&b", "extra": {"comment": "x" * 5000}}),
    (30, {"end": NOON + 100, "restart_count": 0, "state": 5}),
    (30, {"end": NOON + 200, "restart_count": 1, "state": 3}),
]


def write_token(path: Path, token: str) -> None:
    path.write_text(f"{token}\n")
    path.chmod(0o600)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that knows JOBS, keeps them private, and has a token."""
    with run_dir() as directory, ExitStack() as stack:
        redis = RedisServer(directory / "redis")
        stack.callback(redis.stop)
        redis.start()
        write_token(directory / "token", TOKEN)
        settings = {"access": {"private_data": True}, "health": {"token_file": str(directory / "token")}}
        daemon = Daemon(directory / "jc", redis_address=redis.address, settings=settings)
        daemon_settings = {"listen": f"unix:{daemon.health_socket}", "token_file": str(directory / "token")}
        daemon.write_conf({**settings, "health": daemon_settings})
        stack.callback(daemon.stop)
        daemon.start()
        records = [job(number, **{"start": changes["end"] - 50, **changes}) for number, changes in JOBS]
        with redis.client() as client:
            assert client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records) == len(records)
        yield daemon


def ask(daemon: Daemon, path: str, token: str | None = TOKEN) -> tuple[int, Any]:
    """Status and JSON."""
    status, headers, body = daemon.request(path, {"Authorization": f"Bearer {token}"} if token is not None else {})
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    return status, json.loads(body)


def slurmjc(daemon: Daemon, *words: str) -> Any:
    """What our own client says, as JSON."""
    argv = [program("slurmjc"), "--socket", str(daemon.query_socket), *words, "--json"]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)


# ---- who gets in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/token", "/api/jobs", "/api/report"])
@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}", TOKEN, "Bearer \u00e4" * 5,
    ],
)  # fmt: skip
def test_without_the_token_there_is_nothing(daemon: Daemon, path: str, header: str | None) -> None:
    given = {} if header is None else {"Authorization": header.encode("latin-1").decode("latin-1")}
    status, headers, body = daemon.request(path, given)
    assert status == 401
    assert headers["WWW-Authenticate"] == "Bearer"
    assert list(json.loads(body)) == ["error"]


def test_the_token_opens_each(daemon: Daemon) -> None:
    assert ask(daemon, "/api/token") == (200, {"token": True})
    for path in ("/api/jobs", "/api/report"):
        assert ask(daemon, path)[0] == 200


@pytest.mark.parametrize(
    "path", [f"/api/jobs?token={TOKEN}", f"/api/token?token={TOKEN}", f"/api/report?access_token={TOKEN}"]
)
def test_a_token_in_an_address_opens_nothing(daemon: Daemon, path: str) -> None:
    assert ask(daemon, path, None)[0] == 401


def test_a_daemon_without_a_token_has_no_jobs_to_show(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(redis_address=make_redis().address)
    for path in ("/api/token", "/api/jobs", "/api/report"):
        for token in (None, "", TOKEN, "None"):
            status, answer = ask(daemon, path, token)
            assert (status, answer["error"]) == (403, "search and reports are off: health.token_file names no token")
    body = daemon.get("/")[1]
    assert "Search and reports are off" in body
    assert 'id="token"' not in body


def test_reads_are_logged_and_the_token_is_not(daemon: Daemon) -> None:
    ask(daemon, "/api/jobs?user=ada%0aforged")
    ask(daemon, "/api/jobs", "not-the-token-at-all")
    log = daemon.process.log_text()
    assert "page: a token's holder sees jobs of all users: /api/jobs?user=ada%0aforged" in log
    assert "page: somebody came with a wrong token" in log
    assert TOKEN not in log
    assert "not-the-token-at-all" not in log


def test_a_reload_takes_a_new_token_and_keeps_the_old_one_for_a_bad_file(
    make_redis: MakeRedis, make_daemon: MakeDaemon, rundir: Path
) -> None:
    path = rundir / "token"
    write_token(path, TOKEN)
    settings = {"health": {"listen": f"unix:{rundir}/jc/health.sock", "token_file": str(path)}}
    daemon = make_daemon(redis_address=make_redis().address, settings=settings)
    assert ask(daemon, "/api/token")[0] == 200
    write_token(path, "short")
    os.kill(daemon.process.pid, signal.SIGHUP)
    wait_until(lambda: "the old configuration stays: health.token_file" in daemon.process.log_text(), what="a refusal")
    assert ask(daemon, "/api/token")[0] == 200
    write_token(path, TOKEN[::-1])
    os.kill(daemon.process.pid, signal.SIGHUP)
    wait_until(lambda: ask(daemon, "/api/token", TOKEN[::-1])[0] == 200, what="the new token")
    assert ask(daemon, "/api/token", TOKEN)[0] == 401
    assert "next start: health.token_file" not in daemon.process.log_text()


@pytest.mark.parametrize("text", ["x" * 19, "two words that are long enough", "\u00e4" * 30, "x" * 257, "ctrl\x01" * 9])
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused(tmp_path: Path, text: str) -> None:
    write_token(tmp_path / "token", text)
    with pytest.raises(ConfigError, match=r"health\.token_file: .* must hold 20 to 256 characters"):
        page_token(Config.model_validate({"health": {"token_file": str(tmp_path / "token")}}))


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    write_token(tmp_path / "token", TOKEN)
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        page_token(Config.model_validate({"health": {"token_file": str(tmp_path / "token")}}))


def test_systemd_may_bring_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_token(tmp_path / "page-token", TOKEN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert page_token(Config()) == TOKEN


# ---- what they get ---------------------------------------------------------------------------------------------------

ALL = f"starttime=uts{NOON - 400 * DAY}"


@pytest.mark.parametrize(
    ("query", "flags"),
    [
        (ALL, ["-S", f"uts{NOON - 400 * DAY}"]),
        ("jobs=3,7,30", ["-j", "3,7,30"]),
        ("jobs=30&duplicates=1", ["-j", "30", "-D"]),
        (f"{ALL}&user=bob", ["-S", f"uts{NOON - 400 * DAY}", "-u", "bob"]),
        (f"{ALL}&state=FAILED&duplicates=1", ["-S", f"uts{NOON - 400 * DAY}", "-s", "FAILED", "-D"]),
        (f"{ALL}&name={'%3Cscript%3Ealert(%221%22)%3C/script%3E'}", ["-S", f"uts{NOON - 400 * DAY}", "--name", EVIL]),
        (f"{ALL}&user=nobody-of-that-name", ["-S", f"uts{NOON - 400 * DAY}", "-u", "nobody-of-that-name"]),
        (
            f"starttime=uts{NOON - 2 * DAY}&endtime=uts{NOON - DAY}",
            ["-S", f"uts{NOON - 2 * DAY}", "-E", f"uts{NOON - DAY}"],
        ),
    ],
)
def test_a_search_finds_what_slurmjc_finds(daemon: Daemon, query: str, flags: list[str]) -> None:
    status, answer = ask(daemon, f"/api/jobs?{query}&limit=500")
    assert status == 200
    theirs = slurmjc(daemon, "jobs", "-a", *flags)
    for row in theirs["jobs"]:
        row["extra"] = {}
    assert answer["schema"] == theirs["schema"]
    assert answer["jobs"] == theirs["jobs"][::-1]  # the newest first
    assert answer["meta"]["truncated"] is False


@pytest.mark.parametrize("by", ["user", "state", "day", "user,state", "hour,account"])
def test_a_report_is_what_slurmjc_reports(daemon: Daemon, by: str) -> None:
    status, answer = ask(daemon, f"/api/report?by={by}&{ALL}&limit=500")
    assert status == 200
    assert answer == slurmjc(daemon, "report", *by.split(","), "-a", "-S", f"uts{NOON - 400 * DAY}")
    assert answer["groups"]


def test_by_may_be_given_twice(daemon: Daemon) -> None:
    assert ask(daemon, f"/api/report?by=user&by=state&{ALL}") == ask(daemon, f"/api/report?by=user,state&{ALL}")


def test_without_a_window_the_last_day_is_searched(daemon: Daemon) -> None:
    assert ask(daemon, "/api/jobs")[1]["jobs"] == []


def test_names_come_as_json_and_no_markup(daemon: Daemon) -> None:
    _, answer = ask(daemon, f"/api/jobs?{ALL}&limit=500")
    assert EVIL in [row["name"] for row in answer["jobs"]]
    # and nowhere else
    for path in ("/", "/api/status", "/api/history", "/metrics", "/readyz"):
        assert "alert(" not in daemon.get(path)[1]
        assert "ada" not in re.findall(r"\w+", daemon.get(path)[1])


# ---- what it costs at most -------------------------------------------------------------------------------------------


def test_the_newest_are_shown_and_all_are_counted(daemon: Daemon) -> None:
    status, answer = ask(daemon, f"/api/jobs?{ALL}&limit=5&duplicates=1")
    assert status == 200
    assert [row["job_id"] for row in answer["jobs"]] == [30, 30, 29, 1, 2]
    assert (answer["meta"]["truncated"], answer["meta"]["runs"]) == (True, len(JOBS))
    # of an hour that has more, too
    _, answer = ask(daemon, f"/api/jobs?{ALL}&limit=2&duplicates=1")
    assert [row["job_id"] for row in answer["jobs"]] == [30, 30]


def test_the_largest_groups_are_shown_and_the_others_counted(daemon: Daemon) -> None:
    _, answer = ask(daemon, f"/api/report?by=day&{ALL}&limit=3")
    assert len(answer["groups"]) == 3
    assert answer["meta"]["groups_left_out"] > 0


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/api/jobs?limit=501", "limit takes a number from 1 to 500"),
        ("/api/jobs?limit=0", "limit takes"),
        ("/api/jobs?limit=-1", "limit takes"),
        ("/api/jobs?limit=" + "9" * 3000, "limit takes"),
        ("/api/report?limit=501", "limit takes"),
        ("/api/jobs?nonsense=1", "unknown option 'nonsense', expected accounts, "),
        ("/api/jobs?viewer=0", "unknown option 'viewer'"),
        (f"/api/jobs?token={TOKEN}", "unknown option 'token'"),
        ("/api/jobs?associations=1", "unknown option 'associations'"),
        ("/api/jobs?starttime=soon", "'soon' is no time"),
        ("/api/jobs?state=DEAD", "unknown job state 'DEAD'"),
        ("/api/jobs?jobs=x", "job"),
        ("/api/jobs?user=12,zoe", "there is no user 'zoe'"),
        ("/api/report?by=script", "by takes one or two of user, account"),
        ("/api/report?by=user,state,qos", "by takes one or two of"),
        ("/api/jobs?nodelist=n[", "a bracket in a node list is not closed"),
    ],
)
def test_what_makes_no_sense_is_told(daemon: Daemon, path: str, why: str) -> None:
    status, answer = ask(daemon, path)
    assert status == 400, answer
    assert why in answer["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get(daemon: Daemon, method: str) -> None:
    assert daemon.request("/api/jobs", {"Authorization": f"Bearer {TOKEN}"}, method)[0] == 405


@pytest.fixture
async def pages(daemon: Daemon) -> AsyncIterator[JobPages]:
    """The pages over the same Redis, in this process."""
    found = re.search(r'address = "([^"]+)"', daemon.conf.read_text())
    assert found
    config = Config.model_validate({"redis": {"address": found[1]}})
    there = InProcess(config, lambda: config)
    pages = JobPages(there)
    pages.set_token(TOKEN)
    yield pages
    await there.store.close()


async def answered(pages: JobPages, path: str) -> tuple[int, str]:
    answer = await pages.pages["/api/jobs"](make_mocked_request("GET", path, {"Authorization": f"Bearer {TOKEN}"}))
    return answer.status, str(answer.text)


async def test_an_hour_with_too_many_jobs_is_refused_before_they_are_read(
    pages: JobPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/jobs?{ALL}&limit=1"
    monkeypatch.setattr(jobpages, "_SCAN_MAX", 3)
    assert (await answered(pages, path))[0] == 200  # three runs in the last hour
    monkeypatch.setattr(jobpages, "_SCAN_MAX", 2)
    status, text = await answered(pages, path)
    assert (status, "narrow the question" in text) == (400, True)


async def test_a_store_that_lost_jobs_and_gets_them_again_is_not_asked(pages: JobPages, rundir: Path) -> None:
    there = pages._daemon
    spool = await Spool.open(rundir / "spool.db", max_bytes=100_000, replay_s=0, replay_bytes=0)
    there.shipper = Shippers(spool, there.store, there.config.redis, there.metrics)
    assert (await answered(pages, "/api/jobs"))[0] == 200
    there.shipper.each[0]._lost_up_to = 7
    status, text = await answered(pages, "/api/jobs")
    assert (status, "7 records are to come" in text) == (503, True)
    await spool.close()


async def test_redis_that_is_away_is_an_error_and_no_empty_list(
    make_redis: MakeRedis, make_daemon: MakeDaemon, rundir: Path
) -> None:
    write_token(rundir / "token", TOKEN)
    settings = {"health": {"listen": f"unix:{rundir}/jc/health.sock", "token_file": str(rundir / "token")}}
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address, settings=settings)
    wire = await Wire.connect(daemon.ingest_socket)
    await wire.put(1, job(1))
    await wire.close()
    redis.stop()
    status, answer = await asyncio.to_thread(ask, daemon, "/api/jobs")
    assert status == 503
    assert "Redis" in answer["error"]
