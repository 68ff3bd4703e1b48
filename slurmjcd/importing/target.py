# SPDX-License-Identifier: MIT
"""The store as an import sees it: what is there of these runs, and a place for those that are not.

Two reports are of one run when cluster, job id and start are the same: a job starts once in a second. Of a run that has
no start in one of them submit (where the source knows it) and end have to be the same instead. restart_count is not
asked for, no log has it; nor is submit of what started: slurmdbd takes the time of a resize for it.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from slurmjcd import protocol, record
from slurmjcd.config.settings import RedisSection
from slurmjcd.errors import BadRecord, ProtocolError, Unavailable
from slurmjcd.importing.item import Item
from slurmjcd.query.fanout import ask_all
from slurmjcd.record import peek_job_id
from slurmjcd.store.infosum import sum_infos
from slurmjcd.store.layout import StoreLayout
from slurmjcd.store.shards import shard_of
from slurmjcd.store.store import Shard, Store
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink

if TYPE_CHECKING:
    from slurmjcd.cold.reader import ColdDays

DAY_S: Final = 86_400
_PAGE: Final = b"2000"
_QUERY: Final = b"import-%d" % os.getpid()
_JOB_ID = record.POSITION["job_id"]
_RUN: Final = itemgetter(*(record.POSITION[name] for name in ("cluster", "submit", "start", "end", "restart_count")))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """What of a stored record decides whether another is of the same run."""

    cluster: str | None
    submit: int
    start: int
    end: int
    restart_count: int


def is_there(item: Item, run: Run) -> bool:
    """Whether that run is the item's, so that the item has nothing to add.

    A later report of a run, the same in all that is its identity, is what the store itself puts in the earlier one's
    place: slurmctld tells a run's end twice when it has died in between, and the second one is true.
    """
    fields, shift = item.fields, item.shift_s
    assert fields is not None
    if fields["end"] > run.end and _identity(fields) == (run.cluster, run.submit, run.start, run.restart_count):
        return False
    # upstream's plugin without slurmdbd names no cluster
    if run.cluster and (fields["cluster"] or "").lower() != run.cluster.lower():
        return False
    if fields["start"] and run.start:
        return _equal(fields["start"], run.start, shift)
    if item.knows_submit and run.submit and not _equal(fields["submit"], run.submit, shift):
        return False
    return _equal(fields["end"], run.end, shift)


def _identity(fields: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(fields[name] for name in ("cluster", "submit", "start", "restart_count"))


def _equal(one: int, other: int, shift_s: int) -> bool:
    return one == other or (shift_s != 0 and abs(one - other) == shift_s)


class Target:
    """Two connections to each shard: one asks, one stores. A batch is asked for while the one before it is stored.

    Args:
        files: those of older days, where there are any.
    """

    def __init__(self, store: Store, config: RedisSection, files: ColdDays | None = None) -> None:
        self._config, self._files = config, files
        self._asked: tuple[set[int], int] = (set(), 0)  # job ids, and since when their runs ended
        self._layout = StoreLayout(store, writes=True)
        self._parts = [_Part(shard) for shard in store.shards]
        self._stored = 0  # of a batch of which other shards refused their part
        self.watermarks: dict[str, int] = {}  # what every shard has

    async def open(self) -> None:
        """Connect.

        Raises:
            Unavailable: not now; the text says why.
        """
        await self._layout.claim()
        self.watermarks = sum_infos(await self._all([part.open() for part in self._parts])).watermarks

    async def close(self) -> None:
        for part in self._parts:
            for link in (part.asker, part.writer):
                await link.close()
        await self._layout.close()

    async def _all(self, questions: Sequence[Awaitable[T]]) -> list[T]:
        """As ask_all, of every shard."""
        return await ask_all(self._parts, questions)

    async def _of(self, part: _Part, question: Awaitable[T]) -> T:
        """An answer of one shard, whose errors name it."""
        try:
            return await question
        except Unavailable as exc:
            raise Unavailable(f"{part.name}: {exc}" if part.name else str(exc)) from exc

    # ---- what is there -------------------------------------------------------------------------------------------

    async def ask(self, items: list[Item]) -> None:
        """Begin to ask for the runs of these jobs; `known` takes the answer."""
        ids: list[set[int]] = [set() for _ in self._parts]
        for item in items:
            if item.fields is not None:
                ids[shard_of(item.fields["job_id"], len(ids))].add(item.fields["job_id"])
        # a run that is there and ended earlier is found all the same: its start is the same, so it isn't over before
        since = min((_earliest(item) for item in items if item.fields is not None), default=0)
        self._asked = set().union(*ids), since
        await self._all([part.ask(sorted(own), since) for part, own in zip(self._parts, ids, strict=True)])

    async def known(self) -> dict[int, list[Run]]:
        """The runs in the store, by job id, that `ask` asked for; in files too, where days go after a while."""
        found: dict[int, list[Run]] = defaultdict(list)
        await self._all([part.known(found) for part in self._parts])
        if self._files is not None and self._asked[0]:
            # behind Redis: what is moved meanwhile is in a file before it leaves there
            await asyncio.to_thread(_find_in_files, self._files, *self._asked, found)
        return found

    # ---- what comes ----------------------------------------------------------------------------------------------

    async def put(self, records: list[bytes], spool: tuple[str, int] | None) -> None:
        """Send records; an empty one stands for an item without. `spool`: the import's id and its first item's number.

        `stored` takes the answer. A batch that holds nothing moves the watermarks all the same. After BadRecord the
        batch is sent again to those that refused it.

        Raises:
            Unavailable: not now; jobs may be on their way to another number of shards.
        """
        await self._layout.check_writing()
        if spool is None:
            records = [blob for blob in records if blob]
        own: list[list[int]] = [[] for _ in self._parts]
        for place, blob in enumerate(records):
            if blob or len(own) == 1:
                own[shard_of(peek_job_id(blob, 0, len(blob)) or 0, len(own))].append(place)
        head = [b"TTL", b"%d" % self._config.ttl_s] if self._config.ttl_s else []
        for part, places in zip(self._parts, own, strict=True):
            if part.has_batch:
                continue
            words = head + (_numbers(spool, places, len(records)) if spool is not None else [])
            if places or spool is not None:
                await self._of(part, part.put(words, places, [records[place] for place in places]))

    async def stored(self) -> int:
        """How many of the last batch were new (or a later report of a run of the same source).

        Raises:
            BadRecord: a shard stored nothing of its part, because of one of the records.
            Unavailable: not now.
        """
        refused: BadRecord | None = None
        for part in self._parts:
            try:
                self._stored += await self._of(part, part.stored())
            except BadRecord as exc:
                refused = refused or BadRecord(part.places[exc.index], exc.why)
        if refused is not None:
            raise refused
        stored, self._stored = self._stored, 0
        for part in self._parts:
            part.has_batch = False
        return stored

    async def settle(self) -> None:
        """As `settle`, of what was stored here."""
        await self._all([settle(part.writer, self._config) for part in self._parts])


async def settle(link: StoreLink, config: RedisSection) -> None:
    """Wait until what was stored over this connection is as durable as the configuration wants.

    Raises:
        Unavailable: it isn't in time.
    """
    timeout_ms = b"%d" % int(config.reply_s * 600)
    if config.durability == "aof":
        words, wanted = [b"WAITAOF", b"1", b"0", timeout_ms], 1
    elif config.durability == "replicas":
        words, wanted = [b"WAIT", b"%d" % config.replicas, timeout_ms], config.replicas
    else:
        return
    reply = await link.call(*words)
    done = reply[0] if isinstance(reply, list) and reply else reply
    if not isinstance(done, int) or done < wanted:
        raise Unavailable(f"all is stored, but not yet as durable as redis.durability = '{config.durability}' wants")


class _Part:
    """One shard, and what is on its way to it."""

    def __init__(self, shard: Shard) -> None:
        self.name = shard.name if shard.count > 1 else ""
        self.asker, self.writer = shard.asker(master=True), shard.writer()
        self._prefix = shard.prefix
        self._asked = self._put_is_out = False
        self.has_batch = False  # of which another shard may have refused its part
        self.places: list[int] = []  # in the batch, of the records that went here

    async def open(self) -> StoreInfo:
        await self.asker.open()
        return await self.writer.open()

    async def ask(self, ids: list[int], since: int) -> None:
        self._asked = bool(ids)
        if ids:
            words = (b"job", _joined(ids), b"start", b"%d" % since)
            await self.asker.send([protocol.command(protocol.MATCH, self._prefix, _QUERY, *words)])

    async def known(self, found: dict[int, list[Run]]) -> None:
        """Put what was asked for into `found`."""
        if not self._asked or await self.asker.receive() is None:
            return
        while page := await self.asker.call(protocol.FETCH, self._prefix, _QUERY, _PAGE, b"RECORDS"):
            for blob in page:
                _add(blob, found)

    async def put(self, words: list[bytes], places: list[int], records: list[bytes]) -> None:
        self.places = places
        await self.writer.send([protocol.command(protocol.PUT, self._prefix, *words, b"RECORDS", *records)])
        self._put_is_out = True

    async def stored(self) -> int:
        """How many were new; 0 when nothing is on its way."""
        if not self._put_is_out:
            return 0
        self._put_is_out = False
        reply = await self.writer.receive()
        if not isinstance(reply, int):
            raise Unavailable("Redis replied to SLURMJC.PUT with no number")
        self.has_batch = True
        return reply


def _find_in_files(files: ColdDays, ids: set[int], since: int, found: dict[int, list[Run]]) -> None:
    for summary in files.summaries():
        if (summary.file.day + 1) * DAY_S > since:
            for records in files.runs_of(summary, ids):
                for blob in records.to_pylist():
                    _add(blob, found)


def _add(blob: bytes, found: dict[int, list[Run]]) -> None:
    try:
        row = record.decode_row(blob)
    except ProtocolError as exc:
        raise Unavailable(f"the store holds what is no record: {exc}") from exc
    found[row[_JOB_ID]].append(Run(*_RUN(row)))


def _numbers(spool: tuple[str, int], places: list[int], count: int) -> list[bytes]:
    """PUT's words about the numbers of these places in a batch of `count`."""
    source, first = spool
    words = [b"SPOOL", source.encode(), b"%d" % first]
    if len(places) < count:
        words += [b"LAST", b"%d" % (first + count - 1)]
        words += [b"AT", _joined(places)] if places else []
    return words


def _earliest(item: Item) -> int:
    """No report of the item's run ended before this."""
    fields = item.fields
    assert fields is not None
    return int(max(0, (fields["start"] or fields["end"]) - item.shift_s))


def _joined(ids: Iterable[int]) -> bytes:
    return b",".join(b"%d" % number for number in ids)
