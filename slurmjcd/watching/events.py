# SPDX-License-Identifier: MIT
"""A shard's stream of completed jobs, followed for all who wait: one blocked read, however many they are.

It follows while somebody waits, and for a minute longer; what came lately is kept in memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from slurmjcd.access.policy import View
from slurmjcd.backoff import Backoff, Quiet
from slurmjcd.errors import Refused, StoreError, Unavailable
from slurmjcd.store.store import Shard
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink
from slurmjcd.watching.jobwords import JobWords, Shown

log = logging.getLogger(__name__)

_BLOCK_S: Final = 2.0
_IDLE_S: Final = 60.0
_KEPT: Final = 10_000  # events in memory
_BATCH: Final = b"500"
_FIELD: Final = b"event"  # of an entry: a JSON object
_decode: Final = json.JSONDecoder().decode

EventId = tuple[int, int]
Run = tuple[str, int, int, int, int]  # cluster, job id, submit, start, restarts


@dataclass(frozen=True, slots=True)
class Event:
    """What an entry of the stream says, as far as it decides who hears of it."""

    id: EventId
    run: Run
    shown: Shown
    uid: int
    account: str

    @property
    def job_id(self) -> int:
        return self.run[1]


@dataclass(eq=False, slots=True)
class Waiter:
    """Somebody who waits. `woken` is set when something came that may be for them.

    `after` says by shard what the first of it is above; of other shards nothing came for them.
    """

    words: JobWords | None  # None: for any job
    view: View
    after: dict[int, EventId] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self, shard: int, event: Event, before: EventId) -> None:
        if shard not in self.after and self.view.allows(event.uid, event.account):
            self.after[shard] = before
            self.woken.set()


class EventFeed:
    """`await position()` starts it; then `since` has what came, and `add`ed waiters are woken."""

    def __init__(self, shard: Shard, reply_s: float) -> None:
        self._shard = shard
        self._block_ms = b"%d" % max(1, int(min(_BLOCK_S, reply_s / 2) * 1000))
        self.off = False  # whether the configuration says that there are none
        self.key = shard.prefix + b":events"
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._any: set[Waiter] = set()
        self._by_number: dict[int, set[Waiter]] = {}
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._tried = asyncio.Event()
        self._quiet = Quiet()
        self._why = ""
        self._used_s = 0.0
        self.last: EventId = (0, 0)  # up to here it has followed
        self._floor: EventId = (0, 0)  # all events above this one are in memory

    # ---- for those who wait --------------------------------------------------------------------------------------

    async def position(self) -> EventId:
        """The last event so far.

        Raises:
            Unavailable: the stream can't be followed now; the text says why.
            Refused: there are no events here.
        """
        if self.off:
            raise Refused("events are off: redis.events is 0 in slurmjcd.toml", code="NOEVENTS")
        self._used_s = time.monotonic()
        if self._task is None:
            self._tried.clear()
            self._task = asyncio.get_running_loop().create_task(self._run(), name="events")
            self._task.add_done_callback(self._ended)
        await self._tried.wait()
        if not self._connected.is_set():
            raise Unavailable(self._why)
        return self.last

    def since(self, cursor: EventId) -> list[Event] | None:
        """The events above `cursor`, None when they are no longer in memory."""
        if cursor < self._floor:
            return None
        kept = self._kept
        return list(kept)[bisect_right(kept, cursor, key=lambda event: event.id) :] if cursor < self.last else []

    def add(self, waiter: Waiter) -> None:
        for waiters in self._places(waiter):
            waiters.add(waiter)

    def remove(self, waiter: Waiter) -> None:
        self._used_s = time.monotonic()
        for waiters in self._places(waiter):
            waiters.discard(waiter)
        if waiter.words is not None and waiter.words.numbers is not None:
            for number in waiter.words.numbers:
                if not self._by_number[number]:
                    del self._by_number[number]

    def _places(self, waiter: Waiter) -> list[set[Waiter]]:
        if waiter.words is None or waiter.words.numbers is None:
            return [self._any]
        return [self._by_number.setdefault(number, set()) for number in waiter.words.numbers]

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ---- following -----------------------------------------------------------------------------------------------

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
            self._connected.clear()
        if not task.cancelled() and task.exception() is not None:
            self._why = "following the stream of events ended by a bug, see the log"
            log.error("a bug in slurmjcd: the stream of events is not followed", exc_info=task.exception())
        self._tried.set()

    @property
    def _idle(self) -> bool:
        return not self._any and not self._by_number and time.monotonic() - self._used_s > _IDLE_S

    async def _run(self) -> None:
        backoff, first = Backoff(longest_s=2.0), True
        while not self._idle:
            link = self._shard.asker()
            try:
                self._start(await link.open(), first)
                first = False
                while not self._idle:
                    await self._read(link)
                    if await link.is_outdated():
                        raise Unavailable(link.why_outdated)
                    backoff.reset()
                self._task = None  # whoever comes from here on starts another one
                self._connected.clear()
                return
            except StoreError as exc:
                self._connected.clear()
                self._why = str(exc)
                if self._quiet.allows(self._why[:60]):
                    log.warning("events: %s", exc)
                self._tried.set()
            finally:
                await link.close()
            await asyncio.sleep(backoff.next_s())

    def _start(self, info: StoreInfo, first: bool) -> None:
        if "events_last" not in info.fields:
            raise Unavailable("the module in Redis knows no events yet: restart Redis with the new slurm_jobcomp.so")
        last = parse_id(info.fields["events_last"])
        if first or last < self.last:  # in Redis there is less than there was
            self.last = self._floor = last
            self._kept.clear()

    async def _read(self, link: StoreLink) -> None:
        words = [b"XREAD", b"COUNT", _BATCH, b"BLOCK", self._block_ms, b"STREAMS", self.key, format_id(self.last)]
        if not self._connected.is_set():
            # a user who may not read it is told so before anyone waits
            await link.call(b"XREAD", b"COUNT", b"1", b"STREAMS", self.key, b"$")
            self._connected.set()
            self._tried.set()
        reply = await link.call(*words)
        if reply:
            entries = reply[0][1]
            self._take(parse_entries(entries))
            self.last = parse_id(entries[-1][0])  # which may be none of ours

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if len(self._kept) == _KEPT:
                self._floor = self._kept[0].id
            self._kept.append(event)
            before, self.last = self.last, event.id
            for waiter in self._any:
                waiter.wake(self._shard.index, event, before)
            for number in {event.job_id, event.shown.number}:
                for waiter in self._by_number.get(number, ()):
                    waiter.wake(self._shard.index, event, before)


def parse_id(text: bytes) -> EventId:
    """The id of an entry.

    Raises:
        Unavailable: it is none.
    """
    ms, dash, seq = text.partition(b"-")
    if not (dash and ms.isdigit() and seq.isdigit() and len(ms) <= 20 and len(seq) <= 20):
        raise Unavailable("what Redis calls the id of an event is none")
    return int(ms), int(seq)


def format_id(event_id: EventId) -> bytes:
    return b"%d-%d" % event_id


def parse_entries(entries: Iterable[Any]) -> list[Event]:
    """The events of a reply; an entry that somebody else put there is left out."""
    events = []
    for name, flat in entries:
        try:
            events.append(_event(parse_id(name), flat))
        except (KeyError, TypeError, ValueError, RecursionError):
            log.warning("events: entry %r is none of ours", name[:40])
    return events


def _event(event_id: EventId, flat: list[bytes] | None) -> Event:
    """What an entry says; its field and value are `flat`, None when it was deleted meanwhile.

    Raises:
        KeyError, TypeError, ValueError, RecursionError: it is not what the module writes.
    """
    if not flat or flat[0] != _FIELD:
        raise ValueError("another field")
    said = _decode(flat[1].decode())
    job_id, submit, start = said["job_id"] or 0, said["submit"] or 0, said["start"] or 0
    restarts, uid = said["restarts"] or 0, said["uid"] or 0
    cluster, account = said["cluster"] or "", said["account"] or ""
    if not type(job_id) is type(submit) is type(start) is type(restarts) is type(uid) is int:
        raise TypeError("a number is none")
    if not type(cluster) is type(account) is str:
        raise TypeError("a text is none")
    return Event(event_id, (cluster, job_id, submit, start, restarts), Shown.of(said["job"]), uid, account)


def run_of(job: dict[str, Any]) -> Run:
    """The run that a decoded record reports, as events name it."""
    cluster = job["cluster"] or ""
    if not cluster.isascii():  # an event has U+FFFD for what is no UTF-8
        cluster = cluster.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return cluster, job["job_id"], job["submit"] or 0, job["start"] or 0, job["restart_count"] or 0
