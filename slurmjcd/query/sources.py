# SPDX-License-Identifier: MIT
"""Where jobs are asked for: each shard of the store is a source, and so is whatever else holds jobs.

Several sources are asked as one in fanout.py. A source knows nothing of who asks: the access policy is in the
criteria by the time they come here.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, Protocol, TypeVar

from slurmjcd import criteria, protocol
from slurmjcd.backoff import Backoff
from slurmjcd.config.settings import QuerySection
from slurmjcd.criteria import Criteria
from slurmjcd.errors import Moved, Refused, StoreError, Unavailable
from slurmjcd.query.merging import Group, Page
from slurmjcd.store.shards import shard_of
from slurmjcd.store.store import Shard, Store
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink, parse_reply

_KEY_BYTES: Final = 16  # end (8), job id (4), bytes of the row (4)
_JOB_ID_MAX: Final = 2**32 - 1
_KEYS_HEAD: Final = re.compile(rb"\*2\r\n\$(\d{1,9})\r\n")
_ROWS_HEAD: Final = re.compile(rb"\r\n\*(\d{1,9})\r\n")
_WAITED: Final = 0.9  # of query.timeout_s, for a shard that moves to another server
_IN_PASSING: Final = 64 * 1024  # bytes of an answer that are read without a thread of their own

T = TypeVar("T")


def record_of(row: bytes) -> bytes:
    """The record in a row of a page with records."""
    return row[row.index(b"\n") + 1 : -2]


class Cursor(Protocol):
    """An open question to one source."""

    async def page(self, rows: int, *, records: bool) -> Page:
        """The next rows, at most so many, in order of (end, job_id); without any when there are no more.

        Each row is one RESP2 value: with `records` a record as bulk string, else upstream's array.

        Raises:
            StoreError: the source can't give them; what came before is not all there is.
        """

    async def close(self) -> None:
        """Nobody wants more of it. Raises nothing but cancellation."""

    @property
    def held_bytes(self) -> int:
        """Of rows that are in this process already."""


class Source(Protocol):
    """What holds jobs. Each job is in one source, all its runs."""

    @property
    def name(self) -> str:
        """How errors name it: `shard 2 of 6 (job ids with id % 6 = 2)`; '' where they needn't."""

    def holds(self, job_id: int) -> bool:
        """Whether runs of this job may be here."""

    async def open(self, asked: Criteria) -> Cursor | None:
        """A cursor over the jobs that match; None when none does."""

    async def aggregate(self, fields: Sequence[bytes], asked: Criteria) -> list[Group]:
        """The rows of AGG, in any order; `asked` has no limit where there are other sources."""

    async def runs(self, job_id: int, most_bytes: int) -> list[Any]:
        """The runs of a job as GET has them, oldest first: flat lists of names and values.

        Raises:
            Refused: LIMIT, there are more than `most_bytes` of them.
        """


def forget_nothing(cursor: Cursor) -> None:
    """For who has no task that could close a cursor: the module forgets it by itself after ten minutes."""


