# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import time

import pytest

from slurmjcd.query.turns import Rates, Shares, Turns


async def served(turns: Turns, uid: int, count: int, order: list[int]) -> None:
    for _ in range(count):
        await turns.mine(uid)
        order.append(uid)


async def test_without_a_crowd_a_turn_comes_at_once() -> None:
    turns = Turns(per_round=3)
    order: list[int] = []
    for _ in range(10):
        await served(turns, 7, 3, order)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(order) == 30


async def test_one_round_of_the_loop_serves_only_so_many() -> None:
    turns = Turns(per_round=4)
    order: list[int] = []
    task = asyncio.create_task(served(turns, 7, 100, order))
    seen = []
    while not task.done():
        await asyncio.sleep(0)
        seen.append(len(order))
    assert len(order) == 100
    steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(steps) <= 4


async def test_users_take_turns_however_many_requests_one_has() -> None:
    turns = Turns(per_round=4)
    order: list[int] = []
    crowd = [asyncio.create_task(served(turns, 1, 20, order)) for _ in range(50)]
    await asyncio.sleep(0)
    other = asyncio.create_task(served(turns, 2, 10, order))
    await other
    assert order.index(2) < 60  # those of the crowd that were there first, and no more
    assert len(order) < 100
    await asyncio.gather(*crowd)
    assert order.count(1) == 1000


async def test_who_went_away_takes_no_turn() -> None:
    turns = Turns(per_round=1)
    order: list[int] = []
    tasks = [asyncio.create_task(served(turns, 1, 5, order)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[:9]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order.count(1) >= 5
    await served(turns, 2, 3, order)


async def test_a_user_holds_so_many_shares_and_others_have_their_own() -> None:
    shares = Shares(2)
    held: list[int] = []
    release = asyncio.Event()

    async def hold(uid: int) -> None:
        async with shares.one(uid):
            held.append(uid)
            await release.wait()

    tasks = [asyncio.create_task(hold(uid)) for uid in (1, 1, 1, 1, 2)]
    await asyncio.sleep(0.01)
    assert sorted(held) == [1, 1, 2]
    release.set()
    await asyncio.gather(*tasks)
    assert sorted(held) == [1, 1, 1, 1, 2]
    assert not shares._room


def test_a_user_may_so_often_a_second_and_others_have_their_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rates = Rates()
    assert sum(rates.allows(7, 10) for _ in range(100)) == 20
    assert rates.allows(8, 10)
    now += 0.5
    assert sum(rates.allows(7, 10) for _ in range(100)) == 5
    now += 60
    assert sum(rates.allows(7, 10) for _ in range(100)) == 20


def test_users_that_come_once_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rates = Rates()
    for uid in range(5000):
        now += 0.01
        assert rates.allows(uid, 10)
    assert len(rates._rooms) <= 1001
