# SPDX-License-Identifier: MIT
"""Which part of the store a job belongs to when there are several, and under which prefix each lies. No I/O.

A shard's prefix has a hash tag, so all its keys are in one slot of a cluster. The tags are chosen so that shard i of N
lies in the i-th N-th of the slots: where slots are spread evenly over servers, shards are too.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

_LAYOUT: Final = re.compile(rb"([1-9]\d{0,2})(?:>([1-9]\d{0,2}))?")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the layout key says: how many shards there are, and how many there are about to be while jobs move."""

    shards: int
    moving_to: int | None = None

    def __bytes__(self) -> bytes:
        return b"%d" % self.shards + (b">%d" % self.moving_to if self.moving_to is not None else b"")


def layout_key(prefix: bytes) -> bytes:
    """The key that says how many shards lie under this configured prefix; on whatever server owns it."""
    return prefix + b":shards"


def parse_layout(value: bytes) -> Layout:
    """What the layout key holds: `3`, or `3>6` while shippers have to hold because jobs move from 3 to 6 shards.

    Raises:
        ValueError: something else.
    """
    match = _LAYOUT.fullmatch(value)
    if match is None:
        raise ValueError(f"'{value[:40].decode('ascii', 'backslashreplace')}' is no number of shards")
    return Layout(int(match[1]), int(match[2]) if match[2] else None)


def shard_of(job_id: int, shards: int) -> int:
    """The shard of a job, from 0; all its runs are there."""
    return job_id % shards


def name_of(shard: int, shards: int) -> str:
    """How a shard is named to people."""
    return f"shard {shard} of {shards} (job ids with id % {shards} = {shard})"


@functools.cache
def shard_prefixes(prefix: bytes, shards: int) -> tuple[bytes, ...]:
    """The prefix of each shard's keys: one shard has the configured one, as it is."""
    if shards == 1:
        return (prefix,)
    return tuple(_tagged(prefix, shard, shards) for shard in range(shards))


def _tagged(prefix: bytes, shard: int, shards: int) -> bytes:
    """The first of `{prefix-shard-shards.0}`, `.1`, … whose slot is where the shard should be."""
    number = 0
    while True:
        tagged = b"{%b-%d-%d.%d}" % (prefix, shard, shards, number)
        if slot_of(tagged) * shards // SLOTS == shard:
            return tagged
        number += 1


def slot_of(key: bytes) -> int:
    """The slot of a key, 0 to 16383, as a cluster counts them."""
    return key_slot(key)
