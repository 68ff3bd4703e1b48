# SPDX-License-Identifier: MIT
"""A user without privilege against a running daemon: nothing is learnt, taken, broken or filled up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import protocol
from tests.harness import Daemon, RedisServer, wait_until
from tests.harness.process import Process
from tests.security.hostile import ALICE, BOB, MALLORY, PYTHON, Attack, Probe, descriptors_of, rss_mib, siege
from tests.slurmjcd.jobs import NOON, job

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

JOBS = 4000
MIB = 1024 * 1024


@dataclass
class Target:
    """A daemon under private data with jobs of Alice and Bob."""

    daemon: Daemon
    redis: RedisServer
    directory: Path

    def attack(self, uid: int, name: str, options: Any = None, path: Path | None = None) -> dict[str, Any]:
        return Attack(self.directory, uid, name, path or self.daemon.query_socket, options).result()

    def ask(self, uid: int, *requests: list[str]) -> list[Any]:
        found = self.attack(uid, "ask", list(requests))
        assert found["uid"] == uid
        return list(found["replies"])


@pytest.fixture
def target(rundir: Path, make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]) -> Target:
    redis = make_redis()
    with redis.client() as client:
        for first in range(1, JOBS, 500):
            records = [
                job(n, uid=(ALICE, BOB)[n % 2], end=NOON + n, work_dir=f"/home/{n}/" + "x" * 500)
                for n in range(first, first + 500)
            ]  # fmt: skip
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records)
    daemon = make_daemon(redis_address=redis.address, settings={"access": {"private_data": True}})
    return Target(daemon, redis, rundir)


# ---- whose rows ------------------------------------------------------------------------------------------------------

QUESTIONS: list[list[list[str]]] = [
    [["SLURMJC.MATCH", "q", *words], ["SLURMJC.FETCH", "q", "10000", *form]]
    for words in (
        [], ["uid", str(ALICE)], ["uid", f"{MALLORY},{ALICE}"], ["uid", str(ALICE), "uid", str(MALLORY)],
        ["UID", str(ALICE)], ["user", "ada"], ["gid", "100"], ["job", "1-4000"], ["account", "physics"],
        ["state", "3"], ["node", "n1"], ["start", "0", "end", "9999999999"], ["partition", "batch"], ["limit", "5"],
        ["viewer", str(ALICE)], ["viewer", str(MALLORY), "viewer_account", "physics"], ["uid", ""],
        ["uid", f"{ALICE}\r\n*1\r\n"], ["name", "job1"], ["qos", "normal"], ["cluster", "c1"], ["exit", "0"],
    )
    for form in ([], ["RECORDS"])
]  # fmt: skip


def test_no_command_shows_what_is_others(target: Target) -> None:
    for question in QUESTIONS:
        match, fetch = target.ask(MALLORY, *question)
        assert match is None or "error" in match, question
        assert fetch == [] or "error" in fetch, question
    singles = [["SLURMJC.GET", "1"], ["SLURMJC.AGG", "BY", "user"], ["SLURMJC.AGG", "BY", "user", "uid", str(ALICE)]]
    assert target.ask(MALLORY, *singles) == [[], [], []]
    (info,) = target.ask(MALLORY, ["SLURMJC.INFO"])
    assert set(info[::2]) == {"module_version", "protocol", "record", "server", "server_version", "role"}
    pages = target.ask(ALICE, ["SLURMJC.MATCH", "q"], *[["SLURMJC.FETCH", "q", "1000", "RECORDS"]] * 40)[1:]
    assert sum(len(page) for page in pages if isinstance(page, list)) == JOBS // 2
    assert target.ask(ALICE, ["SLURMJC.AGG", "BY", "user"])[0][0][:2] == ["ada", JOBS // 2]


def test_another_users_query_cant_be_fetched_from(target: Target) -> None:
    """Root has one open; Mallory knows its name, the prefix and how such names are made."""
    with socket.socket(socket.AF_UNIX) as root:
        root.connect(str(target.daemon.query_socket))
        root.sendall(protocol.command("SLURMJC.HELLO", 1, "test/1") + protocol.command("SLURMJC.MATCH", "mine"))
        wait_until(lambda: root.recv(65536).endswith(b"job:mat:mine\r\n"), what="the query")
        for guess in ("mine", "job:mat:mine", "mat:mine", "0" * 32, "f" * 32, "q", "*", ""):
            (reply,) = target.ask(MALLORY, ["SLURMJC.FETCH", guess, "10", "RECORDS"])
            assert reply["error"].startswith(("NOQUERY", "ERR a query id")), guess
        root.sendall(protocol.command("SLURMJC.FETCH", "mine", 1))
        assert root.recv(65536).startswith(b"*1\r\n*28\r\n")


def test_other_commands_are_refused(target: Target) -> None:
    words = [
        ["SLURMJC.PUT", "SPOOL", "s", "1", "RECORDS", "x"], ["SLURMJC.TRIM", "BEFORE", "9999999999"], ["FLUSHALL"],
        ["SLURMJC.RING", "s", "ATTEMPTED", "1", "DROPPED", "0", "SPILLED", "0"], ["SLURMJC.INDEX", "1"], ["KEYS", "*"],
        ["CONFIG", "GET", "requirepass"], ["AUTH", "x"], ["EVAL", "return 1", "0"], ["MONITOR"], ["SUBSCRIBE", "x"],
    ]  # fmt: skip
    assert all("unknown command" in reply["error"] for reply in target.ask(MALLORY, *words))


def test_reading_others_jobs_is_logged(target: Target) -> None:
    target.ask(0, ["SLURMJC.MATCH", "q", "user", "ada\n\x1b[2J<0>fake"], ["SLURMJC.GET", "5"])
    lines = target.daemon.process.log_text().splitlines()
    seen = [line.split("query: ", 1)[1] for line in lines if "query: uid 0 sees" in line]
    assert seen == [
        "uid 0 sees jobs of all users: SLURMJC.MATCH q user ada | \\x1b[2J<0>fake",
        "uid 0 sees jobs of all users: SLURMJC.GET 5",
    ]
    target.ask(ALICE, ["SLURMJC.MATCH", "q"])
    assert f"uid {ALICE} sees" not in target.daemon.process.log_text()


def test_a_reload_that_makes_data_private_ends_queries_that_saw_more(target: Target) -> None:
    daemon = target.daemon
    daemon.write_conf({"access": {"private_data": False}})
    daemon.process.send(signal.SIGHUP)
    wait_until(lambda: "configuration taken in" in daemon.process.log_text(), what="the reload")
    alice = subprocess.Popen(
        ["setpriv", "--reuid", str(ALICE), "--regid", str(ALICE), "--clear-groups", PYTHON, "-c", _TWO_STEPS,
         str(daemon.query_socket)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert alice.stdin is not None
    assert alice.stdout is not None
    assert "*1" in alice.stdout.readline()
    daemon.write_conf({"access": {"private_data": True}})
    daemon.process.send(signal.SIGHUP)
    wait_until(lambda: daemon.process.log_text().count("configuration taken in") == 2, what="the second reload")
    alice.stdin.write("\n")
    assert "NOPERM what you may see has changed" in alice.stdout.readline()
    alice.communicate()


_TWO_STEPS = r"""
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def say(*w): s.sendall(b"*%d\r\n" % len(w) + b"".join(b"$%d\r\n%b\r\n" % (len(x), x) for x in w))
say(b"SLURMJC.HELLO", b"1", b"x/1"); s.recv(65536)
say(b"SLURMJC.MATCH", b"q"); s.recv(65536)
say(b"SLURMJC.FETCH", b"q", b"1"); print(repr(s.recv(65536)), flush=True)
sys.stdin.readline()
say(b"SLURMJC.FETCH", b"q", b"1"); print(repr(s.recv(65536)), flush=True)
"""


# ---- files and processes ---------------------------------------------------------------------------------------------


def test_sockets_files_and_processes_are_out_of_reach(target: Target) -> None:
    daemon = target.daemon
    secret = daemon.directory / "secret"
    secret.write_text("password")
    secret.chmod(0o600)
    options = {
        "run_dir": str(daemon.run_dir), "state_dir": str(daemon.state_dir), "pid": daemon.process.pid,
        "secret": str(secret), "redis": str(target.redis.socket),
    }  # fmt: skip
    assert target.attack(MALLORY, "files", options)["went"] == []
    assert target.ask(ALICE, ["PING"]) == ["PONG"]


def test_descriptors_that_are_passed_are_not_kept(target: Target) -> None:
    before = descriptors_of(target.daemon.process.pid)
    assert target.attack(MALLORY, "descriptors", {"times": 50})["replies"] == ["PONG"] * 50
    wait_until(lambda: descriptors_of(target.daemon.process.pid) <= before, what="no more descriptors than before")


# ---- too much of it --------------------------------------------------------------------------------------------------

HEADS = {
    "a string of 300 MB": f"*1\r\n${300 * MIB}\r\n",
    "a string that is never ended": "*1\r\n$",
    "an array of 10^9": "*1000000000\r\n",
    "as many strings as fit": "*4096\r\n" + "$1\r\nx\r\n" * 4095 + "$500000\r\n",
    "the length of an array without end": "*" + "1" * 100,
    "an inline command": "GET ",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_request_of_300_mb_is_cut_and_costs_no_memory(target: Target, head: str) -> None:
    pid = target.daemon.process.pid
    before = rss_mib(pid)
    found = target.attack(MALLORY, "huge", {"head": head, "bytes": 300 * MIB})
    assert found["sent"] < 4 * MIB
    assert rss_mib(pid) < before + 16
    assert target.ask(ALICE, ["PING"]) == ["PONG"]


@pytest.mark.parametrize(
    "head", ["GET /metrics HTTP/1.1\r\nX: ", "GET /metrics HTTP/1.1\r\n" + "X: y\r\n" * 1000, "GET /"],
    ids=["header", "headers", "line"],
)  # fmt: skip
def test_an_http_request_of_300_mb_is_cut_and_costs_no_memory(target: Target, head: str) -> None:
    pid = target.daemon.process.pid
    before = rss_mib(pid)
    found = target.attack(MALLORY, "huge", {"head": head, "bytes": 300 * MIB}, path=target.daemon.health_socket)
    assert found["sent"] < 8 * MIB
    assert rss_mib(pid) < before + 16
    assert target.daemon.get("/healthz")[0] == 200


def test_a_thousand_http_connections_that_say_nothing_end_by_themselves(target: Target) -> None:
    pid = target.daemon.process.pid
    before = descriptors_of(pid)
    options = {"seconds": 3, "connections": 1000, "hold": False, "send": []}
    flood = Attack(target.directory, MALLORY, "flood", target.daemon.health_socket, options)
    most = 0
    while flood.running:
        most = max(most, descriptors_of(pid))
    assert flood.result()["tried"] > 100
    assert before + 10 < most <= before + 34
    wait_until(lambda: target.daemon.get("/healthz")[0] == 200, what="an answer")


def test_wrong_requests_fill_no_log_and_forge_no_line(target: Target) -> None:
    before = len(target.daemon.process.log_text())
    found = target.attack(MALLORY, "bad", {"seconds": 20, "requests": 20_000})
    assert found["answered"] >= 20_000
    assert all(text.startswith(("-ERR", "-NOQUERY")) for text in found["texts"])
    log = target.daemon.process.log_text()
    assert len(log) < before + 10_000
    assert all(line[:2] == "20" and line.isprintable() for line in log.splitlines())


def test_questions_leave_descriptors_for_records(
    rundir: Path, make_redis: Callable[..., RedisServer], stopper: ExitStack
) -> None:
    """With room for 250 descriptors in all, and 1,000 connections that ask."""
    settings = {"query": {"connections": 1000, "connections_per_uid": 1000, "connections_per_uid_s": 10_000}}
    daemon = Daemon(rundir / "jc", redis_address=make_redis().address, settings=settings)
    daemon.process = Process(["prlimit", "--nofile=250:250", *_command(daemon)], log=daemon.directory / "slurmjcd.log")
    stopper.callback(daemon.stop)
    daemon.start()
    assert "the limit of descriptors has room for 48: raise LimitNOFILE=" in daemon.process.log_text()
    options = {"seconds": 4, "connections": 1000, "hold": True, "send": [["SLURMJC.HELLO", "1", "x/1"]]}
    flood = Attack(rundir, MALLORY, "flood", daemon.query_socket, options)
    wait_until(lambda: _connections(daemon) == 48, what="all that may ask")
    with Probe(daemon.ingest_socket) as probe:
        found = flood.result()
    assert found["held"] == 48
    assert found["texts"] == ["-LIMIT query.sock has its 48 connections already"]
    assert len(probe.ack_s) > 10


def _command(daemon: Daemon) -> list[str]:
    return daemon.process.argv[daemon.process.argv.index("--") + 1 :]


REFUSALS = {
    "-LIMIT a user may connect 100 times a second",
    "-LIMIT a user may have 16 connections to query.sock",
    "-LIMIT query.sock has its 512 connections already",
    "BlockingIOError",
    "ConnectionResetError",
    "",
}


def test_under_siege_records_are_taken_and_questions_answered(target: Target, stopper: ExitStack) -> None:
    daemon, pid = target.daemon, target.daemon.process.pid
    attacks = siege(target.directory, daemon.query_socket, seconds=300, uids=30, requests=10**9, told=True)
    for attack in attacks:
        stopper.callback(attack.stop)
    with Probe(daemon.ingest_socket) as probe:
        wait_until(lambda: _connections(daemon) >= 400, what="a crowd", timeout_s=60)
        wait_until(lambda: _answered(target), what="an answer to somebody else", timeout_s=60)
        results = [attack.result() for attack in attacks]
    floods = results[:30]
    assert sum(found["tried"] for found in floods) >= 9000
    assert results[30]["answered"] > 1000
    assert max(found["held"] for found in floods) <= 17
    assert {text for found in floods for text in found["texts"]} <= REFUSALS
    assert len(probe.ack_s) > 50
    assert rss_mib(pid) < 256
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(daemon.ingest_socket))
    wait_until(lambda: _connections(daemon) < 20, what="the crowd's end", timeout_s=40)
    _, rows = target.ask(ALICE, ["SLURMJC.MATCH", "q", "job", "2"], ["SLURMJC.FETCH", "q", "10", "RECORDS"])
    assert len(rows) >= 1
    assert "a bug in slurmjcd" not in daemon.process.log_text()
    assert "Traceback" not in daemon.process.log_text()


def _answered(target: Target) -> bool:
    """Whether a new connection gets its own rows."""
    replies = target.ask(ALICE, ["SLURMJC.MATCH", "q", "job", "2"], ["SLURMJC.FETCH", "q", "10", "RECORDS"])
    return len(replies) == 2 and isinstance(replies[1], list) and len(replies[1]) == 1


def _connections(daemon: Daemon) -> int:
    return int(json.loads(daemon.get("/readyz")[1])["components"]["query"]["connections"])
