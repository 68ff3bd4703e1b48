# SPDX-License-Identifier: MIT
"""What the daemon says about itself: /readyz, the gauges of /metrics, systemd's status line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurmjcd import __version__
from slurmjcd.errors import SpoolError
from slurmjcd.store.storeinfo import number

if TYPE_CHECKING:
    from slurmjcd.daemon import Daemon


class Readiness:
    """Reads the parts of one daemon; changes nothing but gauges."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def report(self) -> dict[str, Any]:
        """/readyz: ready unless records can't be taken; Redis away is only `degraded`."""
        daemon = self._daemon
        components: dict[str, dict[str, Any]] = {}
        ready, degraded = True, False
        if daemon.spool is not None:
            spool = await self._spool()
            components["ingest"] = {
                "ok": spool["ok"],
                "connections": len(daemon.ingest.connections) if daemon.ingest else 0,
            }
            components["spool"] = spool
            ready = spool["ok"]
        if daemon.shipper is not None:
            shipper = daemon.shipper
            components["redis"] = {"ok": shipper.up, "status": shipper.status, "address": daemon.store.address}
            degraded = not shipper.up
            info = shipper.info
            if info is not None:
                components["redis"]["module"] = info.text("module_version")
            if len(shipper.each) > 1:
                components["redis"]["shards"] = [
                    {"ok": one.up, "status": one.status, "address": one.address, "backlog_records": one.spool.backlog}
                    for one in shipper.each
                ]
        if daemon.embedded is not None:
            components["embedded"] = {
                "ok": daemon.embedded.status == "running", "status": daemon.embedded.status, "pid": daemon.embedded.pid,
            }  # fmt: skip
        if daemon.query is not None:
            components["query"] = {"ok": True, "connections": len(daemon.query.connections)}
        status = "failed" if not ready else "degraded" if degraded else "ok"
        return {"ready": ready, "status": status, "version": __version__, "components": components}

    async def _spool(self) -> dict[str, Any]:
        spool = self._daemon.spool
        assert spool is not None
        state = spool.state
        try:
            await spool.check_writable()
        except SpoolError:
            pass
        why = state.error or ("spool.max_bytes is reached" if spool.full else None)
        return {
            "ok": why is None,
            "status": why or "writable",
            "backlog_records": state.backlog,
            "bytes": state.bytes,
            "quarantined_records": state.quarantined,
            "lost_records": state.lost,
            "oldest_s": self._oldest_s(),
        }

    def _oldest_s(self) -> float:
        spool = self._daemon.spool
        return round(spool.ages.oldest_s, 3) if spool is not None else 0.0

    def refresh_metrics(self) -> None:
        """Set the gauges to what is true now."""
        daemon, metrics = self._daemon, self._daemon.metrics
        if daemon.spool is not None:
            spool, state = daemon.spool, daemon.spool.state
            metrics.ring_waiting.set(state.in_rings)
            metrics.spool_waiting_bytes.set(spool.waiting_bytes)
            metrics.spool_max_bytes.set(spool.max_bytes)
            metrics.spool_up.set(state.error is None and not spool.full)
            metrics.lost.set(state.lost)
            metrics.spool_records.set(state.backlog)
            metrics.spool_bytes.set(state.bytes)
            metrics.spool_oldest_seconds.set(self._oldest_s())
            metrics.quarantined.set(state.quarantined)
        if daemon.committer is not None:
            metrics.ingest_pending_bytes.set(daemon.committer.pending_bytes)
        self._refresh_store()
        if daemon.ingest is not None:
            metrics.connections.labels("ingest").set(len(daemon.ingest.connections))
        if daemon.query is not None:
            metrics.connections.labels("query").set(len(daemon.query.connections))

    def _refresh_store(self) -> None:
        """What Redis said when it was last asked, ten seconds ago at most while it answers."""
        daemon, metrics = self._daemon, self._daemon.metrics
        if daemon.shipper is not None:
            metrics.redis_up.set(daemon.shipper.up)
            for one in daemon.shipper.each if len(daemon.shipper.each) > 1 else ():
                shard = str(one.shard.index)
                metrics.shard_up.labels(shard).set(one.up)
                metrics.shard_waiting.labels(shard).set(one.spool.backlog)
        info = daemon.shipper.info if daemon.shipper is not None else daemon.observer.stages.info
        if info is None:
            return
        for gauge, name in (
            (metrics.store_jobs, "jobs"),
            (metrics.store_bytes, "bytes"),
            (metrics.redis_memory, "used_memory"),
            (metrics.redis_memory_max, "maxmemory"),
        ):
            value = number(info.fields.get(name))
            if value is not None:
                gauge.set(value)
        metrics.redis_evicts.set(info.text("maxmemory_policy") not in ("", "noeviction"))

    def summary(self) -> str:
        """One line for `systemctl status`."""
        daemon = self._daemon
        parts = []
        if daemon.spool is not None:
            parts.append(f"{daemon.spool.state.last} records taken, {daemon.spool.state.backlog} waiting")
        if daemon.shipper is not None:
            parts.append("Redis up" if daemon.shipper.up else f"Redis: {daemon.shipper.status}")
        if daemon.query is not None:
            parts.append(f"{len(daemon.query.connections)} connections asking")
        return "; ".join(parts)
