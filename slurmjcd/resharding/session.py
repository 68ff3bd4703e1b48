# SPDX-License-Identifier: MIT
"""What `slurmjc reshard` is asked to do, over connections that it opens and closes: move, give up, drop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from slurmjcd.config.settings import Config
from slurmjcd.resharding.dropping import clear
from slurmjcd.resharding.layoutkeys import LayoutKeys, MoveError
from slurmjcd.resharding.patience import Patience
from slurmjcd.resharding.run import Move, Summary
from slurmjcd.resharding.sides import Side, prefix_of
from slurmjcd.store.shards import Layout, layout_key
from slurmjcd.store.store import Store


class Session:
    """One run of the command; nobody else moves these jobs meanwhile."""

    def __init__(self, config: Config, keys: list[LayoutKeys], patience: Patience) -> None:
        self._config, self._keys, self._patience = config, keys, patience

    async def layout(self) -> Layout:
        """How many shards there are now.

        Raises:
            MoveError: it can't be told.
        """
        found = await self._keys[0].layout()
        if found is not None:
            return found
        one = await self._jobs(1)
        return Layout(1 if one else self._config.redis.shards)

    async def move(self, to: int, ticker: Callable[[int], Callable[[int], None]]) -> Summary:
        """Move all jobs to that many shards; where a move to another number was begun and is to be given up, do that.

        Raises:
            MoveError: it can't be done; the text says why.
            StoreError: a server didn't do what was asked.
        """
        keys, now = self._keys[0], await self.layout()
        begun = await keys.moving()
        if to == now.shards:
            if begun is None or begun.shards != to:
                raise MoveError(f"jobs are in {_shards(to)} already: there is nothing to move")
            return await self._give_up(begun)
        if now.moving_to not in (None, to):
            raise MoveError(
                f"a move from {_shards(now.shards)} to {now.moving_to} was begun and slurmjcd holds records back for "
                f"it: end it with --to {now.moving_to}, or give it up with --to {now.shards}"
            )
        if await keys.layout() is None and await self._jobs(to):
            raise MoveError(
                f"there are jobs in {_shards(to)} and no key says how many shards are in use: start slurmjcd once with "
                "the right redis.shards"
            )
        source, target = Side(self._config, now.shards), Side(self._config, to)
        try:
            return await Move(source, target, self._keys, self._patience, ticker).run()
        finally:
            await source.close()
            await target.close()

    async def _give_up(self, begun: Layout) -> Summary:
        """Go on with the shards there were."""
        for keys in self._keys:
            await keys.set_layout(Layout(begun.shards))
        if begun.moving_to is not None:
            await self._keys[0].set_left({*await self._keys[0].left(), begun.moving_to})
        await self._keys[0].end()
        return Summary(begun.shards, begun.shards)

    async def drop(self) -> tuple[list[int], int]:
        """Take out what earlier moves left: of how many shards each, and how many jobs went.

        Raises:
            MoveError: a move is under way.
            StoreError: a server didn't do what was asked.
        """
        now, begun = await self.layout(), await self._keys[0].moving()
        if now.moving_to is not None or (begun is not None and begun.moving_to != now.shards):
            unfinished = begun or now
            raise MoveError(
                f"a move from {_shards(unfinished.shards)} to {unfinished.moving_to} is not finished: end it first "
                f"with --to {unfinished.moving_to}, or give it up with --to {unfinished.shards}"
            )
        dropped, jobs = [number for number in await self._keys[0].left() if number != now.shards], 0
        for number in dropped:
            side = Side(self._config, number)
            try:
                jobs += await self._patience(partial(clear, side))
            finally:
                await side.close()
        await self._keys[0].set_left(set())
        return dropped, jobs

    async def _jobs(self, shards: int) -> int:
        side = Side(self._config, shards)
        try:
            return sum(int(info.fields.get("jobs") or 0) for info in await self._patience(side.infos))
        finally:
            await side.close()


@contextlib.asynccontextmanager
async def session(config: Config, what: str, patience: Patience) -> AsyncIterator[Session]:
    """Connect and see that nobody else moves jobs.

    Args:
        what: what is going to be done, for those who come meanwhile.

    Raises:
        MoveError: somebody does.
        Unavailable: the server can't be reached.
    """
    # several shards have their layout key under the prefix without tag, one shard has it under its own
    prefixes = dict.fromkeys([prefix_of(config.redis, 2), prefix_of(config.redis, 1)])
    async with contextlib.AsyncExitStack() as stack:
        keys = []
        store = Store(config)
        stack.push_async_callback(store.close)
        for prefix in prefixes:
            link = store.layout_link(layout_key(prefix.encode()), writes=True)
            stack.push_async_callback(link.close)
            keys.append(LayoutKeys(link, prefix, patience))
        await keys[0].take(what)
        try:
            yield Session(config, keys, patience)
        finally:
            await keys[0].release()


def _shards(number: int) -> str:
    return f"{number} shard{'s' if number > 1 else ''}"
