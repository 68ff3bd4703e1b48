# SPDX-License-Identifier: MIT
"""The daemon's side of cold days: looks for days that are due, starts the mover, and tells how it goes.

Imported where cold.dir is set only, since it needs pyarrow.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from typing import Any, Final

from slurmjcd.backoff import Quiet
from slurmjcd.cold.engine import Engine
from slurmjcd.cold.files import DAY_S, name_of
from slurmjcd.cold.mark import MarkedDirectory
from slurmjcd.cold.reader import ColdDays
from slurmjcd.cold.tier import ColdTier
from slurmjcd.config.settings import Config
from slurmjcd.errors import StoreError
from slurmjcd.health.metrics import Metrics
from slurmjcd.query.fanout import ask_all
from slurmjcd.query.sources import ShardSource, shard_sources
from slurmjcd.store.store import Store

log = logging.getLogger(__name__)

_LATE_DAYS: Final = 2  # so much longer than cold.after_days a day may be in Redis before it is told
_MEMORY: Final = "cold.mark"  # beside the spool; see mark.py
_LINE_BYTES: Final = 1024 * 1024


class ColdKeeper:
    """Args:
    moves: whether this daemon moves days; one that only answers reads the files that another writes.

    Raises:
        ConfigError: the engine can't be loaded.
    """

    def __init__(self, config: Config, store: Store, metrics: Metrics, *, moves: bool) -> None:
        assert config.cold.dir is not None
        self._config, self._metrics, self.moves = config, metrics, moves
        self._shards: list[ShardSource] = shard_sources(store, lambda: config.query)
        place = MarkedDirectory(config.cold.dir, config.spool_path.parent / _MEMORY if moves else None)
        days = ColdDays(config.cold.dir, Engine(config.cold.engine), place)
        self.tier = ColdTier(config.cold, days, lambda: self._shards)
        self._quiet = Quiet()
        self.error: str | None = None  # why days can't be moved, or files not be listed
        self.days = self.bytes = 0
        self.oldest: str | None = None
        self.due_days = 0  # that are still in Redis
        self.is_late = False  # one of them should have been moved long ago

    async def run(self) -> None:
        """Move what is due, for ever."""
        while True:
            try:
                await self._look()
                if self.due_days and self.moves:
                    await self._move()
                    await self._look()
                else:
                    self.error = None
            except (StoreError, OSError) as exc:
                self._fail(str(exc))
            await asyncio.sleep(self._config.cold.check_s)

    def close(self) -> None:
        self.tier.close()

    async def _look(self) -> None:
        """What there is in the directory, and what is due; whatever can be known of files without a question is read.

        Raises:
            Unavailable: Redis, the directory, or a file can't be read.
        """
        known = self.tier.days
        files = await self.tier.in_thread(known.look_anew)
        self.days, self.bytes = len(files), sum(file.size for file in files)
        self.oldest = name_of(files[0].day).partition(".")[0] if files else None
        if files:
            self.tier.newest_day = max(self.tier.newest_day, files[-1].day)
        after, now_s = self._config.cold.after_days, time.time()
        infos = await ask_all(self._shards, [shard.info(segments=True) for shard in self._shards])
        days = {row[0] for info in infos for row in info.fields.get("segment_sizes", [])}
        due = [day for day in days if (day + 1 + after) * DAY_S <= now_s]
        self.due_days = len(due)
        self.is_late = bool(due) and (min(due) + 1 + after + _LATE_DAYS) * DAY_S <= now_s
        metrics = self._metrics
        metrics.cold_days.set(self.days)
        metrics.cold_bytes.set(self.bytes)
        metrics.cold_due_days.set(self.due_days)
        await self.tier.in_thread(known.summaries)

    async def _move(self) -> None:
        """One pass, in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "slurmjcd.cold.mover",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        failed: str | None = None
        try:
            # of the sections that it leaves out it reads nothing
            config = self._config.model_dump_json(exclude={"ingest", "query"})
            process.stdin.write(config.encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            while line := await process.stdout.readline():
                failed = self._take(json.loads(line)) or failed
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if failed is None and status != 0:
            failed = f"the mover ended with status {status}"
        if failed is not None:
            self._fail(failed)
        else:
            self.error = None

    def _take(self, event: dict[str, Any]) -> str | None:
        """Note what the mover did; its error if it is one."""
        metrics = self._metrics
        if "moved" in event:
            metrics.cold_moved.inc(event["jobs"])
            log.info("cold: %s has %d jobs more, which took %.1f s", event["moved"], event["jobs"], event["seconds"])
        elif "removed" in event:
            log.info("cold: %s was removed after cold.keep_days", event["removed"])
        return event.get("error")

    def _fail(self, why: str) -> None:
        self.error = why
        self._metrics.cold_failures.inc()
        if self._quiet.allows(why[:60]):
            log.warning("cold: %s; days that are due stay in Redis", why)
