# SPDX-License-Identifier: MIT
"""The days that are still in Redis, as a pass sees them: each shard through one connection of the user that writes.

One connection means one server: what was read is what is dropped, or nothing is.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from slurmjcd import protocol
from slurmjcd.cold.files import DAY_S
from slurmjcd.errors import Unavailable
from slurmjcd.record import POSITION, decode_row
from slurmjcd.store.store import Store
from slurmjcd.store.storelink import StoreLink

_PAGE: Final = b"2000"
_ALL_IDS: Final = b"1-4294967295"  # with job ids asked for, a window is that of the end alone
_KEYS: Final = struct.Struct("<QII")
_ORDER: Final = [POSITION[name] for name in ("end", "job_id", "submit", "start", "restart_count")]
_CLUSTER: Final = POSITION["cluster"]


@dataclass(frozen=True, slots=True)
class Part:
    """A day in one shard; `stamp` is the module's word for what is in it."""

    shard: int
    jobs: int
    stamp: bytes
    expires: bool


def order_of(record: bytes) -> tuple[Any, ...]:
    """What the module sorts a record by."""
    row = decode_row(record)
    cluster = row[_CLUSTER]
    name = b"" if cluster is None else cluster.encode("utf-8", "surrogateescape")
    return (*(row[position] for position in _ORDER), cluster is not None, name)


class HotDays:
    """Blocks while it asks: for a process that does nothing else.

    Raises:
        Unavailable: Redis can't be asked; so do all of its methods.
    """

    def __init__(self, store: Store, runner: asyncio.Runner) -> None:
        self._store, self._runner = store, runner
        self._links: list[StoreLink] = []
        for shard in store.shards:
            link = shard.writer()
            self._links.append(link)
            runner.run(link.open())

    def close(self) -> None:
        for link in self._links:
            self._runner.run(link.close())
        self._runner.run(self._store.close())

    def days(self) -> dict[int, list[Part]]:
        """What there is, by day, oldest first."""
        found: dict[int, list[Part]] = {}
        for shard, link in enumerate(self._links):
            info = self._runner.run(link.info(segments=True))
            for row in info.fields.get("segment_sizes", []):
                if len(row) < 5:
                    raise Unavailable(
                        "the module in Redis is older than this slurmjcd: restart Redis with the new slurm_jobcomp.so"
                    )
                found.setdefault(row[0], []).append(Part(shard, row[1], row[4], row[3] is not None))
        return dict(sorted(found.items()))

    def rows(self, day: int, parts: list[Part], begun_before: int | None = None) -> Iterator[bytes]:
        """The records of a day in order of completion; with `begun_before` those of runs that began before then.

        Raises:
            Unavailable: also when there are fewer than the module said.
        """
        streams = [self._part(day, part, begun_before) for part in parts]
        yield from streams[0] if len(streams) == 1 else heapq.merge(*streams, key=order_of)

    def _part(self, day: int, part: Part, begun_before: int | None) -> Iterator[bytes]:
        link, prefix = self._links[part.shard], self._store.shards[part.shard].prefix
        query, end, count = secrets.token_hex(16).encode(), (day + 1) * DAY_S, 0
        words = [b"job", _ALL_IDS, b"start", b"%d" % (day * DAY_S)]
        if begun_before is None:
            words += [b"limit", b"%d" % part.jobs]  # rows come in order of their end
        else:
            words += [b"begun_before", b"%d" % begun_before]
        if self._call(link, protocol.MATCH, prefix, query, *words) is not None:
            while True:
                keys, rows = self._call(link, protocol.FETCH, prefix, query, _PAGE, b"RECORDS", b"KEYS")
                inside = sum(key[0] < end for key in _KEYS.iter_unpack(keys))
                yield from rows[:inside]
                count += inside
                if inside < len(rows):
                    self._call(link, protocol.FETCH, prefix, query, b"CLOSE")
                    break
                if not rows:
                    break
        if begun_before is None and count != part.jobs and not part.expires:
            raise Unavailable(f"of {part.jobs} jobs of a day in Redis {count} could be read")

    def drop(self, day: int, parts: list[Part]) -> bool:
        """Drop a day from Redis, where it is still what it was; False where it isn't any more, and stays."""
        unchanged = True
        for part in parts:
            link, prefix = self._links[part.shard], self._store.shards[part.shard].prefix
            words = (b"DAY", b"%d" % day, b"IF", part.stamp)
            unchanged &= self._call(link, protocol.TRIM, prefix, *words) is not None
        return unchanged

    def _call(self, link: StoreLink, *words: bytes) -> Any:
        return self._runner.run(link.call(*words))
