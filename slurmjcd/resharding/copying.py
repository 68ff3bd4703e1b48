# SPDX-License-Identifier: MIT
"""Copies the jobs that ended on a day from one side to the other; a run that is there already is stored once."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import Final

from slurmjcd import protocol, record
from slurmjcd.errors import Unavailable
from slurmjcd.resharding.counts import DAY_S
from slurmjcd.resharding.sides import Side
from slurmjcd.store.shards import shard_of
from slurmjcd.store.storelink import StoreLink

_QUERY: Final = b"reshard-%d" % os.getpid()
_EVERY_ID: Final = b"0-4294967295"
_PAGE: Final = b"10000"  # a page ends at 1 MiB before
_PUT_RECORDS: Final = 4000
_END: Final = record.POSITION["end"]

Place = tuple[StoreLink, asyncio.Lock]  # a connection, for one task at a time


class Copier:
    """From one side to the other.

    Args:
        tick: told how many records were copied.
        renew: awaited between two pages.
    """

    def __init__(
        self, source: Side, target: Side, tick: Callable[[int], None], renew: Callable[[], Awaitable[None]]
    ) -> None:
        self._source, self._target, self.tick, self._renew = source, target, tick, renew
        self.copied = 0

    async def copy_day(self, day: int, ttl_s: int, since_s: int = 0) -> None:
        """Copy what ended on that day, or since then on it.

        Args:
            ttl_s: as the segments of that day have it; 0: they don't expire.

        Raises:
            StoreError: not all of it was copied.
        """
        start_s, last_s = max(day * DAY_S, since_s), day * DAY_S + DAY_S - 1
        async with self._source.use() as sources, self._target.use() as targets:
            places = [(link, asyncio.Lock()) for link in targets]
            try:
                async with asyncio.TaskGroup() as group:
                    for link, prefix in zip(sources, self._source.prefixes, strict=True):
                        group.create_task(self._copy(link, prefix, (start_s, last_s), ttl_s, places))
            except BaseExceptionGroup as errors:
                raise _first(errors) from None

    async def _copy(
        self, link: StoreLink, prefix: bytes, window: tuple[int, int], ttl_s: int, places: list[Place]
    ) -> None:
        # by id and without an end, the window is all that ended since, in order of their ends
        asked = (protocol.MATCH, prefix, _QUERY, b"job", _EVERY_ID, b"start", b"%d" % window[0])
        if await link.call(*asked) is None:
            return
        fetch = (protocol.FETCH, prefix, _QUERY, _PAGE, b"RECORDS")
        while page := await link.call(*fetch):
            rows = len(page)
            if _end_of(page[-1]) > window[1]:
                del page[bisect_right(page, window[1], key=_end_of) :]
            await self._put(page, ttl_s, places)
            self.copied += len(page)
            self.tick(len(page))
            await self._renew()
            if len(page) < rows:
                return

    async def _put(self, page: list[bytes], ttl_s: int, places: list[Place]) -> None:
        parts: list[list[bytes]] = [[] for _ in places]
        for blob in page:
            job_id = record.peek_job_id(blob, 0, len(blob))
            if job_id is None:
                raise Unavailable("the old shards hold what is no record")
            parts[shard_of(job_id, len(places))].append(blob)
        for number, (part, (link, alone)) in enumerate(zip(parts, places, strict=True)):
            for first in range(0, len(part), _PUT_RECORDS):
                words = [protocol.PUT, self._target.prefixes[number]]
                words += [b"TTL", b"%d" % ttl_s] if ttl_s else []
                async with alone:
                    reply = await link.call(*words, b"RECORDS", *part[first : first + _PUT_RECORDS])
                if not isinstance(reply, int):
                    raise Unavailable("Redis replied to SLURMJC.PUT with no number")


def _end_of(blob: bytes) -> int:
    return int(record.decode_row(blob)[_END])


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
