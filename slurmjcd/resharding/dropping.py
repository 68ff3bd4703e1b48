# SPDX-License-Identifier: MIT
"""Takes jobs out of shards that are not in use."""

from __future__ import annotations

from typing import Final

from slurmjcd import protocol
from slurmjcd.resharding.sides import Side

_FOR_EVER: Final = b"%d" % 2**33  # later than any day of a record
_TRIM_S: Final = 600.0


async def clear(side: Side, day: int | None = None) -> int:
    """Take out what the shards of a side hold, or only a day of it; how many jobs went, of a whole side.

    Raises:
        StoreError: not all of it.
    """
    gone = 0
    async with side.use() as links:
        for link, prefix in zip(links, side.prefixes, strict=True):
            if day is not None:
                await link.call(b"UNLINK", b"%b:seg:%d" % (prefix, day))
                continue
            gone += await link.call(protocol.TRIM, prefix, b"BEFORE", _FOR_EVER, timeout_s=_TRIM_S)
            for name in (b":spools", b":events"):
                await link.call(b"UNLINK", prefix + name)
    return gone
