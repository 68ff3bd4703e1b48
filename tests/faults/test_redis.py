# SPDX-License-Identifier: MIT
"""Redis refuses, forgets, or is not the one it was: records wait in the spool or are sent again."""

from __future__ import annotations

import contextlib
import json
import signal
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.faults import oracle
from tests.faults.world import World
from tests.harness import RedisServer, wait_until
from tests.harness.ports import free_ports

CALLS = 1500


@dataclass(frozen=True)
class Refusal:
    """A state in which Redis takes no records, how to get there and back."""

    begin: Callable[[World], None]
    end: Callable[[World], None]
    text: str  # in the daemon's status meanwhile


def config(**settings: str) -> Callable[[World], None]:
    def apply(world: World) -> None:
        with world.redis.client() as client:
            for name, value in settings.items():
                client.config_set(name.replace("_", "-"), value)

    return apply


def command(*words: str) -> Callable[[World], None]:
    def apply(world: World) -> None:
        with world.redis.client() as client:
            client.execute_command(*words)

    return apply


def make_snapshots_fail(world: World) -> None:
    """MISCONF: snapshots that can't be written make Redis refuse writes."""
    with world.redis.client() as client:
        client.config_set("dir", str(world.redis.directory))
        (world.redis.directory / "gone").mkdir()
        client.config_set("dir", str(world.redis.directory / "gone"))
        (world.redis.directory / "gone").rmdir()
        client.config_set("save", "3600 1")
        client.execute_command("SET", "x", "1")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed snapshot")


def make_snapshots_well(world: World) -> None:
    with world.redis.client() as client:
        client.config_set("dir", str(world.redis.directory))
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", what="a good snapshot")
        client.execute_command("DEL", "x")


def run_lua_for_long(world: World) -> None:
    """BUSY: a script that runs until it is killed."""

    def run() -> None:
        with world.redis.client() as client, contextlib.suppress(redis.RedisError):
            client.execute_command("EVAL", "while true do end", "0")

    config(busy_reply_threshold="50")(world)
    threading.Thread(target=run, daemon=True).start()

    def busy() -> bool:
        with world.redis.client() as client:
            try:
                client.ping()
            except redis.ResponseError as exc:
                return "BUSY" in str(exc)
            return False

    wait_until(busy, what="Redis to be busy")


REFUSALS = {
    "oom": Refusal(config(maxmemory="1"), config(maxmemory="0"), "maxmemory"),
    "readonly": Refusal(
        command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE"), "read only replica"
    ),
    "noreplicas": Refusal(config(min_replicas_to_write="1"), config(min_replicas_to_write="0"), "NOREPLICAS"),
    "misconf": Refusal(make_snapshots_fail, make_snapshots_well, "MISCONF"),
    "busy": Refusal(run_lua_for_long, command("SCRIPT", "KILL"), "BUSY"),
    "noperm": Refusal(
        command("ACL", "SETUSER", "default", "-slurmjc.put"),
        command("ACL", "SETUSER", "default", "+@all"),
        "no permissions",
    ),
    "noauth": Refusal(
        lambda world: set_password(world),
        lambda world: no_password(world),
        "NOAUTH|uthentication",
    ),
    "pause": Refusal(command("CLIENT", "PAUSE", "600000", "WRITE"), command("CLIENT", "UNPAUSE"), "imeout"),
}  # fmt: skip


def set_password(world: World) -> None:
    """New connections need one; the daemon's old one is ended."""
    with world.redis.client() as client:
        client.config_set("requirepass", "secret")
        client.client_kill_filter(_type="normal", skipme=True)


def no_password(world: World) -> None:
    with world.redis.client(password="secret") as client:
        client.config_set("requirepass", "")


@pytest.mark.parametrize("name", [pytest.param("oom", marks=pytest.mark.faults_fast), *list(REFUSALS)[1:]])
def test_a_refusal_of_redis_is_never_a_records_fault(make_world: Callable[..., World], name: str) -> None:
    """Held and tried again; the ring empties into the spool, nothing goes to quarantine, questions say why."""
    refusal = REFUSALS[name]
    world = make_world(settings={"redis": {"reply_s": 1.0}}, redis_options={"enable-protected-configs": "yes"})
    world.driver.start(2 * CALLS, rate=3000)
    world.driver.wait_calls(200)
    refusal.begin(world)
    world.driver.wait_calls(2 * CALLS)

    def spooled() -> bool:
        state = ready(world)["components"]
        wanted = any(text in str(state["redis"]["status"]) for text in refusal.text.split("|"))
        return wanted and len(oracle.spooled(world.daemon.state_dir / "spool.db")) == 2 * CALLS

    try:
        wait_until(spooled, what=lambda: f"all records in the spool and {refusal.text} in {ready(world)}")
    finally:
        refusal.end(world)
    world.check()


