# SPDX-License-Identifier: MIT
"""slurmjc doctor against a real daemon and Redis: one fault is planted at a time, and found with its fix."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slurmjcd import configfile
from slurmjcd.client.doctor import doctor as command
from slurmjcd.config import Config, RedisSection
from slurmjcd.doctor import machine
from slurmjcd.doctor.redis import transport
from tests.harness import MODULE, ROOT, Daemon, RedisServer
from tests.harness.paths import program

MakeRedis = Callable[..., RedisServer]
MakeDaemon = Callable[..., Daemon]
GOOD = {"appendonly": "yes", "propagation-error-behavior": "panic-on-replicas"}


def doctor(daemon: Daemon, *words: str, prefix: tuple[str, ...] = ()) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and findings."""
    done = subprocess.run(
        [*prefix, program("slurmjc"), "doctor", "--config", str(daemon.conf), "--json", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert document["schema"] == "slurmjc.doctor/1"
    return done.returncode, document["findings"]


def wrong(findings: list[dict[str, Any]], *, kernel: bool = False) -> list[tuple[str, str]]:
    """(check, level) of what is not well; the kernel of whoever runs the tests is theirs."""
    return [
        (found["check"], found["level"])
        for found in findings
        if found["level"] != "ok" and (kernel or found["check"] not in ("huge pages", "overcommit", "slurm"))
    ]  # fmt: skip


def texts(findings: list[dict[str, Any]], check: str) -> str:
    return " | ".join(f"{found['text']} fix: {found['fix']}" for found in findings if found["check"] == check)


@pytest.fixture
def acl(rundir: Path) -> dict[str, str]:
    """Options of a Redis with our two users, whose passwords are in files beside."""
    text = (ROOT / "systemd" / "redis" / "slurmjcd.acl").read_text()
    for user in ("w", "r"):
        text = text.replace("0" * 64, hashlib.sha256(user.encode()).hexdigest(), 1)
        (rundir / user).write_text(user)
        (rundir / user).chmod(0o600)
    (rundir / "acl").write_text(text)
    return {"aclfile": str(rundir / "acl")}


def login(rundir: Path) -> dict[str, str]:
    return {
        "user": "slurmjcd-writer", "password_file": str(rundir / "w"),
        "reader_user": "slurmjcd-reader", "reader_password_file": str(rundir / "r"),
    }  # fmt: skip


def test_nothing_is_wrong_with_what_the_files_make(
    rundir: Path, make_redis: MakeRedis, make_daemon: MakeDaemon, acl: dict[str, str]
) -> None:
    redis = make_redis(options={**GOOD, **acl}, ready_without_login=True)
    daemon = make_daemon(redis_address=redis.address, settings={"redis": login(rundir)})
    status, findings = doctor(daemon)
    assert (status, wrong(findings)) == (0, [])
    assert {found["check"] for found in findings} >= {
        "configuration", "sockets", "privacy", "redis", "module", "eviction", "persistence", "propagation",
        "transport", "ACL", "daemon",
    }  # fmt: skip


def test_the_daemons_own_redis_is_well(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings={"embedded": {"module": str(MODULE)}})
    status, findings = doctor(daemon)
    assert (status, [entry for entry in wrong(findings) if entry[1] == "error"]) == (0, [])


PLANTED = [
    ({"maxmemory-policy": "allkeys-lru"}, "eviction", "error", "would delete whole days"),
    ({"appendonly": "no"}, "persistence", "error", "append-only file is off"),
    ({"appendfsync": "no"}, "persistence", "warning", "appendfsync is no"),
    ({"propagation-error-behavior": "ignore"}, "propagation", "warning", "a replica without the module"),
    ({"unixsocketperm": "777"}, "sockets", "error", "Redis' socket: mode 0777"),
]


@pytest.mark.parametrize(("options", "check", "level", "text"), PLANTED)
def test_a_setting_of_redis_is_found(
    make_redis: MakeRedis, make_daemon: MakeDaemon, options: dict[str, str], check: str, level: str, text: str
) -> None:
    redis = make_redis(options={**GOOD, **options})
    status, findings = doctor(make_daemon(redis_address=redis.address))
    assert (check, level) in wrong(findings)
    assert text in texts(findings, check)
    assert status == (1 if level == "error" else 0)
    assert all(found["fix"] for found in findings if found["level"] in ("error", "warning"))


def test_users_that_may_too_much_are_found(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    redis = make_redis(options=GOOD)
    status, findings = doctor(make_daemon(redis_address=redis.address))
    assert (status, wrong(findings)) == (0, [("ACL", "warning"), ("ACL", "warning")])
    assert "may do anything, CONFIG and FLUSHALL included" in texts(findings, "ACL")
    assert "questions are asked by user 'default', who may write" in texts(findings, "ACL")


def test_a_reader_that_may_write_is_found(
    rundir: Path, make_redis: MakeRedis, make_daemon: MakeDaemon, acl: dict[str, str]
) -> None:
    path = Path(acl["aclfile"])
    path.write_text(path.read_text().replace("+ping %R~job", "+slurmjc.trim +ping %RW~job"))
    redis = make_redis(options={**GOOD, **acl}, ready_without_login=True)
    _, findings = doctor(make_daemon(redis_address=redis.address, settings={"redis": login(rundir)}))
    assert wrong(findings) == [("ACL", "warning")]
    assert "who only asks, may write" in texts(findings, "ACL")


def test_a_login_node_needs_the_reader_only(
    rundir: Path, make_redis: MakeRedis, make_daemon: MakeDaemon, acl: dict[str, str]
) -> None:
    redis = make_redis(options={**GOOD, **acl}, ready_without_login=True)
    reader = {name: value for name, value in login(rundir).items() if name.startswith("reader")}
    daemon = make_daemon(redis_address=redis.address, settings={"redis": reader, "daemon": {"roles": ["query"]}})
    status, findings = doctor(daemon)
    assert (status, wrong(findings)) == (0, [])
    assert texts(findings, "ACL").startswith("user 'slurmjcd-reader' only reads")


def test_a_wrong_password_is_denied(
    rundir: Path, make_redis: MakeRedis, make_daemon: MakeDaemon, acl: dict[str, str]
) -> None:
    redis = make_redis(options={**GOOD, **acl}, ready_without_login=True)
    daemon = make_daemon(redis_address=redis.address, settings={"redis": login(rundir)})
    (rundir / "w").write_text("other")
    status, findings = doctor(daemon)
    assert wrong(findings) == [("login", "error")]
    assert status == 4, texts(findings, "redis")


def test_redis_without_the_module_or_away(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    redis = make_redis(options=GOOD)
    daemon = make_daemon(redis_address=redis.address)
    redis.stop()
    status, findings = doctor(daemon)
    assert (status, ("redis", "error") in wrong(findings)) == (3, True)
    make_redis(module=None)
    status, findings = doctor(daemon)
    assert (status, wrong(findings)) == (1, [("module", "error")])
    assert "fix: add 'loadmodule " in texts(findings, "module")


def test_sockets_and_directories_that_others_could_use(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(redis_address=make_redis(options=GOOD).address)
    daemon.ingest_socket.chmod(0o666)
    daemon.query_socket.chmod(0o600)
    daemon.run_dir.chmod(0o777)
    _, findings = doctor(daemon)
    found = texts(findings, "sockets")
    assert f"mode 0666 lets others than SlurmUser in fix: chmod 600 {daemon.ingest_socket}" in found
    assert f"mode 0600 keeps users out fix: chmod 666 {daemon.query_socket}" in found
    assert f"everyone may write to {daemon.run_dir}" in found
    assert ("configuration", "error") in wrong(findings)


def test_a_daemon_that_is_down_is_found(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(redis_address=make_redis(options=GOOD).address)
    daemon.stop()
    status, findings = doctor(daemon)
    assert status == 3
    assert {("sockets", "error"), ("daemon", "error")} <= set(wrong(findings))


def test_for_people_it_is_a_line_each_and_the_fix_below(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(redis_address=make_redis(options={"appendonly": "no"}).address)
    done = subprocess.run(
        [program("slurmjc"), "doctor", "--config", str(daemon.conf)], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("ERROR    persistence"))
    assert lines[at + 1].strip().startswith("fix: appendonly yes in redis.conf; ")
    assert done.returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_a_configuration_that_may_not_be_read_is_denied(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    daemon = make_daemon(redis_address=make_redis(options=GOOD).address)
    daemon.conf.chmod(0o600)
    assert configfile.load(daemon.conf, {})  # imported while that is still allowed
    os.seteuid(64103)
    try:
        done = CliRunner().invoke(command, ["--config", str(daemon.conf)])
    finally:
        os.seteuid(0)
    assert done.exit_code == 4
    assert "can't be read: Permission denied" in done.output


# ---- what can't be planted on the machine that runs the tests --------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "overcommit", "expected"),
    [
        ("[always] madvise never", "0", ["warning", "warning"]),
        ("always [madvise] never", "1", ["ok", "ok"]),
        (None, None, ["unknown", "unknown"]),
    ],
)
def test_kernel_settings(tmp_path: Path, pages: str | None, overcommit: str | None, expected: list[str]) -> None:
    for text, name in (
        (pages, "sys/kernel/mm/transparent_hugepage/enabled"),
        (overcommit, "proc/sys/vm/overcommit_memory"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        if text is not None:
            (tmp_path / name).write_text(text + "\n")
    found = list(machine.kernel(Config(), sys=tmp_path / "sys", proc=tmp_path / "proc"))
    assert [finding.level for finding in found] == expected
    assert all(finding.fix for finding in found if finding.level == "warning")


def test_the_kernel_of_another_host_is_not_looked_at(tmp_path: Path) -> None:
    elsewhere = Config(redis=RedisSection(address="rediss://redis.example:6379"))
    assert list(machine.kernel(elsewhere, sys=tmp_path, proc=tmp_path)) == []


@pytest.mark.parametrize(
    ("address", "level"),
    [
        ("redis://redis.example:6379", "error"),
        ("rediss://redis.example:6379", "ok"),
        ("redis://127.0.0.1:6379", "ok"),
        ("unix:/run/redis.sock", "ok"),
    ],
)
def test_plain_text_on_the_network_is_found(address: str, level: str) -> None:
    (finding,) = transport(Config(redis=RedisSection(address=address)))
    assert finding.level == level
