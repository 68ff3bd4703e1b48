# SPDX-License-Identifier: MIT
"""How the module presents itself to the server: ACL, key specs, cluster mode, loading."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.harness import RedisServer
from tests.harness.paths import CMAKE_BUILD, MODULE
from tests.harness.redis_server import SERVER
from tests.module.conftest import Store
from tests.module.records import job, pack

WRITES = {"put", "index", "take", "trim"}
READS = {"match", "fetch", "get", "agg", "info"}


def test_read_only_user_needs_only_read_access(server: RedisServer, store: Store) -> None:
    store.put(job(1))
    reads = [f"+slurmjc.{name}" for name in sorted(READS)]
    store.client.execute_command(
        "ACL", "SETUSER", "reader", "on", ">pw", "resetkeys", "%R~job*", "-@all", *reads, "+hello", "+client"
    )
    try:
        with server.client(username="reader", password="pw") as client:
            reader = Store(client)
            assert reader.ids("user", "alice") == [1]
            assert len(reader.call("GET", 1)) == 1
            assert reader.call("AGG", "BY", "user")[0][1] == 1
            for refused in (
                ("SLURMJC.PUT", "job", "RECORDS", pack(job(2))),
                ("SLURMJC.INFO", "other"),
                ("SLURMJC.TRIM", "job", "BEFORE", 1),
            ):
                with pytest.raises(NoPermissionError):
                    client.execute_command(*refused)
    finally:
        store.client.execute_command("ACL", "DELUSER", "reader")


def test_key_specs_let_a_writer_write_with_its_keys_only(server: RedisServer, store: Store) -> None:
    store.client.execute_command(
        "ACL", "SETUSER", "peeker", "on", ">pw", "resetkeys", "%R~job", "-@all", "+slurmjc.put", "+hello", "+client"
    )
    try:
        with server.client(username="peeker", password="pw") as client, pytest.raises(NoPermissionError):
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", pack(job(2)))
    finally:
        store.client.execute_command("ACL", "DELUSER", "peeker")


@pytest.mark.parametrize("name", sorted(WRITES | READS))
def test_command_info_and_docs(server: RedisServer, name: str) -> None:
    info = server.cli("COMMAND", "INFO", f"slurmjc.{name}").split()
    assert ("write" in info) == (name in WRITES)
    assert ("denyoom" in info) == (name in {"put", "index"})
    assert ("readonly" in info) == (name in READS)
    assert ("RO" in info) == (name in READS)
    assert ("RW" in info) == (name in WRITES)
    assert "summary" in server.cli("COMMAND", "DOCS", f"slurmjc.{name}")
    extra = {"fetch": ["1"], "agg": ["user"], "take": ["1"], "trim": ["1"], "info": []}.get(name, [])
    first = [] if name == "info" else ["a"]
    assert server.cli("COMMAND", "GETKEYS", f"SLURMJC.{name.upper()}", "job", *first, *extra).split() == ["job"]


def test_cluster_mode_wants_a_hash_tag(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis(
        "cluster", options={"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "port": free_port()}
    )
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        deadline = time.monotonic() + 30
        while "cluster_state:ok" not in server.cli("CLUSTER", "INFO"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for prefix in ("job", "job{}", "job{x", "job}x{"):
            with pytest.raises(redis.ResponseError, match=r"needs a hash tag in cluster mode, such as"):
                Store(client, prefix).put(job(1))
        tagged = Store(client, "{job}")
        assert tagged.put(job(1)) == 1
        assert tagged.ids("user", "alice") == [1]
        assert client.keys("*") == [b"{job}:seg:19000"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) % 50000 + 1024  # the bus port is 10000 higher


@pytest.mark.parametrize(
    "arguments",
    ["nonsense", "QUERY-LIFETIME", "QUERY-LIFETIME 0", "QUERY-LIFETIME 86401", "QUERY-LIFETIME 1 2", "LIFETIME 600"],
)
def test_arguments_at_load_that_are_refused(tmp_path: Path, arguments: str) -> None:
    done = subprocess.run(
        [
            SERVER,
            "--port",
            "0",
            "--unixsocket",
            tmp_path / "s",
            "--save",
            "",
            "--dir",
            tmp_path,
            "--loadmodule",
            MODULE,
            *arguments.split(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "slurm_jobcomp is not loaded: its only argument is QUERY-LIFETIME seconds, from 1 to 86400" in done.stdout


def test_a_server_that_is_too_old_is_refused() -> None:
    done = subprocess.run(
        [CMAKE_BUILD / "tests" / "module_old_server", MODULE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "slurm_jobcomp asks for API version 1",
        "warning: slurm_jobcomp is not loaded: it needs Redis 7.0 or later, or Valkey",
    ]