def ready(world: World) -> dict[str, Any]:
    return dict(json.loads(world.daemon.get("/readyz")[1]))


def test_loading_is_waited_for(make_world: Callable[..., World]) -> None:
    """A Redis that still reads its data at start answers LOADING."""
    world = make_world(redis_options={"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"})
    with world.redis.client() as client:
        client.execute_command("DEBUG", "POPULATE", "3000", "filler", "64")
        client.execute_command("BGREWRITEAOF")
        wait_until(
            lambda: (
                not client.info("persistence")["aof_rewrite_in_progress"]
                and not client.info("persistence")["aof_rewrite_scheduled"]
            ),
            what="the AOF to be written anew",
        )  # the filler is in the AOF's base now, so that loading takes seconds
    world.driver.start(CALLS, rate=1500)
    world.driver.wait_calls(200)
    world.redis.kill()
    world.redis.process.start()
    wait_until(lambda: "LOADING" in str(ready(world)) or world.redis.answers(), what="the daemon to see LOADING")
    world.redis.process.wait_ready(world.redis.answers, timeout_s=60)
    world.check()


# ---- a store that has gone back ----------------------------------------------------------------------------------


@pytest.mark.faults_fast
def test_flushall_is_repaired_from_the_spool(make_world: Callable[..., World]) -> None:
    world = make_world()
    fill(world)
    command("FLUSHALL")(world)
    world.check()


def fill(world: World, calls: int = CALLS) -> None:
    world.driver.start(calls)
    world.driver.wait_calls(calls)
    wait_until(lambda: world.stored_count() >= calls, what="records to arrive")


@pytest.mark.parametrize(
    "options",
    [
        {"appendonly": "yes", "appendfsync": "everysec"},
        {"appendonly": "yes", "appendfsync": "no"},
        {"appendonly": "no", "save": "3600 1"},
        {"appendonly": "no", "save": ""},
    ],
    ids=["everysec", "no fsync", "RDB only", "nothing"],
)  # fmt: skip
def test_redis_killed_with_less_than_full_persistence(
    make_world: Callable[..., World], options: dict[str, str]
) -> None:
    """What Redis forgot by its SIGKILL is sent again."""
    world = make_world(redis_options=options)
    world.driver.start(4000, rate=1500)
    for wanted in (700, 1800, 2600):
        world.driver.wait_calls(wanted)
        world.redis.kill()
        world.redis.start()
    world.check()


@pytest.mark.parametrize("cut", [1, 1000, 200_000])
def test_an_aof_that_lost_its_tail_is_repaired(make_world: Callable[..., World], cut: int) -> None:
    world = make_world()
    fill(world)
    world.redis.kill()
    aof = next((world.redis.directory / "appendonlydir").glob("*.incr.aof"))
    with aof.open("r+b") as file:
        file.truncate(max(0, aof.stat().st_size - cut))
    world.redis.start()
    assert world.stored_count() < CALLS, "the cut took nothing away"
    world.check()


@pytest.fixture
def make_replica(rundir: Path, stopper: ExitStack) -> Callable[..., RedisServer]:
    """A replica on TCP, which replication needs."""

    def make(world: World, **kwargs: Any) -> RedisServer:
        (port,) = free_ports(1)
        with world.redis.client() as client:
            client.config_set("bind", "127.0.0.1")
            client.config_set("port", port)
        replica = RedisServer(
            rundir / "replica", options={"appendonly": "yes", "replicaof": f"127.0.0.1 {port}"}, **kwargs
        )
        stopper.callback(replica.stop)
        replica.start()
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica's link")
        return replica

    return make


def test_failover_to_a_replica_that_lags(
    make_world: Callable[..., World], make_replica: Callable[..., RedisServer]
) -> None:
    """The replica stands still while records come, then takes the dead master's place: the spool fills the gap."""
    world = make_world()
    replica = make_replica(world)
    fill(world)
    with replica.client() as client:
        wait_until(lambda: oracle.watermarks(client), what="the replica to have records")
    replica.process.send(signal.SIGSTOP)
    with world.redis.client() as client:  # so much that the socket's buffers hold none of the records behind it
        for number in range(40):
            client.set("filler", bytes(1_000_000) + str(number).encode())
    world.driver.start(CALLS)
    world.driver.wait_calls(2 * CALLS)
    wait_until(lambda: world.stored_count() >= 2 * CALLS, what="records to arrive")
    world.redis.kill()
    replica.process.send(signal.SIGCONT)
    with replica.client() as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "down", what="the link to break")
        client.execute_command("REPLICAOF", "NO", "ONE")
        assert sum(oracle.watermarks(client).values()) < 2 * CALLS, "the replica did not lag"
        client.delete("filler")
    take_over(world, replica)
    world.check()


