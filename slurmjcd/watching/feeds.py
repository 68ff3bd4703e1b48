# SPDX-License-Identifier: MIT
"""The streams of all shards followed as one. A place in them is an id of each, in the order of the shards.

Each stream is in the order in which its jobs were stored. Between streams nothing is certain but that an event which
is read later was, or will be, told later; so what is there already is told in the order of the ids, which are times.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from itertools import islice

from slurmjcd.errors import Refused, Unavailable
from slurmjcd.query.fanout import ask_all
from slurmjcd.query.sources import ShardSource
from slurmjcd.store.store import Store
from slurmjcd.watching.events import Event, EventFeed, EventId, Waiter, format_id, parse_id

Place = tuple[EventId, ...]


class EventFeeds:
    """`await position()` starts them; `add`ed waiters are woken."""

    def __init__(self, store: Store, shards: list[ShardSource]) -> None:
        self._sources = shards
        self.feeds = [EventFeed(shard, store.reply_s) for shard in store.masters]

    def switch_off(self, off: bool) -> None:
        """`off`: the configuration says that there are no events."""
        for feed in self.feeds:
            feed.off = off

    async def position(self) -> Place:
        """The last event of each so far.

        Raises:
            Unavailable: one can't be followed now; the text says which and why.
            Refused: there are no events here.
        """
        if len(self.feeds) == 1:
            return (await self.feeds[0].position(),)
        return tuple(await ask_all(self._sources, [feed.position() for feed in self.feeds]))

    @property
    def last(self) -> Place:
        """Up to where they have been followed."""
        return tuple(feed.last for feed in self.feeds)

    def add(self, waiter: Waiter) -> None:
        for feed in self.feeds:
            feed.add(waiter)

    def remove(self, waiter: Waiter) -> None:
        for feed in self.feeds:
            feed.remove(waiter)

    async def close(self) -> None:
        for feed in self.feeds:
            await feed.close()

    def parse(self, text: bytes) -> Place:
        """A place as a caller gives it; `0-0` is the beginning of all.

        Raises:
            Refused: it is none, or one of a store of other parts.
        """
        try:
            ids = tuple(parse_id(part) for part in text.split(b",", len(self.feeds)))
        except Unavailable:
            raise Refused("the id of an event is '$' or such as 1772366400000-0") from None
        if ids == ((0, 0),):
            return ids * len(self.feeds)
        if len(ids) != len(self.feeds):
            shards = len(self.feeds)
            raise Refused(f"that is a place in {len(ids)} streams of events, redis.shards is {shards}: begin with '$'")
        return ids


def format_place(place: Place) -> bytes:
    return b",".join(map(format_id, place))


def in_turn(streams: Sequence[Sequence[Event]], most: int) -> list[tuple[int, Event]]:
    """The next events of several streams, at most so many, by id; each with the number of its stream."""
    numbered = [[(number, event) for event in stream[:most]] for number, stream in enumerate(streams)]
    return list(islice(merge(*numbered, key=lambda entry: (entry[1].id, entry[0])), most))
