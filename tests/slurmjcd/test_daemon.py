# SPDX-License-Identifier: MIT
"""The daemon as a process: started, asked, killed, drained, reloaded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import MODULE, Daemon, RedisServer, wait_until
from tests.harness.paths import program
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire, text

MakeDaemon = Callable[..., Daemon]
MakeRedis = Callable[..., RedisServer]
EMBEDDED = {"embedded": {"module": str(MODULE)}}


def status(daemon: Daemon) -> dict[str, Any]:
    code, body = daemon.get("/readyz")
    report: dict[str, Any] = json.loads(body)
    return report | {"code": code}


async def fetch_jobs(daemon: Daemon) -> list[int]:
    """The job ids in the store, through query.sock."""
    wire = await Wire.connect(daemon.query_socket)
    try:
        found = await wire.call("SLURMJC.MATCH", "q")
        ids: list[int] = []
        while found is not None and (page := await wire.call("SLURMJC.FETCH", "q", 2000)):
            ids += [int(row[2]) for row in page]
        return ids
    finally:
        await wire.close()


def shipped(daemon: Daemon) -> bool:
    return bool(status(daemon)["components"]["spool"]["backlog_records"] == 0)


async def test_a_record_goes_in_and_comes_out_with_the_embedded_server(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings=EMBEDDED)
    wire = await Wire.connect(daemon.ingest_socket)
    assert await wire.put(1, job(1), job(2)) == 2
    wait_until(lambda: shipped(daemon), what="an empty spool")
    assert await fetch_jobs(daemon) == [1, 2]
    await wire.close()


async def test_jobs_are_there_after_a_restart_with_the_embedded_server(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings=EMBEDDED)
    wire = await Wire.connect(daemon.ingest_socket)
    await wire.put(1, *[job(number) for number in range(1, 51)])
    await wire.close()
    assert daemon.stop() == 0
    daemon.start()
    assert sorted(await fetch_jobs(daemon)) == list(range(1, 51))


async def test_the_embedded_server_is_started_again_when_it_dies_and_gone_when_the_daemon_dies(
    make_daemon: MakeDaemon,
) -> None:
    daemon = make_daemon(settings=EMBEDDED)
    first = status(daemon)["components"]["embedded"]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: status(daemon)["components"]["embedded"]["pid"] != first and daemon.ready(), what="another server"
    )
    second = status(daemon)["components"]["embedded"]["pid"]
    daemon.kill()
    wait_until(lambda: not Path(f"/proc/{second}").exists(), what="the end of the orphan")
    daemon.start()
    assert status(daemon)["status"] == "ok"


async def test_a_new_daemon_waits_for_the_server_that_the_killed_one_left(make_daemon: MakeDaemon) -> None:
    """Two servers must never write the same append-only file."""
    daemon = make_daemon(settings=EMBEDDED)
    left = status(daemon)["components"]["embedded"]["pid"]
    os.kill(left, signal.SIGSTOP)
    try:
        daemon.kill()
        daemon.start(ready=False)
        wait_until(lambda: "waiting for the server that still runs" in daemon.process.log_text(), what="the wait")
        assert status(daemon)["components"]["embedded"]["ok"] is False
    finally:
        os.kill(left, signal.SIGCONT)
    wait_until(daemon.ready, what="a server of its own")


async def test_killed_while_records_come_in_nothing_is_lost_or_twice(
    make_daemon: MakeDaemon, make_redis: MakeRedis
) -> None:
    """10,000 records; the daemon is killed again and again, and the sender resends what had no answer."""
    daemon = make_daemon(redis_address=make_redis().address)
    total, size, kills = 10_000, 50, 0
    acked = 0
    while acked < total:
        wire = await Wire.connect(daemon.ingest_socket)
        sent = acked
        try:
            for _ in range(20):
                if sent < total:
                    wire.send(
                        "SLURMJC.PUT",
                        "SPOOL",
                        "ring",
                        sent + 1,
                        "RECORDS",
                        *[job(n) for n in range(sent + 1, sent + size + 1)],
                    )
                    sent += size
            for _ in range((sent - acked) // size):
                if acked > (kills + 1) * 1100:
                    kills += 1
                    daemon.kill()
                reply = await wire.reply()
                assert isinstance(reply, int), reply
                acked += size
        except (EOFError, OSError):
            pass
        await wire.close()
        if not daemon.process.running:
            daemon.start()
    assert kills >= 5
    wait_until(lambda: shipped(daemon), what="an empty spool")
    assert sorted(await fetch_jobs(daemon)) == list(range(1, total + 1))


async def test_what_was_acked_arrives_even_if_the_daemon_was_killed_before_it_was_shipped(
    make_daemon: MakeDaemon, make_redis: MakeRedis
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)
    redis.stop()
    wait_until(lambda: status(daemon)["status"] == "degraded", what="the loss of Redis")
    wire = await Wire.connect(daemon.ingest_socket)
    assert await wire.put(1, *[job(number) for number in range(1, 101)]) == 100
    await wire.close()
    assert status(daemon) | {"components": 0, "version": 0} == {
        "ready": True,
        "status": "degraded",
        "components": 0,
        "version": 0,
        "code": 200,
    }
    daemon.kill()
    redis.start()
    daemon.start()
    wait_until(lambda: shipped(daemon), what="an empty spool")
    assert sorted(await fetch_jobs(daemon)) == list(range(1, 101))


async def test_sigterm_commits_and_ships_what_came(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)
    wire = await Wire.connect(daemon.ingest_socket)
    await wire.put(1, *[job(number) for number in range(1, 1001)])
    assert daemon.stop() == 0
    with redis.client() as client:
        assert client.execute_command("SLURMJC.MATCH", "job", "q") is not None
        info = client.execute_command("SLURMJC.INFO", "job")
    assert dict(zip(info[::2], info[1::2], strict=True))[b"jobs"] == 1000
    assert not daemon.ingest_socket.exists()
    with pytest.raises((EOFError, OSError)):
        await wire.call("PING")
    await wire.close()


async def test_sigterm_ends_although_redis_hangs(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address, settings={"daemon": {"drain_s": 0.5}})
    redis.process.send(signal.SIGSTOP)
    try:
        wire = await Wire.connect(daemon.ingest_socket)
        assert await wire.put(1, job(1)) == 1
        assert daemon.stop() == 0
        await wire.close()
    finally:
        redis.process.send(signal.SIGCONT)
    assert "not all was shipped within daemon.drain_s" in daemon.process.log_text()


async def test_sighup_takes_in_what_can_change_and_keeps_the_old_for_a_broken_file(
    make_daemon: MakeDaemon, make_redis: MakeRedis
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)
    daemon.write_conf({"query": {"page_rows": "many"}})
    daemon.process.send(signal.SIGHUP)
    wait_until(lambda: "the old configuration stays: " in daemon.process.log_text(), what="the refusal")
    assert "query.page_rows: should be a valid integer" in daemon.process.log_text()
    assert daemon.ready()
    daemon.write_conf({"query": {"connections_per_uid": 1}, "spool": {"max_bytes": 8192, "path": "/other/spool.db"}})
    conf = daemon.conf.read_text().replace("[spool]", "[spool]").replace('path = "/other/spool.db"\n', "")
    daemon.conf.write_text(conf + "[ingest]\nbatch_ms = 5\n")
    daemon.process.send(signal.SIGHUP)
    wait_until(lambda: "reload: configuration taken in" in daemon.process.log_text(), what="the reload")
    assert "at the next start: ingest.batch_ms" in daemon.process.log_text()
    first = await Wire.connect(daemon.query_socket)
    second = await Wire.connect(daemon.query_socket, hello=False)
    assert text(await second.reply()).startswith("LIMIT a user may have 1 connections")
    await first.close()
    await second.close()


def test_a_bug_ends_it_in_order_with_status_1(rundir: Path, make_redis: MakeRedis) -> None:
    """A task that ended is no reason to go on without it, nor to look as if all were well."""
    daemon = Daemon(rundir / "jc", redis_address=make_redis().address)
    program_at = daemon.process.argv.index(str(program("slurmjcd")))
    broken = (
        "from slurmjcd import cli; from slurmjcd.shipping import shipper; shipper.Shipper._session = None; cli.main()"
    )
    daemon.process.argv[program_at : program_at + 1] = [sys.executable, "-c", broken]
    daemon.process.start()
    assert daemon.process.wait() == 1
    log = daemon.process.log_text()
    assert "a bug in slurmjcd: shipper ended" in log
    assert log.endswith("slurmjcd: stopped because of a bug: shipper ended by itself, see the log\n")


async def test_two_daemons_on_one_machine(make_daemon: MakeDaemon) -> None:
    daemons = [make_daemon(name, settings=EMBEDDED) for name in ("a", "b")]
    for number, daemon in enumerate(daemons, 1):
        wire = await Wire.connect(daemon.ingest_socket)
        await wire.put(1, job(number))
        await wire.close()
    for number, daemon in enumerate(daemons, 1):
        wait_until(partial(shipped, daemon), what="an empty spool")
        assert await fetch_jobs(daemon) == [number]


async def test_a_second_daemon_in_the_same_place_is_refused(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    daemon = make_daemon(redis_address=make_redis().address)
    done = run_slurmjcd("run", "--config", daemon.conf)
    assert done.returncode == 1
    assert f"socket {daemon.ingest_socket}: another slurmjcd serves it" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert daemon.ready()


def run_slurmjcd(*args: Any, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("slurmjcd"), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | env,
        check=False,
    )


@pytest.fixture
def conf(rundir: Path) -> Daemon:
    """A configuration that is right, for a daemon that isn't started."""
    return Daemon(rundir / "jc", redis_address="unix:/nowhere/redis.sock")


