# SPDX-License-Identifier: MIT
"""Whether jobs lie in the store as redis.shards says: with another number of shards every question would miss some.

The key that says it (shards.py) lies on one server. While that one is away what it said last holds; a daemon that has
never heard it waits, writing nothing. Where the key can be reached, every shipper has seen a change of it after SEEN_S.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from slurmjcd.errors import Refused, StoreError, Unavailable
from slurmjcd.store.shards import Layout, layout_key, parse_layout
from slurmjcd.store.storeinfo import number

if TYPE_CHECKING:
    from slurmjcd.store.store import Store
    from slurmjcd.store.storelink import StoreLink

log = logging.getLogger(__name__)

SEEN_S: Final = 10.0  # a look of the shipper, what is kept, and a reply that takes long
_KEPT_S: Final = 1.0  # an answer, for however many ask
_DENIED: Final = "NOPERM"


class StoreLayout:
    """Asks for the layout with one connection of its own.

    Args:
        writes: whether it may set the layout of an empty store; it then asks as the user that writes.
    """

    def __init__(self, store: Store, *, writes: bool = False) -> None:
        self._store, self._writes = store, writes
        self._key = layout_key(store.prefix)
        self._link: StoreLink | None = None
        self._asking = asyncio.Lock()
        self._asked_s = float("-inf")
        self._heard = False
        self._found: Layout | None = None
        self._again: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Raise Unavailable unless jobs lie as configured; a layout that nobody has set is that of one shard."""
        found, shards = await self._look(), len(self._store.shards)
        if found is not None and found.shards != shards:
            raise Unavailable(self._why_wrong(found.shards))
        if found is None and shards > 1:
            raise Unavailable(
                f"nobody has stored jobs in {shards} shards yet: the key '{self._key.decode()}', which a daemon with "
                f"role 'ingest' and redis.shards = {shards} sets, isn't there"
            )

    async def check_writing(self) -> None:
        """Raise Unavailable when records have to wait, too: while jobs move from one layout to another."""
        await self.check()
        found = self._found
        if found is not None and found.moving_to is not None:
            raise Unavailable(
                f"jobs are being moved from {found.shards} shards to {found.moving_to}: records wait until "
                "`slurmjc reshard` is done"
            )

    async def claim(self) -> None:
        """As check_writing; a store that has no jobs yet gets the configured layout.

        Raises:
            Unavailable: it has another, or can't be asked.
        """
        shards = len(self._store.shards)
        if shards > 1 and await self._look() is None:
            async with self._asking:
                await self._refuse_jobs_in_one_shard()
                link = await self._opened()
                try:
                    # whoever was first has set it
                    await link.call(b"SET", self._key, bytes(Layout(shards)), b"NX")
                except StoreError:
                    await self._close_link()
                    raise
                await self._ask()
        await self.check_writing()

    async def _refuse_jobs_in_one_shard(self) -> None:
        """A cluster has none: there the prefix would need a hash tag, which is refused with several shards."""
        if self._store.is_cluster:
            return
        link = self._store.unsharded_writer()
        try:
            jobs = number((await link.open()).fields.get("jobs"))
        finally:
            await link.close()
        if jobs:
            raise Unavailable(self._why_wrong(1))

    def _why_wrong(self, found: int) -> str:
        shards = len(self._store.shards)
        parts = "1 shard" if found == 1 else f"{found} shards"
        return (
            f"the jobs in the store lie in {parts}, redis.shards is {shards}: set redis.shards = {found}, or with that "
            f"move the jobs: slurmjc reshard --to {shards}"
        )

    async def _look(self) -> Layout | None:
        """What the key says, None when it isn't there; once that is known nobody waits to hear it again."""
        if time.monotonic() - self._asked_s < _KEPT_S:
            return self._found
        if not self._heard:
            async with self._asking:
                if not self._heard:
                    await self._ask()
        elif self._again is None or self._again.done():
            self._again = asyncio.create_task(self._ask_again(), name="layout")
        return self._found

    async def _ask_again(self) -> None:
        async with self._asking:
            try:
                await self._ask()
            except Unavailable as exc:
                log.debug("layout: %s", exc)
            self._asked_s = time.monotonic()

    async def _ask(self) -> None:
        try:
            value = await (await self._opened()).call(b"GET", self._key)
            self._found = parse_layout(value) if value is not None else None
        except (ValueError, Refused) as exc:
            raise Unavailable(f"the key '{self._key.decode()}' in Redis is no layout of shards: {exc}") from exc
        except Unavailable as exc:
            if _DENIED not in str(exc) or len(self._store.shards) > 1:
                await self._close_link()
                raise
            self._found = None  # users made before there were shards may not read it, and need not
        except BaseException:
            await self._close_link()
            raise
        self._heard, self._asked_s = True, time.monotonic()

    async def _opened(self) -> StoreLink:
        if self._link is None or not self._link.is_open:
            await self._close_link()
            self._link = self._store.layout_link(self._key, writes=self._writes)
            await self._link.connect()
        return self._link

    async def _close_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
            await asyncio.gather(self._again, return_exceptions=True)
        await self._close_link()
