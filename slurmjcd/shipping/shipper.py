# SPDX-License-Identifier: MIT
"""The shipper: takes the spool to Redis in order, several PUTs ahead of their replies, and starts over where Redis is.

Redis' watermark for this spool is the truth: it is read after each connect and every few seconds. When it has gone
back (failover, lost AOF tail, FLUSHALL) the spool is sent again from there. A store of several parts has a shipper for
each (shippers.py), which takes that part's records and leaves the others out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from slurmjcd import protocol
from slurmjcd.backoff import Backoff, Quiet
from slurmjcd.config.settings import RedisSection
from slurmjcd.errors import BadRecord, OutOfSequence, Refused, SpoolError, StoreError, Unavailable
from slurmjcd.health.metrics import Metrics
from slurmjcd.shipping.parts import Part, SpoolPart
from slurmjcd.store.layout import StoreLayout
from slurmjcd.store.store import Shard
from slurmjcd.store.storeinfo import StoreInfo, parse_info
from slurmjcd.store.storelink import StoreLink
from slurmjcd.store.witness import Had

log = logging.getLogger(__name__)

_CHECK_S: Final = 2.0  # how often the watermark is looked at
_CONFIRM_S: Final = 0.5  # how often a durable store is asked whether it is durable yet
_EMPTY_S: Final = 0.5  # how often a watermark is moved past numbers of other shards alone
NOT_YET: Final = "not connected yet"


class _ShardLog(logging.LoggerAdapter[logging.Logger]):
    """Says of which shard a line is, where there are several."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        shard = (self.extra or {})["shard"]
        return str(msg).replace("shipper: ", f"shipper: {shard}", 1), kwargs


@dataclass(slots=True)
class Sent:
    """A command whose reply hasn't come: a PUT of `parts`, or a question (`kind`) about what was sent before."""

    kind: str
    last: int  # highest sequence number sent when this went out
    parts: list[Part] = field(default_factory=list)

    @property
    def first(self) -> int:
        return self.parts[0].first

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)


