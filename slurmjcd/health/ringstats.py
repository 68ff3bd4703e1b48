# SPDX-License-Identifier: MIT
"""What the plugins' rings told of themselves, as counters: they live in slurmctld, which nothing scrapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from slurmjcd.spool.batch import Ring


class RingStats(Collector):
    """Sums over all rings that ever delivered; the spool keeps them, so that they don't start anew with the daemon."""

    def __init__(self) -> None:
        self._rings: dict[str, Ring] = {}

    def tell(self, rings: Mapping[str, Ring]) -> None:
        """Take the counters of some rings, by source, once they are in the spool."""
        self._rings.update(rings)

    def collect(self) -> Iterator[Metric]:
        rings = self._rings.values()
        for name, text, value in (
            ("attempted", "Records that slurmctld handed to the plugin", sum(ring.attempted for ring in rings)),
            ("dropped", "Records that the plugin had to drop", sum(ring.dropped for ring in rings)),
            ("spilled", "Records that went through a spill file", sum(ring.spilled for ring in rings)),
        ):
            yield CounterMetricFamily(f"slurmjcd_ring_{name}", text, value)
