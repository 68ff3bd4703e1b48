# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurmjcd.access import policy as access
from slurmjcd.access.policy import AccessPolicy, Peer, View, peer_of


def policy(*operators: str, private: bool = True) -> AccessPolicy:
    return AccessPolicy(private=private, operators=operators, operator_uids=[0, 991])


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


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A name service that doesn't answer; the uids it was asked for."""
    asked: list[int] = []
    end = threading.Event()

    def hang(uid: int, wanted: frozenset[str]) -> frozenset[str]:
        asked.append(uid)
        end.wait(60)
        return wanted

    monkeypatch.setattr(access, "_groups_in", hang)
    yield asked
    end.set()


async def test_a_group_lookup_that_hangs_denies_and_no_more_than_four_are_begun(hanging: list[int]) -> None:
    asked = policy("%daemon")
    asked._lookups.timeout_s = 0.05
    assert not any(await asyncio.gather(*[asked.sees_all(12345 + number) for number in range(50)]))
    assert len(hanging) == 4
    assert not await asked.sees_all(12345)
    assert len(hanging) == 4


async def test_a_group_lookup_that_hangs_keeps_nobody_waiting_at_the_end(hanging: list[int]) -> None:
    """The loop's own threads are waited for when it closes; the test's time limit is the proof."""
    asked = policy("%daemon")
    asked._lookups.timeout_s = 0.05
    assert not await asked.sees_all(12345)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_group_lookups_are_kept_for_a_while_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def look_up(uid: int, wanted: frozenset[str]) -> frozenset[str]:
        calls.append(uid)
        return wanted

    monkeypatch.setattr(access, "_groups_in", look_up)
    asked = policy("%operators")
    assert await asyncio.gather(*[asked.sees_all(12345) for _ in range(3)]) == [True] * 3
    assert await asked.sees_all(12345)
    assert calls == [12345]


async def test_coordinators_see_their_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_groups_in", lambda uid, wanted: wanted & ({"coord"} if uid == 12345 else set()))
    asked = AccessPolicy(
        private=True, operators=["%admins"], operator_uids=[0],
        coordinators={"Physics": ["%coord"], "bio": ["12346", "12345"], "none": []},
    )  # fmt: skip
    assert await asked.view(12345) == View(12345, accounts=frozenset({"physics", "bio"}))
    assert await asked.view(12346) == View(12346, accounts=frozenset({"bio"}))
    assert await asked.view(12347) == View(12347)
    assert str(await asked.view(12345)) == "accounts"


def test_a_view_allows_own_jobs_and_those_of_its_accounts() -> None:
    view = View(7, accounts=frozenset({"physics"}))
    assert [view.allows(*job) for job in ((7, "x"), (8, "PHYSICS"), (8, "x"), (8, ""))] == [True, True, False, False]
    assert not View(7).allows(8, "")
    assert View(7, all=True).allows(8, "x")


def test_a_view_covers_what_it_includes() -> None:
    own, more = View(7), View(7, accounts=frozenset({"a"}))
    everything = View(7, all=True)
    assert [more.covers(own), own.covers(more), everything.covers(more), more.covers(everything)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert not View(8).covers(own)


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


async def test_names_of_accounts_are_alike_where_the_module_finds_them_alike() -> None:
    """It knows the letters of ASCII; KELVIN SIGN in lower case is k for Python."""
    policy = AccessPolicy(private=True, operators=[], operator_uids=[], coordinators={"K-Ä": ["7"]})
    view = await policy.view(7)
    assert view.allows(1, "k-Ä")
    assert not view.allows(1, "\N{KELVIN SIGN}-Ä")
    assert not view.allows(1, "k-ä")
