# SPDX-License-Identifier: MIT
"""The settings and the ACL file for a Redis of one's own, in a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from slurmjcd.store.shards import shard_prefixes
from tests.harness import MODULE, ROOT, RedisServer

FILES = ROOT / "systemd" / "redis"


def settings(directory: Path) -> Path:
    """redis.conf as a site would have it after following the file's first lines."""
    text = (FILES / "slurmjcd.conf").read_text()
    text = text.replace("/usr/lib/redis/modules/slurm_jobcomp.so", str(MODULE))
    text = text.replace("/run/redis/redis-server.sock", str(directory / "redis.sock"))
    conf = directory / "redis.conf"
    conf.write_text(f"port 0\ndir {directory}\n{text}")
    return conf


def acl(directory: Path) -> Path:
    """The ACL file after a site has put in its passwords: 'w' and 'r'."""
    text = (FILES / "slurmjcd.acl").read_text()
    for password in ("w", "r"):
        text = text.replace("0" * 64, hashlib.sha256(password.encode()).hexdigest(), 1)
    file = directory / "slurmjcd.acl"
    file.write_text(text)
    return file


def test_the_settings_are_taken(rundir: Path, make_redis: Callable[..., RedisServer]) -> None:
    (rundir / "redis").mkdir()
    server = make_redis(conf=settings(rundir / "redis"))
    client = server.client()
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert client.config_get("appendonly")["appendonly"] == "yes"
    assert [module[b"name"] for module in client.module_list()] == [b"slurm_jobcomp"]
    with pytest.raises(exceptions.ResponseError, match="not allowed"):
        client.execute_command("MODULE", "LOAD", str(MODULE))


def test_the_writer_writes_and_the_reader_only_reads(rundir: Path, make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis(options={"aclfile": str(acl(rundir))}, ready_without_login=True)
    writer, reader = (server.client(username=f"slurmjcd-{name}", password=name[0]) for name in ("writer", "reader"))
    assert writer.execute_command("SLURMJC.PUT", "job", "RECORDS", "") == 0
    assert reader.execute_command("SLURMJC.MATCH", "job", "q", "uid", "1") is None
    assert writer.execute_command("SLURMJC.MATCH", "job", "q", "uid", "1") is None
    for client in (writer, reader):
        assert client.xread({"job:events": "0-0"}) == []
        assert client.xrange("job:events") == []
    for words in (
        ("XADD", "job:events", "*", "a", "b"),
        ("XREAD", "STREAMS", "other:events", "0-0"),
        ("SLURMJC.PUT", "job", "RECORDS", ""),
        ("SLURMJC.TRIM", "job", "BEFORE", "1"),
        ("WAIT", "0", "1"),
    ):
        with pytest.raises(exceptions.NoPermissionError):
            reader.execute_command(*words)
    for refused in (("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*"), ("SLURMJC.PUT", "other", "RECORDS", "")):
        with pytest.raises(exceptions.NoPermissionError):
            writer.execute_command(*refused)
    _check_shards(writer, reader)
    with pytest.raises(exceptions.AuthenticationError):
        server.client().ping()


def _check_shards(writer: Any, reader: Any) -> None:
    """The same rights under the prefix of each shard, and the key that says how many there are."""
    assert writer.set("job:shards", "3", nx=True)
    assert reader.get("job:shards") == b"3"
    for prefix in shard_prefixes(b"job", 3):
        assert writer.execute_command("SLURMJC.PUT", prefix, "SPOOL", "s", 1, "LAST", 5, "RECORDS") == 0
        assert reader.execute_command("SLURMJC.MATCH", prefix, "q", "uid", "1") is None
        assert reader.xrange(prefix + b":events") == []
        for words in (("SLURMJC.PUT", prefix, "RECORDS", ""), ("GET", prefix + b":spools"), ("SET", prefix, "x")):
            with pytest.raises(exceptions.NoPermissionError):
                reader.execute_command(*words)
        for words in (("SET", prefix + b":spools", "x"), ("GET", prefix + b":spools")):
            with pytest.raises(exceptions.NoPermissionError):
                writer.execute_command(*words)
    with pytest.raises(exceptions.NoPermissionError):
        reader.set("job:shards", "6")
    with pytest.raises(exceptions.ResponseError, match="cluster support disabled"):
        reader.execute_command("READONLY")  # which a replica of a cluster wants to be told
    for client in (writer, reader):
        with pytest.raises(exceptions.ResponseError, match="cluster support disabled"):
            client.execute_command("CLUSTER", "SLOTS")
        with pytest.raises(exceptions.NoPermissionError):
            client.execute_command("CLUSTER", "RESET")


def test_nobody_can_log_in_before_passwords_are_set(rundir: Path, make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis(options={"aclfile": str(FILES / "slurmjcd.acl")}, ready_without_login=True)
    for user in ("slurmjcd-writer", "slurmjcd-reader"):
        for password in ("", "0" * 64):
            with pytest.raises((exceptions.AuthenticationError, exceptions.ResponseError)):
                server.client(username=user, password=password).ping()


def test_the_acl_file_names_every_command_of_the_module(make_redis: Callable[..., RedisServer]) -> None:
    """INDEX is for other clients, which write job hashes of their own; TAKE and TRIM are for the writer alone."""
    client = make_redis().client()
    commands = {
        name.decode().lower() for name in client.execute_command("COMMAND LIST", "FILTERBY", "MODULE", "slurm_jobcomp")
    }
    writer, reader = (set(line.split()) for line in (FILES / "slurmjcd.acl").read_text().splitlines()[1:])
    assert {f"+{name}" for name in commands - {"slurmjc.index"}} == {
        word for word in writer if word.startswith("+slurmjc.")
    }
    writes = {"+slurmjc.put", "+slurmjc.take", "+slurmjc.trim"}
    assert {word for word in writer if word.startswith("+slurmjc.")} - writes == {
        word for word in reader if word.startswith("+slurmjc.")
    }
