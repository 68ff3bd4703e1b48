# SPDX-License-Identifier: MIT
"""Is there room for the jobs a second time, on each server that gets some?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from slurmjcd.resharding.layoutkeys import MoveError
from slurmjcd.store.storeinfo import StoreInfo

_MIB = 1024 * 1024
# of what the old shards take; a shard of a few jobs takes more for each of them than one of many
_MORE = 1.1


def check(source: Sequence[StoreInfo], target: Sequence[StoreInfo]) -> None:
    """See that each server of the new shards can take its part.

    Without maxmemory the limit is what the machine has in all, as Redis sees it.

    Raises:
        MoveError: one has not enough; the text says how much is missing.
    """
    share = sum(_number(info, "bytes") for info in source) * _MORE / len(target)
    need: dict[str, float] = defaultdict(float)
    servers: dict[str, StoreInfo] = {}
    for info in target:
        server = info.text("run_id")
        need[server] += max(0.0, share - _number(info, "bytes"))  # what an earlier run copied is there already
        servers[server] = info
    for server, missing in need.items():
        info = servers[server]
        limit = _number(info, "maxmemory") or _number(info, "total_system_memory")
        used = _number(info, "used_memory")
        if limit and used + missing > limit:
            what = "maxmemory" if _number(info, "maxmemory") else "the machine's memory"
            raise MoveError(
                f"no room: the new shards on the server in {info.text('dir') or 'one place'} need "
                f"{missing / _MIB:,.0f} MiB beside the {used / _MIB:,.0f} MiB in use, its limit ({what}) is "
                f"{limit / _MIB:,.0f} MiB: jobs are there twice until the old shards are dropped"
            )


def _number(info: StoreInfo, name: str) -> int:
    value = info.fields.get(name)
    return value if isinstance(value, int) else 0
