# SPDX-License-Identifier: MIT
"""A record's way as people see it, stage by stage: ring, spool, shipper, Redis, queries; each with what to do.

Reads what the daemon's parts say of themselves. No I/O, and nothing of a job: no name, no id, no user.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import Counter, Histogram

from slurmjcd.health.advice import LOST, QUARANTINE, about_cold, about_redis, about_spool
from slurmjcd.shipping.shipper import NOT_YET
from slurmjcd.sizes import size, span
from slurmjcd.store.storeinfo import number

if TYPE_CHECKING:
    from slurmjcd.cold.keeper import ColdKeeper
    from slurmjcd.daemon import Daemon
    from slurmjcd.store.storeinfo import StoreInfo

Level = Literal["ok", "idle", "warning", "error"]
Unit = Literal["count", "bytes", "seconds", "text"]

_WORDS: Final = {"ok": "OK", "idle": "Idle", "warning": "Warning", "error": "Failed"}
_RANK: Final = ("idle", "ok", "warning", "error")
_RECENT_S: Final = 3600.0  # for so long a count that rose is told
_OLD_S: Final = 60.0  # a record that waits longer, while Redis takes records, is told
_FILLING: Final = 0.5  # of spool.max_bytes, waiting
_RECONNECT_S: Final = 60.0  # a restart of slurmctld takes less
_TEXT_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure of a stage; None where it isn't known."""

    label: str
    value: float | str | None
    unit: Unit = "count"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage now.

    Args:
        kind: names what is wrong for as long as it is the same thing; empty for a stage that only feels another's.
        advice: what to do.
    """

    key: str
    name: str
    level: Level
    text: str
    kind: str = ""
    advice: str = ""
    facts: tuple[Fact, ...] = ()

    @property
    def word(self) -> str:
        return _WORDS[self.level]


class Stages:
    """Looks at one daemon.

    Beside what the parts say: counts that rose in the last hour, which a count since the beginning doesn't show.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._connected_s: float | None = None  # when slurmctld was connected last
        self._counts: dict[str, tuple[float, float]] = {}  # value, and when it rose last (never: 0)
        # what a daemon without a shipper knows of its Redis; the observer asks
        self.info: StoreInfo | None = None
        self.unreachable: str | None = None

    def now(self) -> list[Stage]:
        """All stages that this daemon has, in the order that a record passes them."""
        daemon = self._daemon
        ways = [self._ring(), self._spool(), self._shipper()] if daemon.spool is not None else []
        cold = [self._cold(daemon.cold)] if daemon.cold is not None else []
        return [*ways, self._redis(), *cold, *([self._queries()] if daemon.query is not None else [])]

    def _rose(self, name: str, value: float) -> bool:
        """Whether a count rose within the last hour."""
        now = time.monotonic()
        before, when = self._counts.get(name, (value, 0.0))
        if value > before:
            when = now
        self._counts[name] = (value, when)
        return when > 0 and now - when < _RECENT_S

    def _ring(self) -> Stage:
        daemon = self._daemon
        assert daemon.spool is not None
        rings = daemon.spool.state.rings.values()
        connections = len(daemon.ingest.connections) if daemon.ingest is not None else 0
        dropped, spilled = sum(ring.dropped for ring in rings), sum(ring.spilled for ring in rings)
        facts = (
            Fact("handed over", sum(ring.attempted for ring in rings)),
            Fact("spilled", spilled),
            Fact("dropped", dropped),
        )
        has_dropped, has_spilled = self._rose("dropped", dropped), self._rose("spilled", spilled)
        if has_dropped:
            text = "Records were dropped: ring and spill file had no room."
            return Stage("ring", "Ring", "error", text, "dropped", LOST, facts)
        now = time.monotonic()
        if connections:
            self._connected_s = now
        elif self._connected_s is not None and _RECONNECT_S < (away_s := now - self._connected_s) < _RECENT_S:
            text = f"slurmctld went away {span(away_s)} ago."
            advice = "Is it running? `systemctl status slurmctld`; it connects by itself."
            return Stage("ring", "Ring", "warning", text, "gone", advice, facts)
        else:
            text = "slurmctld is not connected: stopped, or without jobcomp_redis."
            return Stage("ring", "Ring", "idle", text, facts=facts)
        if has_spilled:
            text = "Records went through the spill file in the last hour: this daemon was away or slow."
            return Stage("ring", "Ring", "warning", text, "spilled", "Nothing is lost. See above for the cause.", facts)
        return Stage("ring", "Ring", "ok", "slurmctld is connected.", facts=facts)

    def _spool(self) -> Stage:
        daemon = self._daemon
        spool = daemon.spool
        assert spool is not None
        state, most = spool.state, spool.max_bytes
        share = spool.waiting_bytes / most
        facts = (
            Fact("waiting", state.backlog),
            Fact("oldest", round(spool.ages.oldest_s, 1), "seconds"),
            Fact(f"of {size(most)}", state.bytes, "bytes"),
        )

        def stage(level: Level, text: str, kind: str = "", advice: str = "") -> Stage:
            return Stage("spool", "Spool", level, _short(text), kind, advice, facts)

        path, has_lost = str(daemon.config.spool_path), self._rose("lost", state.lost)
        if state.error is not None:
            return stage("error", f"Takes no records: {state.error}", "disk", about_spool("disk", path))
        if spool.full:
            text = "Is full (spool.max_bytes): records wait on slurmctld's side."
            return stage("error", text, "full", about_spool("full", path))
        if has_lost:
            return stage("error", f"{state.lost:,} records are gone for good.", "lost", LOST)
        if share > _FILLING:
            text = f"Fills: what waits takes {share:.0%} of spool.max_bytes."
            return stage("warning", text, "filling", about_spool("filling", path))
        if state.quarantined:
            text = f"{state.quarantined:,} refused records are in quarantine; all others went on."
            return stage("warning", text, "quarantine", QUARANTINE)
        return stage("ok", "Takes records and keeps them on disk until Redis has them.")

    def _shipper(self) -> Stage:
        daemon = self._daemon
        shipper, spool, metrics = daemon.shipper, daemon.spool, daemon.metrics
        assert shipper is not None
        assert spool is not None
        facts = (
            Fact("sent", total(metrics.records_shipped)),
            Fact("new to Redis", total(metrics.records_stored)),
            Fact("sent again", total(metrics.replays), "count"),
        )

        def stage(level: Level, text: str, kind: str = "", advice: str = "") -> Stage:
            return Stage("shipper", "Shipper", level, _short(text), kind, advice, facts)

        if not shipper.up and shipper.status == NOT_YET:
            return stage("idle", "Connects to Redis.")
        if not shipper.up:  # no trouble of its own: Redis' is listed
            text = f"Holds {spool.state.backlog:,} records until Redis takes them."
            return stage("warning", text, advice="Nothing is lost meanwhile; see Redis below.")
        why = shipper.why_incomplete()
        if why is not None:
            return stage("warning", f"{why}.", "replay", "Nothing to do: it ends by itself; questions fail until then.")
        if shipper.status != "shipping":
            return stage("warning", f"{shipper.status}.", "durability", about_redis(shipper.status))
        if spool.ages.oldest_s > _OLD_S:
            text = f"The oldest record waits for {span(spool.ages.oldest_s)}; Redis takes records, but slowly."
            return stage("warning", text, "slow", "Look at the load of Redis' host: `redis-cli --latency`.")
        return stage("ok", "Sends records in order." if spool.state.backlog else "Everything is sent.")

    def _redis(self) -> Stage:
        daemon = self._daemon
        shipper = daemon.shipper
        if shipper is not None:
            info, why = shipper.info, None if shipper.up else shipper.status
        else:
            info, why = self.info, self.unreachable
        fields = info.fields if info is not None else {}
        facts = (
            Fact("jobs", number(fields.get("jobs"))),
            Fact("bytes a job", number(fields.get("bytes_per_job"))),
            Fact("in memory", number(fields.get("bytes")), "bytes"),
        )

        def stage(level: Level, text: str, kind: str = "", advice: str = "") -> Stage:
            return Stage("redis", "Redis", level, _short(text), kind, advice, facts)

        embedded = daemon.embedded
        if embedded is not None and embedded.status != "running":
            why = f"slurmjcd's own server: {embedded.status}"
        if why == NOT_YET:
            return stage("idle", "Is being connected to.")
        if why is not None:
            advice = about_redis(why, log_file=str(embedded.log_path) if embedded is not None else "")
            return stage("error", why[:1].upper() + why[1:], "away", advice)
        if info is None:
            return stage("idle", "Not asked yet.")
        policy = info.text("maxmemory_policy")
        if policy and policy != "noeviction":
            text = f"maxmemory-policy is {policy}: Redis may throw whole days of jobs away."
            return stage("warning", text, "eviction", "Set `maxmemory-policy noeviction` in its configuration.")
        server = f"{info.text('server').capitalize()} {info.text('server_version')}"
        own = ", slurmjcd's own server" if embedded is not None else f" at {daemon.store.address}"
        return stage("ok", f"{server}, module {info.text('module_version')}{own}.")

    def _cold(self, keeper: ColdKeeper) -> Stage:
        facts = (
            Fact("days", keeper.days),
            Fact("size", keeper.bytes, "bytes"),
            Fact("oldest", keeper.oldest, "text"),
            Fact("days to move", keeper.due_days),
        )
        if keeper.error is not None:
            level: Level = "error" if keeper.is_late else "warning"
            return Stage("cold", "Files", level, _short(keeper.error), "cold", about_cold(keeper.error), facts)
        if keeper.is_late and not keeper.moves:
            text = "Days past the window are still in Redis."
            return Stage("cold", "Files", "warning", text, "cold", "Look at the daemon that moves them.", facts)
        return Stage("cold", "Files", "ok", "Older days are in files.", facts=facts)

    def _queries(self) -> Stage:
        daemon = self._daemon
        query, metrics = daemon.query, daemon.metrics
        assert query is not None
        facts = (
            Fact("connections", len(query.connections)),
            Fact("answered", total(metrics.queries)),
            Fact("refused", total(metrics.queries_refused)),
        )
        redis = self._redis()
        if redis.level == "error":
            text = "sacct -c and slurmjc end with an error that says why; no short lists."
            return Stage("queries", "Queries", "warning", text, advice="See Redis above.", facts=facts)
        why = query.why_incomplete()
        if why is not None:
            text = "Refused until Redis has all jobs again."
            return Stage("queries", "Queries", "warning", text, advice="Nothing to do: it ends by itself.", facts=facts)
        return Stage("queries", "Queries", "ok", "sacct -c and slurmjc are answered.", facts=facts)