class Shipper:
    """Runs until it is cancelled. `status` says in one line what it does."""

    def __init__(
        self, spool: SpoolPart, shard: Shard, layout: StoreLayout, config: RedisSection, metrics: Metrics
    ) -> None:
        self.spool, self.shard = spool, shard
        self._layout, self._config, self._metrics = layout, config, metrics
        self._log = _ShardLog(log, {"shard": "" if spool.is_whole else f"shard {shard.index} of {shard.count}: "})
        self._in_flight: deque[Sent] = deque()
        self._ready: deque[Part] = deque()  # read from the spool, not sent
        self._cursor = 0  # highest sequence number sent
        self._acked = 0  # highest that the store has replied to
        self._floor = 0  # highest that the store is known to have or to get from what is in flight
        self._had = 0  # highest that the store has ever replied to
        self._lost_up_to = 0  # the store once had records up to here, and has to get them again
        self._asked_at = self._checked_at = 0.0
        self._emptied_at = float("-inf")  # when a PUT without records was sent
        self._events = 0  # how many the store keeps; 0: it isn't told of them
        self._event_ms = 0
        self._quiet = Quiet()
        self.up = False
        self.status = NOT_YET
        self.address = shard.address  # where it was connected last
        self.info: StoreInfo | None = None
        self.drained = asyncio.Event()
        shard.witness.listen_to(self._what_it_had, self._look_now)

    def _what_it_had(self) -> Had:
        return Had(self.spool.state.spool_id, max(self._had, self._lost_up_to))

    def _look_now(self) -> None:
        """Somebody has seen that the store has less."""
        self._checked_at = float("-inf")
        self.spool.arrived.set()

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
        self.drained.set()
        self.status = str(exc)
        self._metrics.redis_failures.inc()
        if self._quiet.allows(type(exc).__name__ + str(exc)[:60]):
            self._log.warning("shipper: %s; %d records wait in the spool", exc, self.spool.backlog)

    async def _session(self, backoff: Backoff) -> None:
        link = self.shard.writer()
        self._in_flight.clear()
        try:
            info = await link.open()
            await self._layout.claim()
            self._refuse_weak_store(info)
            self._choose_events(info)
            await self._start_from(info)
            self._log.info(
                "shipper: connected to %s %s at %s, module %s; watermark %d of %d",
                info.text("server"), info.text("server_version"), link.address, info.text("module_version"),
                self._floor, self.spool.state.last,
            )  # fmt: skip
            self.up, self.status, self.address = True, "shipping", link.address
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
            self._log.warning(
                "shipper: maxmemory-policy of Redis is %s, so it may drop whole days: set noeviction", policy
            )

    def _choose_events(self, info: StoreInfo) -> None:
        """Tell of events as configured; not where the module is older and would refuse the PUT."""
        # jobs are spread evenly: the newest of all are the newest of each shard
        share = -(-self._config.events // self._config.shards)
        self._events = share if "events_last" in info.fields else 0
        if self._config.events and not self._events and self._quiet.allows("events"):
            self._log.warning(
                "shipper: the module in Redis knows no events yet: restart Redis with the new slurm_jobcomp.so"
            )

    async def _start_from(self, info: StoreInfo) -> None:
        """Put the cursor where the store is."""
        spool, state = self.spool, self.spool.state
        watermark = info.watermarks.get(state.spool_id, 0)
        self._floor = self._acked = watermark
        self._had = max(self._had, watermark)
        self._checked_at = time.monotonic()
        if watermark > state.last:
            self._log.warning(
                "shipper: Redis has records up to %d of this spool, but the file ends at %d, "
                "so it was set back, or another slurmjcd has a copy of it; all is sent again",
                watermark, state.last,
            )  # fmt: skip
            await spool.skip_to(watermark)
            self._seek(state.oldest - 1)
        elif watermark < spool.shipped:
            self._log.warning("shipper: Redis went back from record %d to %d: sending again", spool.shipped, watermark)
            self._replay(watermark)
            self._seek(watermark)
        elif self._config.durability == "memory":
            spool.confirm(watermark)
            self._seek(watermark)
        else:
            # what the last connection sent may not be durable yet, and only what this one sends can be waited for
            self._seek(spool.shipped)

    def _replay(self, watermark: int) -> None:
        """The store has records only up to `watermark` now."""
        self._metrics.replays.inc()
        self._lost_up_to = self.spool.shipped
        self.spool.rewound(watermark)

    async def wait_drained(self) -> None:
        """Return when all of this shard's is shipped, or can't be now."""
        while self.up and self.spool.backlog:
            self.drained.clear()
            await self.drained.wait()

    def why_incomplete(self) -> str | None:
        """Why the store lacks jobs that it has had before, None when it doesn't."""
        if self._acked >= self._lost_up_to:
            return None
        whose = "" if self.spool.is_whole else f"{self.shard.name}: "
        return f"{whose}Redis lost jobs and gets them again, {self._lost_up_to - self._acked} records are to come"

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
        self.spool.arrived.clear()
        if self.spool.state.last > (self._ready[-1].last if self._ready else self._cursor):
            return
        wait_s = _CHECK_S if self._is_confirmed else _CONFIRM_S
        if self._ready:
            wait_s = min(wait_s, max(0.0, self._emptied_at + _EMPTY_S - time.monotonic()))
        try:
            async with asyncio.timeout(wait_s):
                await self.spool.arrived.wait()
        except TimeoutError:
            pass
        self.drained.clear()

    async def _send_puts(self, link: StoreLink) -> None:
        while len(self._in_flight) < self._config.in_flight:
            await self._make_ready()
            if not self._ready:
                if self._cursor < self.spool.state.last and not self._in_flight:
                    self._close_hole()
                return
            if self._ready[0].damaged:
                await self._set_damaged_aside(self._ready[0])
                return
            if self._ready[0].count == 0 and self._holds_empty():
                return
            put = self._next_put()
            gap = put.first > self._floor + 1
            if gap:
                self._count_gap(self._floor + 1, put.first - 1)
            await link.send(self._put_command(put, gap=gap))
            self._in_flight.append(put)
            self._cursor = put.last
            self._floor = max(self._floor, put.last)

    async def _make_ready(self) -> None:
        """Have the next parts there; behind those that have no record, what comes after them."""
        while not any(part.count for part in self._ready):
            after = self._ready[-1].last if self._ready else self._cursor
            parts = await self.spool.read(after)
            if not parts:
                return
            self._ready.extend(parts)
            while len(self._ready) > 1 and not (self._ready[0].count or self._ready[1].count):
                one, other = self._ready.popleft(), self._ready.popleft()
                self._ready.appendleft(Part(one.first, other.last, 0, b""))

    def _holds_empty(self) -> bool:
        """Whether numbers of other shards wait a moment, so that one PUT takes many of them."""
        now = time.monotonic()
        if any(part.count for part in self._ready):
            return False
        if now - self._emptied_at < _EMPTY_S:
            return True
        self._emptied_at = now
        return False

    def _close_hole(self) -> None:
        """No batch has the numbers up to the spool's last: they were skipped."""
        self._cursor = self._acked = self.spool.state.last
        self.spool.confirm(self._cursor)

    def _next_put(self) -> Sent:
        """As many of the ready parts, in order and without hole, as one PUT may have."""
        parts = [self._ready.popleft()]
        records, size = parts[0].count, len(parts[0].frames)
        while self._ready:
            part = self._ready[0]
            records, size = records + part.count, size + len(part.frames)
            if (
                part.first != parts[-1].last + 1
                or part.damaged
                or records > self._config.batch_records
                or size > self._config.batch_bytes
            ):
                break
            parts.append(self._ready.popleft())
        return Sent("put", parts[-1].last, parts)

    def _put_command(self, put: Sent, *, gap: bool) -> list[bytes]:
        head = [protocol.PUT, self.shard.prefix]
        if self._config.ttl_s:
            head += [b"TTL", b"%d" % self._config.ttl_s]
        head += [b"SPOOL", self.spool.state.spool_id.encode(), b"%d" % put.first]
        if not self.spool.is_whole:
            head += [b"LAST", b"%d" % put.last]
            if self._events and put.count:
                offsets = (part.first - put.first + offset for part in put.parts for offset in part.offsets or ())
                head += [b"AT", ",".join(map(str, offsets)).encode()]
        if gap:
            head.append(b"GAP")
        if self._events:
            head += [b"EVENTS", b"%d" % self._events, b"%d" % self._now_ms()]
        head.append(b"RECORDS")
        lead = b"*%d\r\n" % (len(head) + put.count) + protocol.join_frames(head)
        return [lead, *(part.frames for part in put.parts)]

    def _now_ms(self) -> int:
        """The time that events get, which doesn't go back while this daemon runs."""
        self._event_ms = max(self._event_ms, time.time_ns() // 1_000_000)
        return self._event_ms

    @property
    def _is_confirmed(self) -> bool:
        return self._config.durability == "memory" or self.spool.shipped >= self._acked

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
            await self._layout.check_writing()
            await link.send([protocol.command(protocol.INFO, self.shard.prefix)])
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
            raise Unavailable(f"Redis at {self.shard.address} replied to SLURMJC.PUT with no number")
        metrics, now = self._metrics, time.monotonic()
        metrics.records_shipped.inc(sent.count)
        metrics.records_stored.inc(reply)
        metrics.records_duplicate.inc(max(0, sent.count - reply))
        for part in sent.parts:
            if part.committed_at and part.count:
                metrics.end_to_end_seconds.observe(now - part.committed_at)
        if self._acked < self._lost_up_to <= sent.last:
            self.shard.has_jobs_again()
        self._acked = max(self._acked, sent.last)
        self._had = max(self._had, sent.last)
        if self._config.durability == "memory":
            self.spool.confirm(sent.last)

    def _take_wait(self, sent: Sent, reply: object) -> None:
        done = reply[0] if isinstance(reply, list) and reply else reply
        wanted = 1 if self._config.durability == "aof" else self._config.replicas
        if isinstance(done, int) and done >= wanted:
            self.spool.confirm(sent.last)
            self.status = "shipping"
            return
        self.status = (
            f"records are in Redis but not yet durable as redis.durability = '{self._config.durability}' wants"
        )
        if self._quiet.allows("durability"):
            self._log.warning("shipper: %s", self.status)

    async def _take_info(self, sent: Sent, reply: object) -> None:
        self.info = info = parse_info(reply)
        watermark = info.watermarks.get(self.spool.state.spool_id, 0)
        if watermark < min(sent.last, self._acked):
            raise Unavailable(f"Redis lost records: its watermark is {watermark}, it had confirmed {self._acked}")
        if watermark > self._floor and self._quiet.allows("shared"):
            self._log.error(
                "shipper: another slurmjcd has a copy of this spool and ships under its name: "
                "Redis has records up to %d, %d were sent from here",
                watermark, self._floor,
            )  # fmt: skip

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
                raise Unavailable(f"Redis at {self.shard.address}: {exc}") from exc

    def _rewind(self, sent: Sent, expected: int) -> None:
        if not 1 <= expected < sent.first:
            raise Unavailable(f"Redis refused record {sent.first} and says that it expects {expected}: that can't be")
        self._log.warning("shipper: Redis expects record %d, not %d: going on from there", expected, sent.first)
        if expected <= self.spool.shipped:
            self._replay(expected - 1)
        self._floor = self._acked = expected - 1
        self._seek(expected - 1)

    async def _set_record_aside(self, sent: Sent, exc: BadRecord) -> None:
        index = exc.index
        for part in sent.parts:
            if index < part.count:
                number = await self.spool.set_aside(part, index, exc.why)
                self._log.error("shipper: record %d goes to quarantine: %s", number, exc.why)
                self._metrics.records_rejected.inc()
                break
            index -= part.count
        else:
            raise Unavailable(f"Redis refuses record {exc.index} of a batch of {sent.count}: {exc.why}") from exc
        self._floor = sent.first - 1 if self._acked < sent.first else self._acked
        self._seek(sent.first - 1)

    async def _set_damaged_aside(self, part: Part) -> None:
        records = await self.spool.set_damaged_aside(part)
        if records:
            self._log.error("shipper: records %d to %d are damaged on disk and go to quarantine", part.first, part.last)
        self._metrics.records_rejected.inc(records)
        self._ready.clear()

    def _count_gap(self, first: int, last: int) -> None:
        """Numbers that Redis lacks and the spool doesn't have any more (or never had)."""
        new = self.spool.count_lost(first, last)
        if not new:
            return
        self._metrics.record_gaps.inc(new)
        self._log.error(
            "shipper: records %d to %d are gone: Redis lost them and the replay window (spool.replay_s, "
            "spool.replay_bytes) has passed", first, last,
        )  # fmt: skip
