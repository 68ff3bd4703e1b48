# SPDX-License-Identifier: MIT
"""A site whose store is a cluster: the driver's records in several shards, on whichever node has each now."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from slurmjcd import record
from slurmjcd.store.shards import shard_prefixes
from tests.faults import oracle
from tests.faults.world import World
from tests.harness.cluster import ClusterSite
from tests.harness.rundir import ring_dir
from tests.slurmjcd.jobs import NOON, job

OTHERS = "others"

# with the default a cluster that lacks one master refuses all
OPTIONS: Mapping[str, str | int] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "cluster-require-full-coverage": "no",
}


class ClusterWorld(World):
    """As World, over a ClusterSite."""

    def __init__(
        self,
        directory: Path,
        stack: ExitStack,
        site: ClusterSite,
        *,
        shards: int,
        prefix: str = "job",
        settings: Mapping[str, Any] | None = None,
        jobs: int = 300_000,
    ) -> None:
        self.site = site
        self._filled = 0
        self.prefixes = [name.decode() for name in shard_prefixes(prefix.encode(), shards)]
        self._settings = {"shards": shards, "prefix": prefix, "reply_s": 1.0, **(settings or {})}
        super().__init__(
            directory,
            ring_dir(directory),
            stack,
            redis_address=site.address,
            settings={"redis": self._settings},
            jobs=jobs,
        )

    def configure(self, **changes: Any) -> None:
        """Other settings of [redis] for the daemon, at its next start."""
        self._settings |= changes
        self.daemon.write_conf({"redis": self._settings})

    def stored_in(self, prefix: str) -> int:
        """Jobs in one shard, -1 while nobody says."""
        try:
            reply = self.site.call(prefix, "INFO")
        except (redis.RedisError, LookupError):
            return -1
        pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return int(pairs[b"jobs"])

    def stored_count(self) -> int:
        counts = [self.stored_in(prefix) for prefix in self.prefixes]
        return sum(counts) - self._filled if min(counts) >= 0 else -1

    def fill(self, *, days: int) -> None:
        """Another cluster's jobs of many days, which move with the slots: a segment a day in each shard."""
        for shard, prefix in enumerate(self.prefixes):
            ids = [shard + len(self.prefixes) * number for number in range(1, days + 1)]
            records = [job(job_id, end=NOON - number * 86_400, cluster=OTHERS) for number, job_id in enumerate(ids)]
            self._filled += self.site.call(prefix, "PUT", "RECORDS", *records)

    def found(self) -> list[bytes]:
        found: list[bytes] = []
        for prefix in self.prefixes:
            with self.site.client(self.site.owner_of(prefix)) as client:
                found += oracle.stored(client, prefix)
        ours = [blob for blob in found if record.decode(blob)["cluster"] != OTHERS]
        assert len(found) - len(ours) == self._filled
        return ours

    def revive(self) -> None:
        for process in (*self.driver.runs, self.daemon.process):
            if process.running:
                process.send(signal.SIGCONT)
        for number, node in enumerate(self.site.nodes):
            if node.process.running:
                self.site.resume(number)
            else:
                node.start()
        self.site.wait_ok()
        if not self.daemon.process.running:
            self.start_daemon()


MakeClusterWorld = Callable[..., ClusterWorld]