def take_over(world: World, replica: RedisServer) -> None:
    """The replica serves at the master's address."""
    world.redis.socket.unlink(missing_ok=True)
    world.redis.socket.symlink_to(replica.socket)
    world.redis.process = replica.process


def test_a_server_without_the_module_holds_the_spool(make_world: Callable[..., World], rundir: Path) -> None:
    world = make_world(redis_options={"appendonly": "no"})
    fill(world, 200)
    world.redis.stop()
    plain = RedisServer(world.redis.directory, module=None)
    plain.start()
    try:
        world.driver.start(CALLS)
        world.driver.wait_calls(200 + CALLS)
        wait_until(
            lambda: "lacks the module" in str(ready(world)),
            what=lambda: f"the daemon to say what is missing: {ready(world)}",
        )
    finally:
        plain.stop()
    world.check()


@pytest.fixture
def fake_store(rundir: Path) -> Iterator[FakeStore]:
    store = FakeStore(rundir / "fake.sock")
    store.start()
    yield store
    store.stop()


class FakeStore:
    """A server that answers whatever it is told to, for replies that no real one gives."""

    def __init__(self, path: Path) -> None:
        self.reply = b"+OK\r\n"
        self.asked = 0
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while self.request.recv(65536):
                        outer.asked += 1
                        self.request.sendall(outer.reply)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._server = Server(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def info(**changes: object) -> bytes:
    """SLURMJC.INFO as a module would say it, with changes."""
    fields = {"module_version": "9.9.9", "protocol": 1, "record": 1, "watermarks": [], **changes}
    parts = [b"*%d\r\n" % (2 * len(fields))]
    for name, value in fields.items():
        parts.append(b"$%d\r\n%s\r\n" % (len(name), name.encode()))
        if isinstance(value, int):
            parts.append(b":%d\r\n" % value)
        elif isinstance(value, list):
            parts.append(b"*%d\r\n" % len(value) + b"".join(value))
        else:
            parts.append(b"$%d\r\n%s\r\n" % (len(str(value)), str(value).encode()))
    return b"".join(parts)


HOSTILE = {
    "not RESP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a number": b":1\r\n",
    "nil": b"$-1\r\n",
    "large array": b"*1000000\r\n",
    "huge array": b"*2147483647\r\n",
    "huge arrays": b"*4000000\r\n" * 100,
    "names that are arrays": b"*4\r\n*0\r\n*0\r\n*0\r\n*0\r\n",
    "negative bulk": b"$-7\r\n",
    "a line without end": b"+" + b"x" * 200_000,
    "huge bulk": b"$9223372036854775807\r\n",
    "nested": b"*1\r\n" * 1000,
    "push": b">2\r\n+x\r\n+y\r\n",
    "error with newline": b"-ERR a\nb\r\n",
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "empty": b"",
    "future protocol": info(protocol=2),
    "no protocol": info(protocol="x"),
    "odd watermarks": info(watermarks=[b"$1\r\nx\r\n"]),
    "worded watermark": info(watermarks=[b"$1\r\nx\r\n", b"$1\r\ny\r\n"]),
    "then a text to PUT": info() + b"+STORED\r\n",
    "then nil to PUT": info() + b"$-1\r\n",
    "then OUTOFSEQ for ever": info() + b"-OUTOFSEQ 1\r\n",
    "then OUTOFSEQ huge": info() + b"-OUTOFSEQ 99999999999999999999999\r\n",
    "then BADRECORD out of range": info() + b"-BADRECORD 999999 x\r\n",
}


def test_replies_that_no_redis_gives_hold_the_spool(
    make_world: Callable[..., World], fake_store: FakeStore, rundir: Path
) -> None:
    """The daemon says what is wrong, keeps running, keeps taking records, and ships when a real server is back."""
    world = make_world(settings={"redis": {"reply_s": 0.5}})
    fill(world, 100)
    world.redis.socket.rename(rundir / "real.sock")
    world.redis.socket.symlink_to(rundir / "fake.sock")
    with redis.Redis(unix_socket_path=str(rundir / "real.sock")) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    for name, reply in HOSTILE.items():
        fake_store.reply, asked = reply, fake_store.asked
        wait_until(lambda asked=asked: fake_store.asked > asked + 1, what=f"the daemon to ask again after {name}")
        world.driver.start(20)
        assert world.daemon.process.running, name
        assert not ready(world)["components"]["redis"]["ok"], name
    world.redis.socket.unlink()
    (rundir / "real.sock").rename(world.redis.socket)
    world.check()


def test_an_evicting_policy_is_alarmed(make_world: Callable[..., World]) -> None:
    world = make_world(redis_options={"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"})
    wait_until(lambda: "noeviction" in world.daemon.process.log_text(), what="a warning")
