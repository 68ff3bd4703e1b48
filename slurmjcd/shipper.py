# SPDX-License-Identifier: MIT
"""The shipper: takes the spool to Redis in order, several PUTs ahead of their replies, and starts over where Redis is.

Redis' watermark for this spool is the truth: it is read after each connect and every few seconds. When it has gone
back (failover, lost AOF tail, FLUSHALL) the spool is sent again from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from slurmjcd import protocol
from slurmjcd.backoff import Backoff, Quiet
from slurmjcd.batch import Batch
from slurmjcd.config import RedisSection
from slurmjcd.errors import BadRecord, OutOfSequence, Refused, SpoolError, StoreError, Unavailable
from slurmjcd.metrics import Metrics
from slurmjcd.spool import Spool
from slurmjcd.store import Store
from slurmjcd.storeinfo import StoreInfo, parse_info
from slurmjcd.storelink import StoreLink

log = logging.getLogger(__name__)

_CHECK_S: Final = 2.0  # how often the watermark is looked at
_CONFIRM_S: Final = 0.5  # how often a durable store is asked whether it is durable yet
_READ_BYTES: Final = 8 * 1024 * 1024
NOT_YET: Final = "not connected yet"


@dataclass(slots=True)
class Sent:
    """A command whose reply hasn't come: a PUT of `batches`, or a question (`kind`) about what was sent before."""

    kind: str
    last: int  # highest sequence number sent when this went out
    batches: list[Batch] = field(default_factory=list)

    @property
    def first(self) -> int:
        return self.batches[0].first

    @property
    def count(self) -> int:
        return sum(batch.count for batch in self.batches)


