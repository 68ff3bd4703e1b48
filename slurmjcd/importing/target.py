# SPDX-License-Identifier: MIT
"""The store as an import sees it: what is there of these runs, and a place for those that are not.

Two reports are of one run when cluster, job id and start are the same: a job starts once in a second. Of a run that has
no start in one of them submit (where the source knows it) and end have to be the same instead. restart_count is not
asked for, no log has it; nor is submit of what started: slurmdbd takes the time of a resize for it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from slurmjcd import protocol, record
from slurmjcd.config import RedisSection
from slurmjcd.errors import ProtocolError, Unavailable
from slurmjcd.importing.item import Item
from slurmjcd.store import Store
from slurmjcd.storelink import StoreLink

_PAGE: Final = b"2000"
_QUERY: Final = b"import-%d" % os.getpid()
_JOB_ID = record.POSITION["job_id"]
_RUN: Final = itemgetter(*(record.POSITION[name] for name in ("cluster", "submit", "start", "end", "restart_count")))


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
    """Two connections: one asks, one stores. Each batch is asked for while the one before it is stored."""

    def __init__(self, store: Store, config: RedisSection) -> None:
        self._store, self._config = store, config
        self._asker, self._writer = store.asker(master=True), store.writer()
        self._put_is_out = False
        self._asked = False
        self.watermarks: dict[str, int] = {}

    async def open(self) -> None:
        """Connect.

        Raises:
            Unavailable: not now; the text says why.
        """
        await self._asker.open()
        self.watermarks = (await self._writer.open()).watermarks

    async def close(self) -> None:
        for link in (self._asker, self._writer):
            await link.close()

    # ---- what is there -------------------------------------------------------------------------------------------

    async def ask(self, items: list[Item]) -> None:
        """Begin to ask for the runs of these jobs; `known` takes the answer."""
        ids = sorted({item.fields["job_id"] for item in items if item.fields is not None})
        self._asked = bool(ids)
        if not ids:
            return
        # a run that is there and ended earlier is found all the same: its start is the same, so it isn't over before
        since = min(_earliest(item) for item in items if item.fields is not None)
        await self._asker.send(
            [
                protocol.command(
                    protocol.MATCH, self._store.prefix, _QUERY, b"job", _joined(ids), b"start", b"%d" % since
                )
            ]
        )

    async def known(self) -> dict[int, list[Run]]:
        """The runs in the store, by job id, that `ask` asked for."""
        found: dict[int, list[Run]] = defaultdict(list)
        if not self._asked or await self._asker.receive() is None:
            return found
        fetch = (protocol.FETCH, self._store.prefix, _QUERY, _PAGE, b"RECORDS")
        while page := await self._asker.call(*fetch):
            for blob in page:
                try:
                    row = record.decode_row(blob)
                except ProtocolError as exc:
                    raise Unavailable(f"the store holds what is no record: {exc}") from exc
                found[row[_JOB_ID]].append(Run(*_RUN(row)))
        return found

    # ---- what comes ----------------------------------------------------------------------------------------------

    async def put(self, records: list[bytes], spool: tuple[str, int] | None) -> None:
        """Send records; an empty one stands for an item without. `spool`: the import's id and its first item's number.

        `stored` takes the answer. A batch that holds nothing moves the watermark all the same.
        """
        head = [protocol.PUT, self._store.prefix]
        if self._config.ttl_s:
            head += [b"TTL", b"%d" % self._config.ttl_s]
        if spool is not None:
            head += [b"SPOOL", spool[0].encode(), b"%d" % spool[1]]
        else:
            records = [blob for blob in records if blob]
        if not records:
            return
        await self._writer.send([protocol.command(*head, b"RECORDS", *records)])
        self._put_is_out = True

    async def stored(self) -> int:
        """How many of the last batch were new (or a later report of a run of the same source).

        Raises:
            BadRecord: nothing was stored, because of one of them.
            Unavailable: not now.
        """
        if not self._put_is_out:
            return 0
        self._put_is_out = False
        reply = await self._writer.receive()
        if not isinstance(reply, int):
            raise Unavailable("Redis replied to SLURMJC.PUT with no number")
        return reply

    async def settle(self) -> None:
        """As `settle`, of what was stored here."""
        await settle(self._writer, self._config)


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


def _earliest(item: Item) -> int:
    """No report of the item's run ended before this."""
    fields = item.fields
    assert fields is not None
    return int(max(0, (fields["start"] or fields["end"]) - item.shift_s))


def _joined(ids: Iterable[int]) -> bytes:
    return b",".join(b"%d" % number for number in ids)
