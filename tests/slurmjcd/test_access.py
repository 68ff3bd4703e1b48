# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
from pathlib import Path

import pytest

from slurmjcd import access
from slurmjcd.access import AccessPolicy, Peer, peer_of, private_jobs


def policy(*operators: str, private: bool = True) -> AccessPolicy:
    return AccessPolicy(private=private, operators=operators, operator_uids=[0, 991])


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("", False),
        ("PrivateData=jobs\n", True),
        ("privatedata = accounts,Jobs,nodes # comment\n", True),
        ("PrivateData=accounts\n", False),
        ("#PrivateData=jobs\n", False),
        ("PrivateData=none\n", False),
        ("PrivateData=jobs\nPrivateData=usage\n", False),
        ("PrivateData=accounts,\\\njobs\n", True),
        ("ClusterName=jobs\n", False),
        ("include more.conf\n", True),
        ("Include more.conf\nPrivateData=none\n", False),
        ("PrivateData=jobs_extra\n", False),
    ],
)
def test_private_data_is_read_from_slurm_conf(tmp_path: Path, text: str, private: bool) -> None:
    (tmp_path / "slurm.conf").write_text(text)
    (tmp_path / "more.conf").write_text("PrivateData=jobs\n")
    assert private_jobs(tmp_path / "slurm.conf") is private


@pytest.mark.parametrize("text", [None, "include nowhere.conf\n", "include slurm.conf\n"])
def test_a_slurm_conf_that_cant_be_read_means_private(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "slurm.conf").write_text(text)
    assert private_jobs(tmp_path / "slurm.conf") is (text != "include slurm.conf\n")


async def test_everyone_sees_all_when_data_is_not_private() -> None:
    assert await policy(private=False).sees_all(12345)


async def test_under_private_data_only_operators_see_all() -> None:
    me = pwd.getpwnam("daemon")
    for uid, expected in ((0, True), (991, True), (12345, False), (me.pw_uid, False)):
        assert await policy().sees_all(uid) is expected
    assert await policy("daemon").sees_all(me.pw_uid)
    assert await policy("12345").sees_all(12345)


async def test_members_of_an_operators_group_see_all() -> None:
    me = pwd.getpwnam("daemon")
    group = grp.getgrgid(me.pw_gid).gr_name
    assert await policy(f"%{group}").sees_all(me.pw_uid)
    assert not await policy("%nosuchgroup").sees_all(me.pw_uid)
    assert not await policy(f"%{group}").sees_all(54321)


async def test_nobody_is_nobody_whatever_its_groups() -> None:
    assert not await policy("%nogroup").sees_all(65534)


async def test_a_group_lookup_that_hangs_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*args: object) -> bool:
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr(access, "_GROUPS_TIMEOUT_S", 0.05)
    monkeypatch.setattr(asyncio, "to_thread", hang)
    assert not await policy("%daemon").sees_all(12345)


async def test_group_lookups_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(access, "_in_groups", lambda uid, groups: calls.append(uid) is None)  # type: ignore[func-returns-value]
    asked = policy("%operators")
    assert [await asked.sees_all(12345) for _ in range(3)] == [True] * 3
    assert calls == [12345]


async def test_the_peer_is_who_connected(rundir: Path) -> None:
    seen: list[Peer | None] = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(peer_of(transport))
            transport.close()

    server = await asyncio.get_running_loop().create_unix_server(Server, rundir / "s")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(rundir / "s"))
        while not seen:
            await asyncio.sleep(0.001)
    server.close()
    assert seen == [Peer(os.geteuid(), os.getpid(), os.getegid())]


def test_unknown_operators_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    policy("nosuchuser")
    assert "operator 'nosuchuser' is no user of this machine" in caplog.text