def break_directory(daemon: Daemon) -> str:
    daemon.run_dir.rmdir()
    return f"ingest.socket, query.socket: directory {daemon.run_dir} doesn't exist: mkdir -p {daemon.run_dir}"


def break_permissions(daemon: Daemon) -> str:
    daemon.run_dir.chmod(0o777)
    return f"everyone may write to directory {daemon.run_dir}, so anyone could replace what is in it: chmod o-w"


def break_spool(daemon: Daemon) -> str:
    (daemon.state_dir / "spool.db").write_text("my notes")
    return "spool.db is no SQLite database: set spool.path to a file of slurmjcd's own"


def break_socket(daemon: Daemon) -> str:
    daemon.ingest_socket.write_text("")
    return f"socket {daemon.ingest_socket}: there is something there that is no socket: move it away"


def break_user(daemon: Daemon) -> str:
    daemon.write_conf({"daemon": {"slurm_user": "nosuchuser"}})
    return "daemon.slurm_user: there is no user 'nosuchuser' here: set it to SlurmUser of slurm.conf"


def break_secret(daemon: Daemon) -> str:
    secret = daemon.directory / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o644)
    daemon.write_conf({"redis": {"password_file": str(secret)}})
    return f"redis.password_file: others than its owner may read or change {secret}: chmod 600 {secret}"


