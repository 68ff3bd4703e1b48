# SPDX-License-Identifier: MIT
"""One move from its first step to its last.

1. Day by day, what differs between the two sides is copied, while the daemon goes on writing to the old one. Again,
   until little is left.
2. The layout key says that jobs move (`3>6`): shippers hold, what comes waits in the spool.
3. What each shard has of each spool (its watermark) is noted, the last difference copied, all days compared.
4. The new shards get the watermarks, and the layout key the new number.

Nothing depends on step 2 having reached everybody. A record that somebody still writes to an old shard after step 3
lies above the watermark that the new shards got, so it is sent again from the spool where it came from. Identity makes
each copy exactly once, so a run that was killed is done again: it finds what is there by comparing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from slurmjcd import protocol
from slurmjcd.errors import StoreError
from slurmjcd.resharding import room
from slurmjcd.resharding.copying import Copier
from slurmjcd.resharding.counts import DAY_S, Days, days_of, differing, jobs_in
from slurmjcd.resharding.dropping import clear
from slurmjcd.resharding.layoutkeys import LayoutKeys, MoveError
from slurmjcd.resharding.patience import Patience
from slurmjcd.resharding.sides import Side
from slurmjcd.store.shards import Layout
from slurmjcd.store.storeinfo import StoreInfo

_FEW_JOBS: Final = 20_000  # differing ones, that are copied while shippers hold
_PASSES: Final = 5
_LATE_S: Final = 900  # jobs come in order of their ends, but for so much
_SETTLED_S: Final = 3.0  # shippers look at the layout every two seconds
_LOOK_S: Final = 0.25
_NONE: Final = (0,)


@dataclass(slots=True)
class Summary:
    """What a move did."""

    from_shards: int
    to_shards: int
    jobs: int = 0  # that the new shards have
    days: int = 0
    copied: int = 0  # records, those that were copied twice counted twice
    held_s: float = 0.0  # how long shippers held
    seconds: float = 0.0


class Move:
    """Moves jobs from one side to the other.

    Args:
        keys: of the layout, the first of them taken; more where a prefix with a hash tag has a layout key of its own.
        patience: for servers that don't answer.
        ticker: begins to show progress of so many records; what it returns is told how many were copied.
    """

    def __init__(
        self, source: Side, target: Side, keys: list[LayoutKeys], patience: Patience,
        ticker: Callable[[int], Callable[[int], None]],
    ) -> None:  # fmt: skip
        self._source, self._target, self._keys = source, target, keys
        self._patiently, self._ticker = patience, ticker
        self._copied_to: dict[int, int] = {}  # day → when its last copy began
        self._move = Layout(source.shards, target.shards)
        self.summary = Summary(source.shards, target.shards)
        self._copier = Copier(source, target, lambda _: None, self._renew)

    async def run(self) -> Summary:
        """Do all of it.

        Raises:
            MoveError: it can't be done; the text says why.
            StoreError: a server didn't do what was asked, for too long.
        """
        begin = time.monotonic()
        await self._begin()
        await self._keep_up()
        async with self._held():
            held = time.monotonic()
            await self._settle()
            marks = await self._patiently(self._watermarks)
            days = await self._finish()
            await self._patiently(lambda: self._give(marks))
            left = set(await self._keys[0].left()) | {self._source.shards}
            await self._keys[0].set_left(left - {self._target.shards})
            for keys in self._keys:
                await keys.set_layout(Layout(self._target.shards))
            self.summary.held_s = time.monotonic() - held
        await self._keys[0].end()
        self.summary.jobs, self.summary.days = jobs_in(days), len(days)
        self.summary.copied, self.summary.seconds = self._copier.copied, time.monotonic() - begin
        return self.summary

    # ---- beside a daemon that writes -----------------------------------------------------------------------------

    async def _begin(self) -> None:
        keys = self._keys[0]
        if await keys.moving() != self._move:
            # what lies there is of an older move, and may lack what was taken out since
            await self._patiently(lambda: clear(self._target))
            await keys.set_left(set(await keys.left()) - {self._target.shards})
            await keys.begin(self._move)
        room.check(await self._patiently(self._source.infos), await self._patiently(self._target.infos))

    async def _keep_up(self) -> None:
        """Copy the days that differ, again and again, until what is left can be copied while shippers hold."""
        old, new = await self._both()
        for number in range(_PASSES):
            todo = differing(old, new)
            missing = sum(abs(old.get(day, _NONE)[0] - new.get(day, _NONE)[0]) for day in todo)
            if missing <= _FEW_JOBS and self._copied_to.keys() >= set(todo):
                break
            # jobs that are told late are not among the newest: every other time all of the day
            await self._copy_days([day for day in todo if day in old], old, whole=number % 2 == 0)
            old, new = await self._both()

    async def _copy_days(self, todo: list[int], old: Days, *, whole: bool) -> None:
        ttls = await self._patiently(self._ttls)
        self._copier.tick = self._ticker(jobs_in({day: old[day] for day in todo}))
        for day in todo:
            await self._copy(day, ttls.get(day, 0), whole=whole)

    async def _copy(self, day: int, ttl_s: int, *, whole: bool) -> None:
        since = 0 if whole else max(0, self._copied_to.get(day, 0) - _LATE_S)
        began = int(time.time())
        await self._patiently(lambda: self._copier.copy_day(day, ttl_s, since))
        self._copied_to[day] = began

    async def _both(self) -> tuple[Days, Days]:
        await self._renew()
        return await self._patiently(lambda: days_of(self._source)), await self._patiently(
            lambda: days_of(self._target)
        )

    async def _ttls(self) -> dict[int, int]:
        """Retention of each day's segments as seconds after the day's end; days without are not there."""
        found: dict[int, int] = {}
        kept: set[int] = set()
        for info in await self._source.infos(segments=True):
            for day, _jobs, _bytes, expires_ms, *_more in info.fields.get("segment_sizes") or []:
                if expires_ms is None:
                    kept.add(day)
                else:
                    found[day] = max(found.get(day, 1), expires_ms // 1000 - (day + 1) * DAY_S)
        return {day: ttl_s for day, ttl_s in found.items() if day not in kept}

    # ---- while shippers hold -------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """Shippers hold; when it fails they go on with the old layout."""
        try:
            for keys in self._keys:
                await keys.set_layout(self._move)
            yield
        except BaseException:
            with contextlib.suppress(StoreError):
                for keys in self._keys:
                    await keys.set_layout(Layout(self._source.shards))
            raise

    async def _settle(self) -> None:
        """Wait until nothing new has come to the old shards for as long as a shipper needs to see that it should hold.

        Raises:
            MoveError: one doesn't hold.
        """
        until = time.monotonic() + _SETTLED_S + self._patiently.wait_s
        seen, since = await self._patiently(self._state), time.monotonic()
        while time.monotonic() - since < _SETTLED_S:
            await asyncio.sleep(_LOOK_S)
            await self._renew()
            now = await self._patiently(self._state)
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() > until:
                raise MoveError(
                    "records still come to the old shards although slurmjcd should hold them back: is there a slurmjcd "
                    "of an older version, or a slurmjc import that still runs?"
                )

    async def _state(self) -> list[tuple[Any, ...]]:
        return [(info.watermarks, info.fields.get("jobs")) for info in await self._source.infos()]

    async def _watermarks(self) -> dict[str, int]:
        """Up to where all shards have what a spool sent, for each spool: what one of them lacks is sent again."""
        infos: list[StoreInfo] = await self._source.infos()
        spools = set[str]().union(*(info.watermarks for info in infos))
        return {spool: min(info.watermarks.get(spool, 0) for info in infos) for spool in spools}

    async def _finish(self) -> Days:
        """Copy the last difference: first the newest of each day, then whole days, then these from nothing.

        Raises:
            MoveError: the sides can't be made equal.
        """
        old, new = await self._both()
        for way in ("newest", "whole", "anew"):
            todo = differing(old, new)
            if not todo:
                return old
            for day in todo:
                if way == "anew" or day not in old:
                    await self._patiently(partial(clear, self._target, day))
            await self._copy_days([day for day in todo if day in old], old, whole=way != "newest")
            old, new = await self._both()
        if todo := differing(old, new):
            date = time.strftime("%Y-%m-%d", time.gmtime(todo[0] * DAY_S))
            have, want = (days.get(todo[0], (0,))[0] for days in (new, old))
            raise MoveError(
                f"the new shards have {have} jobs of {date}, the old ones {want}, and {len(todo)} days differ: does "
                "somebody write to them? Run the same command again"
            )
        return old

    async def _give(self, marks: dict[str, int]) -> None:
        """Set the new shards' watermarks."""
        async with self._target.use() as links:
            for link, prefix in zip(links, self._target.prefixes, strict=True):
                for spool, mark in marks.items():
                    if mark:
                        words = (b"SPOOL", spool.encode(), b"%d" % (mark + 1), b"GAP", b"RECORDS")
                        await link.call(protocol.PUT, prefix, *words)

    async def _renew(self) -> None:
        await self._keys[0].renew()
