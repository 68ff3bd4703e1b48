# SPDX-License-Identifier: MIT
"""Bytes at query.sock from a user, a coordinator or an operator: no answer has a job that they may not see.

The first byte says who asks and whether the store has one part or three, the second how the bytes are cut. The daemon's
side is all there; in the store's place is the module's reading of criteria, and rows that are numbers of made-up jobs.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from unittest import mock

from slurmjcd import protocol
from slurmjcd.access.policy import AccessPolicy, Peer
from slurmjcd.config.settings import QuerySection
from slurmjcd.errors import Refused
from slurmjcd.health.metrics import Metrics
from slurmjcd.query import asking
from slurmjcd.query.server import query_server
from slurmjcd.store.storeinfo import StoreInfo
from tests.fuzz.crowd import crowd
from tests.fuzz.inprocess import Complaints, Wire, pieces, replies

JOBS: Final = crowd().jobs
ACCOUNT: Final = next(job.account for job in JOBS if job.account.isalpha())
COORDINATOR: Final = 3
UIDS: Final = (1, 2, COORDINATOR, 0, 70_000)  # 0 is the operator, the last has no jobs
METRICS: Final = Metrics()
CONFIG: Final = QuerySection()
POLICY: Final = AccessPolicy(
    private=True, operators=[], operator_uids=[0], coordinators={ACCOUNT.upper(): [str(COORDINATOR)]}
)
LOOP: Final = asyncio.new_event_loop()
ROW: Final = b"row of job %d"
BUG: Final = "internal error"


class Link:
    """A connection to a part of a store that has the made-up jobs."""

    def __init__(self, part: int, parts: int) -> None:
        self._numbers = {number for number, job in enumerate(JOBS) if job.job_id % parts == part}
        self._open: dict[bytes, list[int]] = {}

    def _ask(self, words: Sequence[bytes]) -> list[int]:
        found = crowd().ask(list(zip(words[::2], words[1::2], strict=True)))
        if isinstance(found, str):
            raise Refused(found)
        return sorted(self._numbers.intersection(found))

    async def call(self, name: bytes, _prefix: bytes, query: bytes, *words: bytes) -> bytes | None:
        if name == protocol.FETCH:
            assert words == (b"CLOSE",)
            self._open.pop(query, None)
            return None
        assert name == protocol.MATCH
        self._open[query] = self._ask(words)
        return b"set" if self._open[query] else None

    async def call_unread(self, name: bytes, _prefix: bytes, *words: bytes, most: int) -> bytes:
        if name == protocol.FETCH:
            return self._page(words[0], int(words[1]), words[2:])
        if name == protocol.GET:
            found = [(number, JOBS[number]) for number in self._numbers if JOBS[number].job_id == int(words[0])]
            return protocol.reply(
                [[b"uid", job.uid, b"account", job.account, b"name", ROW % number] for number, job in sorted(found)]
            )
        assert name == protocol.AGG
        fields = 1 if len(words) % 2 == 0 else 2
        return protocol.reply([[ROW % number] * fields + [1] * 5 for number in self._ask(words[1 + fields :])])

    def _page(self, query: bytes, count: int, form: Sequence[bytes]) -> bytes:
        rows, self._open[query] = self._open[query][:count], self._open[query][count:]
        texts = [protocol.reply([ROW % number]) for number in rows]
        page = b"*%d\r\n%b" % (len(rows), b"".join(texts))
        if b"KEYS" not in form:
            return page
        keys = [struct.pack("<QII", n, n, len(text)) for n, text in zip(rows, texts, strict=True)]
        return b"*2\r\n%b%b" % (protocol.bulk(b"".join(keys)), page)

    async def confirm(self) -> None:
        """An answer of this one counts."""

    async def info(self, *, segments: bool = False) -> StoreInfo:
        return StoreInfo({"server": b"redis", "jobs": 1, "bytes": 1, "dir": ROW % 0}, {})


class Part:
    """Lends that connection, as a shard does."""

    prefix = b"job"
    name = "a part"
    reads_replicas = False

    def __init__(self, index: int, count: int) -> None:
        self.index, self.count = index, count
        self._link = Link(index, count)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Link]:
        yield self._link


class Shelf:
    """A store of so many parts."""

    prefix = b"job"
    reply_s = 1.0
    is_cluster = False

    def __init__(self, parts: int) -> None:
        self.shards = self.masters = [Part(index, parts) for index in range(parts)]

    def reader(self) -> AbstractAsyncContextManager[Link]:
        return self.shards[0].reader()


def texts(value: Any) -> Iterator[bytes]:
    if isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, bytes):
        yield value


def ask(uid: int, parts: list[bytes], shards: int) -> bytes:
    """What one connection of that user gets."""
    server = query_server(Shelf(shards), CONFIG, METRICS, POLICY)  # type: ignore[arg-type]
    connection, wire = server.connection(), Wire()

    async def talk() -> None:
        connection.connection_made(wire)
        for part in parts:
            connection.get_buffer(len(part))[: len(part)] = part
            connection.buffer_updated(len(part))
        connection.eof_received()
        assert connection._task is not None
        await connection._task
        connection.connection_lost(None)

    with mock.patch.object(asking, "peer_of", return_value=Peer(uid, 1, uid)):
        LOOP.run_until_complete(talk())
    assert wire.is_closing()
    assert not server.connections
    assert (server.held, server.unread) == (0, 0)
    return bytes(wire.out)


def one_input(data: bytes) -> None:
    uid, seed, stream = UIDS[data[0] % len(UIDS)] if data else 1, data[1] if len(data) > 1 else 0, data[2:]
    shards = 3 if data and data[0] >= 128 else 1
    with Complaints() as complaints:
        out = ask(uid, pieces(stream, seed), shards)
    assert not complaints.lines, complaints.lines
    view = LOOP.run_until_complete(POLICY.view(uid))
    visible = {ROW % number for number, job in enumerate(JOBS) if view.allows(job.uid, job.account)}
    rows = {ROW % number for number in range(len(JOBS))}
    for answer in replies(out):
        assert BUG not in str(answer)
        assert not (rows - visible).intersection(texts(answer))