def break_module(daemon: Daemon) -> str:
    daemon._redis_address = ""
    daemon.write_conf({"embedded": {"module": "/nowhere/slurm_jobcomp.so"}})
    return "embedded.module: /nowhere/slurm_jobcomp.so doesn't exist: install slurm_jobcomp.so there or"


def break_server(daemon: Daemon) -> str:
    daemon._redis_address = ""
    daemon.write_conf({"embedded": {"server": "no-such-server"}})
    return "embedded.server: no no-such-server found in PATH: install one, or set redis.address"


def break_port(daemon: Daemon) -> str:
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    HELD.append(holder)
    daemon.write_conf({"health": {"listen": f"127.0.0.1:{holder.getsockname()[1]}"}})
    return "can't be bound: Address already in use: choose another port"


HELD: list[socket.socket] = []


@pytest.mark.parametrize(
    "break_it",
    [
        break_directory,
        break_permissions,
        break_spool,
        break_socket,
        break_user,
        break_secret,
        break_module,
        break_server,
        break_port,
    ],
)
def test_a_start_that_cant_work_ends_with_one_clear_line(conf: Daemon, break_it: Callable[[Daemon], str]) -> None:
    message = break_it(conf)
    done = run_slurmjcd("run", "--config", conf.conf)
    while HELD:
        HELD.pop().close()
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("slurmjcd: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_check_config_says_right_or_what_is_wrong(conf: Daemon) -> None:
    done = run_slurmjcd("check-config", "--config", conf.conf)
    assert (done.returncode, done.stdout) == (0, f"{conf.conf}: right\n")
    done = run_slurmjcd("check-config", "--config", conf.conf, SLURMJCD_SPOOL__PATH="relative")
    assert done.returncode == 1
    assert done.stderr == f"slurmjcd: {conf.conf}: spool.path: must be an absolute path, not 'relative'\n"


def test_check_config_prints_a_sample_that_is_right(conf: Daemon) -> None:
    done = run_slurmjcd("check-config", "--print-default")
    conf.conf.write_text(done.stdout)
    done = run_slurmjcd(
        "check-config",
        "--config",
        conf.conf,
        SLURMJCD_DAEMON__RUN_DIR=str(conf.run_dir),
        SLURMJCD_DAEMON__STATE_DIR=str(conf.state_dir),
        SLURMJCD_DAEMON__SLURM_USER="root",
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_version() -> None:
    assert run_slurmjcd("version").stdout.startswith("slurmjcd ")


async def test_systemd_hears_ready_status_and_stopping_and_its_sockets_are_served(
    rundir: Path, make_redis: MakeRedis, conf: Daemon
) -> None:
    """The two sockets come by descriptor, as from socket units; messages go to a datagram socket, as to systemd."""
    conf._redis_address = make_redis().address
    conf.write_conf({})
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(rundir / "notify"))
    notify.settimeout(20)
    listeners = []
    for name in ("i", "q"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(rundir / name))
        listener.listen()
        listeners.append(listener)
    launcher = (
        "import os, sys; a, b = int(sys.argv[1]), int(sys.argv[2]);"
        "import fcntl; a, b = (fcntl.fcntl(x, fcntl.F_DUPFD, 20) for x in (a, b)); os.dup2(a, 3); os.dup2(b, 4);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='query:ingest');"
        "os.execv(sys.argv[3], sys.argv[3:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", launcher, *(str(listener.fileno()) for listener in reversed(listeners)),
         program("slurmjcd"), "run", "--config", str(conf.conf)],
        pass_fds=[listener.fileno() for listener in listeners], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"NOTIFY_SOCKET": str(rundir / "notify"), "WATCHDOG_USEC": "300000"},
    )  # fmt: skip
    try:
        heard = ""
        while heard.count("WATCHDOG=1") < 3 or "READY=1" not in heard:
            heard += notify.recv(4096).decode() + "\n"
        assert "STATUS=0 records taken, 0 waiting; " in heard
        wire = await Wire.connect(rundir / "i")
        assert await wire.put(1, job(1)) == 1
        await wire.close()
        asking = await Wire.connect(rundir / "q")
        assert await asking.call("PING") == b"PONG"
        await asking.close()
        assert not conf.ingest_socket.exists()
        process.terminate()
        while "STOPPING=1" not in heard:
            heard += notify.recv(4096).decode() + "\n"
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        for sock in (*listeners, notify):
            sock.close()


