# SPDX-License-Identifier: MIT
"""slurmjc doctor against a real daemon and Redis: one fault is planted at a time, and found with its fix."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slurmjcd.client.doctor import doctor as command
from slurmjcd.config import configfile
from slurmjcd.config.settings import Config, RedisSection
from slurmjcd.doctor import machine, slurm, spool
from slurmjcd.doctor.redis import settings, transport
from slurmjcd.store.storeinfo import StoreInfo
from tests.harness import MODULE, PLUGIN, ROOT, Daemon, RedisServer, wait_until
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


def test_the_daemons_own_redis_is_well(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings={"embedded": {"module": str(MODULE)}})
    status, findings = doctor(daemon)
    assert (status, [entry for entry in wrong(findings) if entry[1] == "error"]) == (0, [])


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
        ("redis+sentinel://127.0.0.1:26379,s2.example:26379/jobs", "error"),
        ("redis+cluster://127.0.0.1:7000,n2.example:7000", "error"),
        ("redis+cluster://127.0.0.1:7000,localhost", "ok"),
        ("rediss+cluster://n1.example:7000", "ok"),
        ("redis+sentinel://127.0.0.1:26379,[::1]:26380,localhost/jobs", "ok"),
        ("rediss+sentinel://s1.example:26379/jobs", "ok"),
    ],
)
def test_plain_text_on_the_network_is_found(address: str, level: str) -> None:
    (finding,) = transport(Config(redis=RedisSection(address=address, shards=3)))
    assert finding.level == level


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:30 / /home/a\\040b rw - nfs4 server:/home rw
41 22 0:31 / /home rw - autofs systemd-1 rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/a b/spool.db", ("nfs4", "/home/a b")),
        ("/home/ab", ("autofs", "/home")),
        ("/homeless", ("ext4", "/")),
    ],
)
def test_the_file_system_of_a_path(tmp_path: Path, path: str, expected: tuple[str, str]) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert spool.filesystem(Path(path), tmp_path / "mountinfo") == expected
    assert spool.filesystem(Path(path), tmp_path / "none") == ("", "/")


def test_a_spool_on_the_network_is_found(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(f"22 1 254:0 / {tmp_path} rw - nfs server:/ rw\n")
    (tmp_path / "spool.db").touch(0o600)
    config = Config.model_validate({"daemon": {"slurm_user": "root", "state_dir": str(tmp_path)}})
    found = {finding.code: finding for finding in spool.look(config, mounts=tmp_path / "mountinfo")}
    assert '[spool] path = "/var/lib/slurmjcd/spool.db"' in found["spool-network"].fix


def test_a_module_that_does_not_tell_is_unknown() -> None:
    found = settings(StoreInfo({"maxmemory_policy": b"noeviction"}, {}), Config())
    codes = {finding.code for finding in found if finding.level != "ok"}
    assert codes == {"aof-off", "propagation-unknown"}


def test_a_slurm_that_does_not_tell_its_version_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("slurmctld", "sacct"):
        (tmp_path / name).write_text("#!/bin/sh\necho no version\n")
        (tmp_path / name).chmod(0o755)
    shutil.copy(PLUGIN, tmp_path)
    (tmp_path / PLUGIN.name).chmod(0o755)
    (tmp_path / "slurm.conf").write_text(f"JobCompType=jobcomp/redis\nPluginDir={tmp_path}\nSlurmUser=root\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config = Config.model_validate(
        {"daemon": {"slurm_user": "root"}, "access": {"slurm_conf": str(tmp_path / "slurm.conf")}}
    )
    assert [finding.code for finding in slurm.look(config) if finding.level != "ok"] == ["slurm-unknown"]


def test_the_options_of_the_plugin_are_those_of_its_source() -> None:
    source = (ROOT / "cplugin" / "params.c").read_text()
    listed = source[source.index('"ring_dir", "ring_mib"') :]
    names = re.findall(r'"(\w+)"', listed[: listed.index("}")])
    assert set(names) == {*slurm.NUMBERS, *slurm.WORDS, *slurm.FLAGS}
    header = (ROOT / "cplugin" / "params.h").read_text()
    for name, (low, high) in slurm.NUMBERS.items():
        said = header[header.index(f" {name}=N") :].replace("\n *", " ").split("default")[0]
        assert [int(number) for number in re.findall(r"\d+", said)][:2] == [low, high], name


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("timeout=0", "timeout=0: not a number from 1 to 3600, the default counts"),
        ("timeout=٣", "timeout=٣: not a number from 1 to 3600, the default counts"),
        ("ring_mb=3", "unknown option ring_mb=3"),
        ("store_script=yes", "store_script=yes: store_script takes no value"),
        ("ring_dir=run", "ring_dir=run: not an absolute path"),
        ("daemon_user=nobody-such", "daemon_user=nobody-such: there is no such user here, so no socket is trusted"),
        ("timeout=5, timeout=6", "timeout is there more than once, the last one counts"),
    ],
)
def test_a_wrong_option_of_the_plugin(text: str, what: str) -> None:
    assert [wrong for wrong, _ in slurm.params(text)] == [what]


def test_right_options_of_the_plugin() -> None:
    assert list(slurm.params("ring_mib=1,spill_mib=0, timeout=3600,store_script,daemon_user=root,ring_dir=/x")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_who_may_not_look_is_told_to_be_root(make_daemon: MakeDaemon, make_redis: MakeRedis) -> None:
    daemon = make_daemon(redis_address=make_redis(options=GOOD).address)
    config = configfile.load(daemon.conf, {})
    os.seteuid(64103)
    try:
        found = [*spool.look(config)]
    finally:
        os.seteuid(0)
    assert [(finding.code, finding.fix) for finding in found] == [("not-allowed", "run slurmjc doctor as root")]


def test_each_shard_and_each_server_is_looked_at(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    """Shards that share a server are one finding of it; one that is away is named."""
    server = make_redis(options=GOOD)
    daemon = make_daemon(redis_address=server.address, settings={"redis": {"shards": 3}})
    wait_until(lambda: server_has_layout(server), what="the layout is set")
    _, findings = doctor(daemon)
    assert texts(findings, "redis").startswith("shards 0, 1, 2 of 3 at ")
    assert len([found for found in findings if found["check"] == "persistence"]) == 1
    assert "jobs lie in 3 shards" in texts(findings, "shards")
    with server.client() as client:
        client.set("job:shards", 6)
    assert "set redis.shards = 6" in texts(doctor(daemon)[1], "shards")
    server.stop()
    status, findings = doctor(daemon)
    assert status != 0
    assert "shards 0, 1, 2 of 3: no connection to Redis at" in texts(findings, "redis")


def server_has_layout(server: RedisServer) -> bool:
    with server.client() as client:
        return client.get("job:shards") == b"3"
