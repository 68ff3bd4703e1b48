# SPDX-License-Identifier: MIT
"""SLURMJC.WATCH: the jobs that are stored from now on, pushed to who asked, as far as they may see them.

An event says whose job it is, so nobody is woken for what they may not see. What they get is asked of the store like
any other question, with the access policy in it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from slurmjcd import criteria, protocol
from slurmjcd.access import Peer, View, restricted
from slurmjcd.asking import QueryServer
from slurmjcd.backoff import Backoff
from slurmjcd.errors import Refused, Unavailable
from slurmjcd.events import Event, EventId, Run, Waiter, format_id, parse_entries, parse_id, run_of
from slurmjcd.jobwords import JobWords
from slurmjcd.record import decode
from slurmjcd.storelink import StoreLink

USAGE: Final = "SLURMJC.WATCH <event id or $> <max> <milliseconds> [criterion value ...]"
_MS_MAX: Final = 600_000
_BATCH: Final = 500  # events looked at for one answer
_IGNORED: Final = (b"start", b"end", b"limit")  # of a watch they would mean something else than of a list


class Asker(Protocol):
    """The connection that asks."""

    on_end: Callable[[], None] | None
    ended: bool

    @property
    def server(self) -> QueryServer: ...
    def link(self, peer: Peer) -> AbstractAsyncContextManager[StoreLink]: ...
    def waits(self, peer: Peer) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller wants to hear of. `cursor` None: what comes from now on."""

    cursor: EventId | None
    most: int
    wait_s: float
    asked: criteria.Criteria  # without `job`
    words: JobWords | None


@dataclass(slots=True)
class Found:
    """What there was to tell: records in the order in which they were stored, up to `cursor`."""

    cursor: EventId
    records: list[bytes]
    lost: bool = False  # events between the caller's cursor and the first that is kept are gone


def parse(args: list[bytes]) -> Question:
    """The question in a request.

    Raises:
        Refused: it is none.
    """
    if not args[2].isdigit() or not 0 < int(args[2][:12]) <= _BATCH:
        raise Refused(f"<max> must be a number from 1 to {_BATCH}; usage: {USAGE}")
    if not args[3].isdigit() or int(args[3][:12]) > _MS_MAX:
        raise Refused(f"<milliseconds> must be a number from 0 to {_MS_MAX}; usage: {USAGE}")
    try:
        cursor = None if args[1] == b"$" else parse_id(args[1])
    except Unavailable:
        raise Refused(f"the id of an event is '$' or such as 1772366400000-0; usage: {USAGE}") from None
    asked = criteria.pairs(args[4:])
    for name, _ in asked:
        if name in _IGNORED:
            raise Refused(f"SLURMJC.WATCH takes no criterion '{name.decode()}'")
    jobs = [value for name, value in asked if name == b"job"]
    rest = [(name, value) for name, value in asked if name != b"job"]
    return Question(cursor, int(args[2]), int(args[3]) / 1000, rest, JobWords(jobs) if jobs else None)


async def watch(asker: Asker, question: Question, peer: Peer, view: View) -> bytes:
    """The reply: event id to go on from, whether some were lost, records."""
    server = asker.server
    feed, config = server.feed, server.config
    async with asyncio.timeout(config.timeout_s):
        now = await feed.position()
        if question.cursor is None:  # a wrong question should fail now and not when a job ends
            await _ask(asker, peer, question.asked, view, [])
    found = Found(now if question.cursor is None else question.cursor, [])
    waiter = Waiter(question.words, view)
    with asker.waits(peer):
        feed.add(waiter)
        asker.on_end = waiter.woken.set
        try:
            await _until_found(asker, question, peer, waiter, found)
        finally:
            asker.on_end = None
            feed.remove(waiter)
    return protocol.reply([format_id(found.cursor), int(found.lost), *found.records])


async def _until_found(asker: Asker, question: Question, peer: Peer, waiter: Waiter, found: Found) -> None:
    feed, loop = asker.server.feed, asyncio.get_running_loop()
    deadline, backoff = loop.time() + question.wait_s, Backoff(longest_s=2.0)
    while True:
        waiter.woken.clear()
        waiter.after = None
        try:
            async with asyncio.timeout(asker.server.config.timeout_s):
                looked = await _look(asker, question, peer, found)
        except (Unavailable, TimeoutError):
            wait_s = backoff.next_s()
            if loop.time() + wait_s > deadline or asker.ended:
                raise
            await asyncio.sleep(wait_s)  # Redis comes back, or the time is up
            continue
        backoff.reset()
        if found.records or found.lost or asker.ended:
            return
        if looked:
            continue
        try:
            async with asyncio.timeout(max(0.0, deadline - loop.time())):
                await waiter.woken.wait()
        except TimeoutError:
            if waiter.after is None:  # of what came nothing was for this one
                found.cursor = feed.last
                return
        if waiter.after is not None:
            found.cursor = waiter.after


async def _look(asker: Asker, question: Question, peer: Peer, found: Found) -> bool:
    """Look at the next events above the cursor; False when there are none."""
    server = asker.server
    feed = server.feed
    found.cursor = min(found.cursor, feed.last)  # above it is what Redis has lost
    events = feed.since(found.cursor)
    if events is None:
        events = await _earlier(asker, peer, found)
    if not events:
        return False
    view = await server.policy.view(peer.uid)
    cursor, wanted = found.cursor, list[Event]()
    for event in events[:_BATCH]:
        cursor = event.id
        words = question.words
        if view.allows(event.uid, event.account) and (words is None or words.match(event.job_id, event.shown)):
            wanted.append(event)
            if len(wanted) == question.most:
                break
    if wanted:
        found.records = await _ask(asker, peer, question.asked, view, wanted)
    found.cursor = cursor
    return True


async def _earlier(asker: Asker, peer: Peer, found: Found) -> list[Event]:
    """Events that are no longer in memory."""
    feed = asker.server.feed
    async with asker.link(peer) as link:
        info = (await link.info()).fields
        words = (b"XRANGE", feed.key, b"(" + format_id(found.cursor), b"+", b"COUNT", b"%d" % _BATCH)
        entries = await link.call(*words)
    trimmed = info["events_added"] > info["events"]
    found.lost |= bool(found.cursor < parse_id(info["events_first"]) and trimmed and found.cursor > (0, 0))
    events = parse_entries(entries)
    if not events:
        found.cursor = feed.last
    return events


async def _ask(asker: Asker, peer: Peer, asked: criteria.Criteria, view: View, wanted: list[Event]) -> list[bytes]:
    """The records of those events that meet the criteria; without events only see that the question is one.

    Raises:
        Refused: it is none, or about jobs of others, which this caller may not see.
    """
    allowed = restricted(asked, view)
    if allowed is None:
        raise Refused("you may see your own jobs only", code="NOPERM")
    if wanted:
        allowed = [*allowed, (b"job", b",".join({b"%d" % event.job_id for event in wanted}))]
    else:
        allowed = [*allowed, (b"limit", b"1")]
    prefix, own_id = asker.server.store.prefix, secrets.token_hex(16).encode()
    rows: dict[Run, bytes] = {}
    async with asker.link(peer) as link:
        if await link.call(protocol.MATCH, prefix, own_id, *criteria.flatten(allowed)) is None:
            return []
        while page := await link.call(protocol.FETCH, prefix, own_id, b"%d" % _BATCH, b"RECORDS"):
            rows.update((run_of(decode(row)), row) for row in page)
    return [rows.pop(event.run) for event in wanted if event.run in rows]
