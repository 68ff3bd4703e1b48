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
from typing import Any, Final, Protocol

from slurmjcd import criteria, protocol
from slurmjcd.access.policy import Peer, View, restricted
from slurmjcd.backoff import Backoff
from slurmjcd.errors import Refused, Unavailable
from slurmjcd.query.asking import QueryServer
from slurmjcd.query.fanout import ask_all
from slurmjcd.query.sources import ShardSource
from slurmjcd.record import decode
from slurmjcd.store.storelink import StoreLink
from slurmjcd.watching.events import Event, EventId, Run, Waiter, format_id, parse_entries, parse_id, run_of
from slurmjcd.watching.feeds import EventFeeds, Place, format_place, in_turn
from slurmjcd.watching.jobwords import JobWords

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
    def share(self, peer: Peer) -> AbstractAsyncContextManager[None]: ...
    def waits(self, peer: Peer) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller wants to hear of. `place` None: what comes from now on."""

    place: Place | None
    most: int
    wait_s: float
    asked: criteria.Criteria  # without `job`
    words: JobWords | None


@dataclass(slots=True)
class Found:
    """What there was to tell: records in the order in which they were stored, up to `place`, an id of each shard."""

    place: list[EventId]
    records: list[bytes]
    lost: bool = False  # events between the caller's place and the first that is kept are gone


def parse(args: list[bytes], feeds: EventFeeds) -> Question:
    """The question in a request.

    Raises:
        Refused: it is none.
    """
    if not args[2].isdigit() or not 0 < int(args[2][:12]) <= _BATCH:
        raise Refused(f"<max> must be a number from 1 to {_BATCH}; usage: {USAGE}")
    if not args[3].isdigit() or int(args[3][:12]) > _MS_MAX:
        raise Refused(f"<milliseconds> must be a number from 0 to {_MS_MAX}; usage: {USAGE}")
    try:
        place = None if args[1] == b"$" else feeds.parse(args[1])
    except Refused as exc:
        raise Refused(f"{exc}; usage: {USAGE}") from None
    asked = criteria.pairs(args[4:])
    for name, _ in asked:
        if name in _IGNORED:
            raise Refused(f"SLURMJC.WATCH takes no criterion '{name.decode()}'")
    jobs = [value for name, value in asked if name == b"job"]
    rest = [(name, value) for name, value in asked if name != b"job"]
    return Question(place, int(args[2]), int(args[3]) / 1000, rest, JobWords(jobs) if jobs else None)


async def watch(asker: Asker, question: Question, peer: Peer, view: View) -> bytes:
    """The reply: event id to go on from, whether some were lost, records."""
    server = asker.server
    feed, config = server.feed, server.config
    async with asyncio.timeout(config.timeout_s):
        now = await feed.position()
        if question.place is None:  # a wrong question should fail now and not when a job ends
            await _check(asker, peer, question.asked, view)
    found = Found(list(now if question.place is None else question.place), [])
    waiter = Waiter(question.words, view)
    with asker.waits(peer):
        feed.add(waiter)
        asker.on_end = waiter.woken.set
        try:
            await _until_found(asker, question, peer, waiter, found)
        finally:
            asker.on_end = None
            feed.remove(waiter)
    return protocol.reply([format_place(tuple(found.place)), int(found.lost), *found.records])


async def _until_found(asker: Asker, question: Question, peer: Peer, waiter: Waiter, found: Found) -> None:
    feed, loop = asker.server.feed, asyncio.get_running_loop()
    deadline, backoff = loop.time() + question.wait_s, Backoff(longest_s=2.0)
    while True:
        waiter.woken.clear()
        waiter.after.clear()
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
            if not waiter.after:  # of what came nothing was for this one
                found.place = list(feed.last)
                return
        if waiter.after:
            found.place = [waiter.after.get(shard, last) for shard, last in enumerate(feed.last)]


async def _look(asker: Asker, question: Question, peer: Peer, found: Found) -> bool:
    """Look at the next events above the place; False when there are none."""
    server = asker.server
    streams: list[list[Event]] = []
    for shard, feed in enumerate(server.feed.feeds):
        found.place[shard] = min(found.place[shard], feed.last)  # above it is what Redis has lost
        events = feed.since(found.place[shard])
        streams.append(await _earlier(asker, peer, found, shard) if events is None else events)
    if not any(streams):
        return False
    view = await server.policy.view(peer.uid)
    place, wanted = list(found.place), list[tuple[int, Event]]()
    for shard, event in in_turn(streams, _BATCH):
        place[shard] = event.id
        words = question.words
        if view.allows(event.uid, event.account) and (words is None or words.match(event.job_id, event.shown)):
            wanted.append((shard, event))
            if len(wanted) == question.most:
                break
    if wanted:
        found.records = await _records(asker, peer, question.asked, view, wanted)
    found.place = place
    return True


async def _earlier(asker: Asker, peer: Peer, found: Found, shard: int) -> list[Event]:
    """Events of a shard that are no longer in memory."""
    feed, after = asker.server.feed.feeds[shard], found.place[shard]
    words = (b"XRANGE", feed.key, b"(" + format_id(after), b"+", b"COUNT", b"%d" % _BATCH)

    async def ask(link: StoreLink) -> tuple[dict[str, Any], Any]:
        return (await link.info()).fields, await link.call(*words)

    async with asker.share(peer):
        source = asker.server.watched[shard]
        ((info, entries),) = await ask_all([source], [source.ask(ask)])
    trimmed = info["events_added"] > info["events"]
    found.lost |= bool(after < parse_id(info["events_first"]) and trimmed and after > (0, 0))
    events = parse_entries(entries)
    if not events:
        found.place[shard] = feed.last
    return events


def _allowed(asked: criteria.Criteria, view: View) -> criteria.Criteria:
    """The criteria with the access policy in them.

    Raises:
        Refused: they are about jobs of others alone, which this caller may not see, or none.
    """
    allowed = restricted(asked, view)
    if allowed is None:
        raise Refused("you may see your own jobs only", code="NOPERM")
    return allowed


async def _check(asker: Asker, peer: Peer, asked: criteria.Criteria, view: View) -> None:
    """Raises Refused when the question is none; any shard can tell."""
    allowed = [*_allowed(asked, view), (b"limit", b"1")]
    source = asker.server.watched[0]
    async with asker.share(peer):
        await ask_all([source], [_rows(source, allowed)])


async def _records(
    asker: Asker, peer: Peer, asked: criteria.Criteria, view: View, wanted: list[tuple[int, Event]]
) -> list[bytes]:
    """The records of those events that meet the criteria."""
    allowed = _allowed(asked, view)
    by_shard: dict[int, set[bytes]] = {}
    for shard, event in wanted:
        by_shard.setdefault(shard, set()).add(b"%d" % event.job_id)
    sources = [asker.server.watched[shard] for shard in by_shard]
    questions = [
        _rows(source, [*allowed, (b"job", b",".join(jobs))])
        for source, jobs in zip(sources, by_shard.values(), strict=True)
    ]
    rows: dict[Run, bytes] = {}
    async with asker.share(peer):
        for found in await ask_all(sources, questions):
            rows |= found
    return [rows.pop(event.run) for _, event in wanted if event.run in rows]


async def _rows(source: ShardSource, asked: criteria.Criteria) -> dict[Run, bytes]:
    """The records that match in a shard, by the run that each reports."""
    own_id = secrets.token_hex(16).encode()
    rows: dict[Run, bytes] = {}

    async def ask(link: StoreLink) -> None:
        if await link.call(protocol.MATCH, source.prefix, own_id, *criteria.flatten(asked)) is None:
            return
        while page := await link.call(protocol.FETCH, source.prefix, own_id, b"%d" % _BATCH, b"RECORDS"):
            rows.update((run_of(decode(row)), row) for row in page)

    await source.ask(ask)
    return rows