class Shipper:
    """Runs until it is cancelled. `status` says in one line what it does."""

    def __init__(self, spool: Spool, store: Store, config: RedisSection, metrics: Metrics) -> None:
        self._spool, self._store, self._config, self._metrics = spool, store, config, metrics
        self._in_flight: deque[Sent] = deque()
        self._ready: deque[Batch] = deque()  # read from the spool, not sent
        self._cursor = 0  # highest sequence number sent
        self._acked = 0  # highest that the store has replied to
        self._floor = 0  # highest that the store is known to have or to get from what is in flight
        self._lost_up_to = 0  # the store once had records up to here, and has to get them again
        self._counted_lost = 0  # highest number that was counted as lost
        self._asked_at = self._checked_at = 0.0
        self._events = 0  # how many the store keeps; 0: it isn't told of them
        self._event_ms = 0
        self._quiet = Quiet()
        self.up = False
        self.status = NOT_YET
        self.info: StoreInfo | None = None
        self.drained = asyncio.Event()

    async def run(self) -> None:
        """Ship for ever; whatever Redis does, hold the records and try again."""
        backoff = Backoff(longest_s=2.0)  # one daemon a site: Redis is not overrun, and a backlog goes sooner
        while True:
            try:
                await self._session(backoff)
            except (StoreError, SpoolError) as exc:
                self._hold(exc)
            await asyncio.sleep(backoff.next_s())

    def _hold(self, exc: Exception) -> None:
        self.up = False
        self.status = str(exc)
        self._metrics.redis_up.set(0)
        self._metrics.redis_failures.inc()
        if self._quiet.allows(type(exc).__name__ + str(exc)[:60]):
            log.warning("shipper: %s; %d records wait in the spool", exc, self._spool.state.backlog)

    async def _session(self, backoff: Backoff) -> None:
        link = self._store.writer()
        self._in_flight.clear()
        try:
            info = await link.open()
            self._refuse_weak_store(info)
            self._choose_events(info)
            await self._start_from(info)
            log.info(
                "shipper: connected to %s %s at %s, module %s; watermark %d of %d",
                info.text("server"), info.text("server_version"), link.address, info.text("module_version"),
                self._floor, self._spool.state.last,
            )  # fmt: skip
            self.up, self.status = True, "shipping"
            self._metrics.redis_up.set(1)
            while True:
                acked = self._acked
                await self._step(link)
                if self._acked > acked or not self._in_flight:
                    backoff.reset()
        finally:
            self.up = False
            await link.close()

    # ---- where to start ------------------------------------------------------------------------------------------

    def _refuse_weak_store(self, info: StoreInfo) -> None:
        """Raise Unavailable when the store can't give the durability that is configured."""
        self.info = info
        wanted = self._config.durability
        if wanted == "aof" and not info.flag("waitaof"):
            raise Unavailable(
                f"redis.durability = 'aof' needs WAITAOF (Redis 7.2 or Valkey), {info.text('server')} "
                f"{info.text('server_version')} has none: use durability = 'memory' with appendfsync always"
            )
        if wanted == "aof" and "aof_enabled" in info.fields and not info.flag("aof_enabled"):
            raise Unavailable("redis.durability = 'aof' needs 'appendonly yes' in the server's configuration")
        policy = info.text("maxmemory_policy")
        if policy and policy != "noeviction" and self._quiet.allows("eviction"):
            log.warning("shipper: maxmemory-policy of Redis is %s, so it may drop whole days: set noeviction", policy)

    def _choose_events(self, info: StoreInfo) -> None:
        """Tell of events as configured; not where the module is older and would refuse the PUT."""
        self._events = self._config.events if "events_last" in info.fields else 0
        if self._config.events and not self._events and self._quiet.allows("events"):
            log.warning("shipper: the module in Redis knows no events yet: restart Redis with the new slurm_jobcomp.so")

    async def _start_from(self, info: StoreInfo) -> None:
        """Put the cursor where the store is."""
        spool, state = self._spool, self._spool.state
        watermark = info.watermarks.get(state.spool_id, 0)
        self._floor = self._acked = watermark
        self._checked_at = time.monotonic()
        if watermark > state.last:
            log.warning(
                "shipper: Redis has records up to %d of this spool, but the file ends at %d, "
                "so it was set back; all is sent again",
                watermark, state.last,
            )  # fmt: skip
            await spool.skip_to(watermark)
            self._seek(state.oldest - 1)
        elif watermark < state.shipped:
            log.warning("shipper: Redis went back from record %d to %d: sending again", state.shipped, watermark)
            self._replay(watermark)
            self._seek(watermark)
        elif self._config.durability == "memory":
            spool.confirm(watermark)
            self._seek(watermark)
        else:
            # what the last connection sent may not be durable yet, and only what this one sends can be waited for
            self._seek(state.shipped)

    def _replay(self, watermark: int) -> None:
        """The store has records only up to `watermark` now."""
        self._metrics.replays.inc()
        self._lost_up_to = self._spool.state.shipped
        self._spool.rewound(watermark)

    def why_incomplete(self) -> str | None:
        """Why the store lacks jobs that it has had before, None when it doesn't."""
        if self._acked >= self._lost_up_to:
            return None
        return f"Redis lost jobs and gets them again, {self._lost_up_to - self._acked} records are to come"

    def _seek(self, seq: int) -> None:
        self._cursor = seq
        self._ready.clear()

    # ---- sending and hearing back --------------------------------------------------------------------------------

    async def _step(self, link: StoreLink) -> None:
        """Send what there is room for, then take one reply; with nothing to do, wait for records."""
        await self._send_puts(link)
        await self._send_questions(link)
        if self._in_flight:
            await self._take_reply(link)
            return
        self.drained.set()
        self._spool.arrived.clear()
        if self._spool.state.last > self._cursor:
            return
        try:
            async with asyncio.timeout(_CHECK_S if self._is_confirmed else _CONFIRM_S):
                await self._spool.arrived.wait()
        except TimeoutError:
            pass
        self.drained.clear()

    async def _send_puts(self, link: StoreLink) -> None:
        while len(self._in_flight) < self._config.in_flight:
            if not self._ready:
                self._ready.extend(await self._spool.read(self._cursor, max_bytes=_READ_BYTES))
            if not self._ready:
                if self._cursor < self._spool.state.last and not self._in_flight:
                    self._close_hole()
                return
            if not self._ready[0].frames:
                await self._set_damaged_aside(self._ready[0])
                return
            put = self._next_put()
            gap = put.first > self._floor + 1
            if gap:
                self._count_gap(self._floor + 1, put.first - 1)
            await link.send(self._put_command(put, gap=gap))
            self._in_flight.append(put)
            self._cursor = put.last
            self._floor = max(self._floor, put.last)

    def _close_hole(self) -> None:
        """No batch has the numbers up to the spool's last: they were skipped."""
        self._cursor = self._acked = self._spool.state.last
        self._spool.confirm(self._cursor)

    def _next_put(self) -> Sent:
        """As many of the ready batches, in order and without hole, as one PUT may have."""
        batches = [self._ready.popleft()]
        records, size = batches[0].count, len(batches[0].frames)
        while self._ready:
            batch = self._ready[0]
            records, size = records + batch.count, size + len(batch.frames)
            if (
                batch.first != batches[-1].last + 1
                or not batch.frames
                or records > self._config.batch_records
                or size > self._config.batch_bytes
            ):
                break
            batches.append(self._ready.popleft())
        return Sent("put", batches[-1].last, batches)

    def _put_command(self, put: Sent, *, gap: bool) -> list[bytes]:
        head = [protocol.PUT, self._store.prefix]
        if self._config.ttl_s:
            head += [b"TTL", b"%d" % self._config.ttl_s]
        head += [b"SPOOL", self._spool.state.spool_id.encode(), b"%d" % put.first]
        if gap:
            head.append(b"GAP")
        if self._events:
            head += [b"EVENTS", b"%d" % self._events, b"%d" % self._now_ms()]
        head.append(b"RECORDS")
        lead = b"*%d\r\n" % (len(head) + put.count) + protocol.join_frames(head)
        return [lead, *(batch.frames for batch in put.batches)]

    def _now_ms(self) -> int:
        """The time that events get, which doesn't go back while this daemon runs."""
        self._event_ms = max(self._event_ms, time.time_ns() // 1_000_000)
        return self._event_ms

    @property
    def _is_confirmed(self) -> bool:
        return self._config.durability == "memory" or self._spool.state.shipped >= self._acked

    async def _send_questions(self, link: StoreLink) -> None:
        now = time.monotonic()
        asking = any(sent.kind == "wait" for sent in self._in_flight)
        if not self._is_confirmed and not asking and now - self._asked_at >= _CONFIRM_S:
            self._asked_at = now
            timeout_ms = b"%d" % int(self._config.reply_s * 600)
            if self._config.durability == "aof":
                words = [b"WAITAOF", b"1", b"0", timeout_ms]
            else:
                words = [b"WAIT", b"%d" % self._config.replicas, timeout_ms]
            await link.send([protocol.command(*words)])
            self._in_flight.append(Sent("wait", self._cursor))
        if now - self._checked_at >= _CHECK_S:
            self._checked_at = now
            if await link.is_outdated():
                raise Unavailable(link.why_outdated)
            await link.send([protocol.command(protocol.INFO, self._store.prefix)])
            self._in_flight.append(Sent("info", self._cursor))

    async def _take_reply(self, link: StoreLink) -> None:
        sent = self._in_flight[0]
        try:
            reply = await link.receive()
        except StoreError as exc:
            self._in_flight.popleft()
            await self._take_refusal(link, sent, exc)
            return
        self._in_flight.popleft()
        if sent.kind == "put":
            self._put_was_taken(sent, reply)
        elif sent.kind == "wait":
            self._take_wait(sent, reply)
        else:
            await self._take_info(sent, reply)

    def _put_was_taken(self, sent: Sent, reply: object) -> None:
        if not isinstance(reply, int):
            raise Unavailable(f"Redis at {self._store.address} replied to SLURMJC.PUT with no number")
        metrics, now = self._metrics, time.monotonic()
        metrics.records_shipped.inc(sent.count)
        metrics.records_stored.inc(reply)
        metrics.records_duplicate.inc(max(0, sent.count - reply))
        for batch in sent.batches:
            if batch.committed_at:
                metrics.end_to_end_seconds.observe(now - batch.committed_at)
        self._acked = max(self._acked, sent.last)
        if self._config.durability == "memory":
            self._spool.confirm(sent.last)

    def _take_wait(self, sent: Sent, reply: object) -> None:
        done = reply[0] if isinstance(reply, list) and reply else reply
        wanted = 1 if self._config.durability == "aof" else self._config.replicas
        if isinstance(done, int) and done >= wanted:
            self._spool.confirm(sent.last)
            self.status = "shipping"
            return
        self.status = (
            f"records are in Redis but not yet durable as redis.durability = '{self._config.durability}' wants"
        )
        if self._quiet.allows("durability"):
            log.warning("shipper: %s", self.status)

    async def _take_info(self, sent: Sent, reply: object) -> None:
        self.info = info = parse_info(reply)
        watermark = info.watermarks.get(self._spool.state.spool_id, 0)
        if watermark < min(sent.last, self._acked):
            raise Unavailable(f"Redis lost records: its watermark is {watermark}, it had confirmed {self._acked}")

    # ---- when Redis says no --------------------------------------------------------------------------------------

    async def _take_refusal(self, link: StoreLink, sent: Sent, exc: StoreError) -> None:
        """Take the replies to what was sent behind it (they can't have succeeded), then see what was wrong."""
        if isinstance(exc, Unavailable) and not link.is_open:
            raise exc
        while self._in_flight:
            self._in_flight.popleft()
            try:
                await link.receive()
            except (OutOfSequence, BadRecord, Refused):
                continue
            except Unavailable:
                if not link.is_open:
                    raise
        if sent.kind != "put":
            raise Unavailable(str(exc)) from exc
        match exc:
            case OutOfSequence():
                self._rewind(sent, exc.expected)
            case BadRecord():
                await self._set_record_aside(sent, exc)
            case Unavailable():
                raise exc
            case _:
                raise Unavailable(f"Redis at {self._store.address}: {exc}") from exc

    def _rewind(self, sent: Sent, expected: int) -> None:
        state = self._spool.state
        if not 1 <= expected < sent.first:
            raise Unavailable(f"Redis refused record {sent.first} and says that it expects {expected}: that can't be")
        log.warning("shipper: Redis expects record %d, not %d: going on from there", expected, sent.first)
        if expected <= state.shipped:
            self._replay(expected - 1)
        self._floor = self._acked = expected - 1
        self._seek(expected - 1)

    async def _set_record_aside(self, sent: Sent, exc: BadRecord) -> None:
        index = exc.index
        for batch in sent.batches:
            if index < batch.count:
                log.error("shipper: record %d goes to quarantine: %s", batch.first + index, exc.why)
                await self._spool.quarantine(batch, {index: exc.why})
                self._metrics.records_rejected.inc()
                break
            index -= batch.count
        else:
            raise Unavailable(f"Redis refuses record {exc.index} of a batch of {sent.count}: {exc.why}") from exc
        self._floor = sent.first - 1 if self._acked < sent.first else self._acked
        self._seek(sent.first - 1)

    async def _set_damaged_aside(self, batch: Batch) -> None:
        log.error("shipper: records %d to %d are damaged on disk and go to quarantine", batch.first, batch.last)
        await self._spool.quarantine_damaged(batch)
        self._metrics.records_rejected.inc(batch.count)
        self._ready.clear()

    def _count_gap(self, first: int, last: int) -> None:
        """Numbers that Redis lacks and the spool doesn't have any more (or never had)."""
        new = last - max(first, self._counted_lost + 1) + 1
        if new <= 0:
            return
        self._counted_lost = last
        self._spool.count_lost(new)
        self._metrics.record_gaps.inc(new)
        log.error(
            "shipper: records %d to %d are gone: Redis lost them and the replay window (spool.replay_s, "
            "spool.replay_bytes) has passed", first, last,
        )  # fmt: skip