def overall(stages: Iterable[Stage]) -> tuple[Level, str]:
    """The worst level, and one sentence for all."""
    found = list(stages)
    worst: Level = max((stage.level for stage in found), key=_RANK.index, default="ok")
    wrong = [stage for stage in found if stage.level in ("warning", "error")]
    failed = {stage.key for stage in wrong if stage.level == "error"}
    if not wrong:
        return "ok", "All stages work"
    if "spool" in failed or "ring" in failed:
        return worst, "Records can't all be taken" if "spool" in failed else "Records were dropped"
    if "redis" in failed:
        kept = any(stage.key == "spool" for stage in found)
        return worst, "Redis is away: records wait, questions fail" if kept else "Redis is away: questions fail"
    names = ", ".join(stage.name.lower() if stage.name != "Redis" else "Redis" for stage in wrong)
    return worst, f"Works, with a warning: {names}"


def total(metric: Counter | Histogram) -> float:
    """A counter's value, or how often a histogram was told one, over all labels."""
    ends = ("_total", "_count")
    return sum(sample.value for family in metric.collect() for sample in family.samples if sample.name.endswith(ends))


def _short(text: str) -> str:
    """On one line and not too long, whatever a server said."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return plain if len(plain) <= _TEXT_MAX else plain[: _TEXT_MAX - 1] + "…"