def test_metrics_and_health(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    daemon = make_daemon(redis_address=make_redis().address)
    assert daemon.get("/healthz")[0] == 200
    code, body = daemon.get("/metrics")
    assert code == 200
    for name in ("records_received_total", "spool_records", "redis_up 1.0", "build_info", "ingest_seconds_bucket"):
        assert f"slurmjcd_{name}" in body
    assert daemon.get("/nope")[0] == 404


async def test_a_question_after_redis_was_restarted_is_answered(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    """The connection that is kept for questions is gone then; whoever asks first must not be the one to learn it."""
    redis = make_redis(options={"appendonly": "yes", "appendfsync": "always"})
    daemon = make_daemon(redis_address=redis.address)
    wire = await Wire.connect(daemon.ingest_socket)
    assert await wire.put(1, job(1)) == 1
    wait_until(lambda: shipped(daemon), what="an empty spool")
    await wire.close()
    assert await fetch_jobs(daemon) == [1]
    redis.restart()
    asked = await Wire.connect(daemon.query_socket)
    assert await asked.call("SLURMJC.MATCH", "q") == b"job:mat:q"
    await asked.close()


async def test_a_full_disk_makes_it_unready_and_it_heals(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    daemon = make_daemon(
        redis_address=make_redis().address, settings={"spool": {"max_bytes": 4096, "replay_s": 0, "replay_bytes": 0}}
    )
    redis_gone = status(daemon)["components"]["redis"]["ok"]
    assert redis_gone
    wire = await Wire.connect(daemon.ingest_socket)
    number, reply = 0, 1
    while isinstance(reply, int):
        number += 1
        reply = await wire.put(number, job(number, work_dir="/" + "x" * 1000))
    assert text(reply).startswith("TRYAGAIN the spool has reached spool.max_bytes")

    async def taken() -> bool:
        return isinstance(await wire.put(number, job(number)), int)

    async with asyncio.timeout(30):
        while not await taken():
            await asyncio.sleep(0.1)
    await wire.close()
