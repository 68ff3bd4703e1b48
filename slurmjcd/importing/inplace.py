# SPDX-License-Identifier: MIT
"""slurm-redis' hashes become records where they lie: SLURMJC.TAKE, slice by slice, until a pass finds none.

The module stores each record and deletes its hash with one effect: a kill at any moment leaves each job in one place;
what clients write meanwhile under the same keys goes before or after, never between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from slurmjcd import protocol
from slurmjcd.config.settings import RedisSection
from slurmjcd.errors import Unavailable
from slurmjcd.importing.target import settle
from slurmjcd.store.store import Store
from slurmjcd.store.storelink import StoreLink

_SLICE: Final = b"50"  # keys looked at, fewer where that takes long: Redis answers nobody else meanwhile
_PASSES: Final = 4  # a client that goes on writing must not keep us for ever
_PARTS: Final = 6  # of TAKE's reply


@dataclass(slots=True)
class Taken:
    """What became of each hash. `early` and `refused` are still there, as they were."""

    stored: int = 0
    already_there: int = 0
    early: int = 0  # ended longer ago than the store keeps jobs
    refused: dict[str, str] = field(default_factory=dict)  # key and reason
    index_sets: int = 0  # of upstream's that went
    index_sets_left: int = 0
    nameless: int = 0  # jobs in the store that don't name their cluster

    @property
    def left(self) -> int:
        return self.early + len(self.refused)


async def take_all(
    store: Store, config: RedisSection, *, cluster: str, dry: bool, tick: Callable[[int], None]
) -> Taken:
    """Take in every hash there is. `cluster` is for those that don't name theirs, now and later.

    Raises:
        StoreError: not all of it; done again it goes on.
    """
    options = [b"CLUSTER", cluster.encode()]
    if config.ttl_s:
        options += [b"TTL", b"%d" % config.ttl_s, b"SINCE", b"%d" % max(0, int(time.time()) - config.ttl_s)]
    taken = Taken()
    link = store.writer()
    try:
        await link.open()
        if dry:
            await _pass(link, store.prefix, [*options, b"DRYRUN"], taken, tick)
            return taken
        for number in range(_PASSES):
            before = taken.stored + taken.already_there
            # the sets only when nothing is left that upstream's module could find by them
            indexes = [b"INDEXES"] if number and not taken.left else []
            await _pass(link, store.prefix, options + indexes, taken, tick)
            if number and taken.stored + taken.already_there == before:
                break
        await settle(link, config)
        taken.nameless = await _nameless(link, store.prefix)
    finally:
        await link.close()
    return taken


async def _pass(
    link: StoreLink, prefix: bytes, options: list[bytes], taken: Taken, tick: Callable[[int], None]
) -> None:
    """Look at every key once. What was left the last time is met again."""
    cursor = b"0"
    early = sets = 0
    refused: dict[str, str] = {}
    while True:
        reply = await link.call(protocol.TAKE, prefix, cursor, _SLICE, *options)
        cursor, stored, known, ended, found, bad = _checked(reply)
        taken.stored += stored
        taken.already_there += known
        early += ended
        sets += found
        refused |= {_text(key): _text(why) for key, why in zip(bad[::2], bad[1::2], strict=True)}
        tick(stored + known)
        if cursor == b"0":
            break
    taken.early, taken.refused = early, refused
    if b"INDEXES" in options:
        taken.index_sets += sets
        sets = 0
    taken.index_sets_left = sets


async def _nameless(link: StoreLink, prefix: bytes) -> int:
    """How many jobs nobody finds who asks for a cluster."""
    rows = await link.call(protocol.AGG, prefix, b"BY", b"state", b"cluster", b"")
    return sum(row[1] for row in rows)


def _checked(reply: Any) -> list[Any]:
    if not isinstance(reply, list) or len(reply) != _PARTS:
        raise Unavailable(f"the reply to {protocol.TAKE.decode()} is not the one this slurmjcd knows")
    return reply


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