class ShardSource:
    """One shard.

    Args:
        config: gives the settings of now.
        forget: is given the cursor of a question that was given up while it was being asked.
    """

    def __init__(
        self,
        shard: Shard,
        config: Callable[[], QuerySection],
        forget: Callable[[Cursor], None] = forget_nothing,
    ) -> None:
        self._shard, self._config, self._forget = shard, config, forget

    @property
    def name(self) -> str:
        return self._shard.name if self._shard.count > 1 else ""

    @property
    def prefix(self) -> bytes:
        return self._shard.prefix

    def holds(self, job_id: int) -> bool:
        return shard_of(job_id, self._shard.count) == self._shard.index

    async def open(self, asked: Criteria) -> Cursor | None:
        cursor = ShardCursor(self, self._shard, self._config, secrets.token_hex(16).encode())
        words = (protocol.MATCH, self._shard.prefix, cursor.id, *criteria.flatten(asked))
        try:
            found = await self.ask(lambda link: link.call(*words))
        except Refused:
            raise
        except BaseException:
            self._forget(cursor)  # the shard may have opened it all the same
            raise
        return cursor if found is not None else None

    async def aggregate(self, fields: Sequence[bytes], asked: Criteria) -> list[Group]:
        words = (protocol.AGG, self._shard.prefix, b"BY", *fields, *criteria.flatten(asked))
        rows = await self._read(*words, most=self._config().answer_bytes)
        width = len(fields) + 5
        if not all(isinstance(row, list) and len(row) == width for row in rows):
            raise Unavailable("the reply to SLURMJC.AGG has rows that are none")
        return rows

    async def runs(self, job_id: int, most_bytes: int) -> list[Any]:
        return await self._read(protocol.GET, self._shard.prefix, b"%d" % job_id, most=most_bytes)

    async def info(self, *, segments: bool = False) -> StoreInfo:
        """What SLURMJC.INFO says of this shard and its server."""
        return await self.ask(lambda link: link.info(segments=segments))

    async def _read(self, *words: bytes, most: int) -> list[Any]:
        answer = await self.ask(lambda link: link.call_unread(*words, most=most))
        large = len(answer) > _IN_PASSING
        rows = await asyncio.to_thread(parse_reply, answer) if large else parse_reply(answer)
        if not isinstance(rows, list):
            raise Unavailable(f"the reply to {words[0].decode()} is no list")
        return rows

    async def ask(self, call: Callable[[StoreLink], Awaitable[T]]) -> T:
        """What a call gives with a connection to the shard's server.

        While the shard is on its way to another server of a cluster, or another replica has to be found, it waits and
        calls again.
        """
        until_s, backoff = time.monotonic() + _WAITED * self._config().timeout_s, Backoff(longest_s=0.5)
        others = int(self._shard.reads_replicas)
        while True:
            try:
                return await self.ask_once(call)
            except Moved:
                if time.monotonic() > until_s:
                    raise
            except Unavailable:
                if not others:
                    raise
                others -= 1
                continue
            await asyncio.sleep(backoff.next_s())

    async def ask_once(self, call: Callable[[StoreLink], Awaitable[T]]) -> T:
        """As `ask`, for what can't be called again.

        Raises:
            Moved: the answer may lack jobs, and what had to be asked again was not.
        """
        async with self._shard.reader() as link:
            answer = await call(link)
            await link.confirm()
            return answer


def shard_sources(
    store: Store, config: Callable[[], QuerySection], forget: Callable[[Cursor], None] = forget_nothing
) -> list[ShardSource]:
    return [ShardSource(shard, config, forget) for shard in store.shards]


def master_sources(store: Store, config: Callable[[], QuerySection]) -> list[ShardSource]:
    """Each shard's master, for who has heard of a job that a replica may not have yet."""
    return [ShardSource(shard, config) for shard in store.masters]


class ShardCursor:
    """An open query in one shard's server."""

    held_bytes = 0

    def __init__(self, source: ShardSource, shard: Shard, config: Callable[[], QuerySection], query_id: bytes) -> None:
        self._source, self._shard, self._config, self.id = source, shard, config, query_id

    async def page(self, rows: int, *, records: bool) -> Page:
        form = (b"RECORDS", b"KEYS") if records else (b"KEYS",)
        words = (protocol.FETCH, self._shard.prefix, self.id, b"%d" % rows, *form)
        try:
            most = self._config().answer_bytes
            answer = await self._source.ask_once(lambda link: link.call_unread(*words, most=most))
        except Moved as exc:
            raise Unavailable(f"another server has it now or is about to, ask again: {exc}") from exc
        except Refused as exc:
            if exc.code != "NOQUERY":
                raise
            why = "the query is not open any more (was its server restarted, or did another take over?), ask again"
            raise Unavailable(why) from exc
        return parse_page(bytes(answer), records=records)

    async def close(self) -> None:
        try:
            async with self._shard.reader() as link:
                await link.call(protocol.FETCH, self._shard.prefix, self.id, b"CLOSE")
        except StoreError:
            pass  # it is not open there, or forgotten later


def parse_page(answer: bytes, *, records: bool) -> Page:
    """The rows of a reply to FETCH … KEYS, cut apart by what it says of their sizes.

    Raises:
        Unavailable: it is none.
    """
    wrong = Unavailable("the reply to SLURMJC.FETCH with KEYS can't be read")
    head = _KEYS_HEAD.match(answer)
    at = head.end() if head is not None else 0
    behind = _ROWS_HEAD.match(answer, at + int(head[1])) if head is not None else None
    if head is None or behind is None or int(head[1]) != _KEY_BYTES * int(behind[1]):
        raise wrong
    words = struct.unpack_from(f"<{int(behind[1]) * 2}Q", answer, at)
    keys = [end_s << 32 | rest & _JOB_ID_MAX for end_s, rest in zip(words[::2], words[1::2], strict=True)]
    if records:
        bounds = list(accumulate([rest >> 32 for rest in words[1::2]], initial=behind.end()))
        if bounds[-1] != len(answer):
            raise wrong
        return Page(keys, [answer[begin:end] for begin, end in pairwise(bounds)])
    rows = parse_reply(answer[behind.start() + 2 :])
    if not isinstance(rows, list) or len(rows) != len(keys):
        raise wrong
    return Page(keys, [protocol.reply(row) for row in rows])
