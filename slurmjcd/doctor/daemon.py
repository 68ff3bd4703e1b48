# SPDX-License-Identifier: MIT
"""The running daemon, by what it answers on query.sock: version, whether it takes records, whether they go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slurmjcd import __version__
from slurmjcd.doctor import Finding, fine, problem

LAG_S: Final = 60.0
_LOG: Final = "journalctl -u slurmjcd -n 50"


def look(server: str, status: Mapping[str, Any]) -> Iterator[Finding]:
    """What HELLO's `server` and SLURMJC.STATUS say."""
    if server != f"slurmjcd/{__version__}":
        text = f"{server} runs, this is {__version__}"
        yield problem("daemon-version", text, "systemctl restart slurmjcd")
        return
    found = [*_stages({stage["key"]: stage for stage in status.get("stages", [])}, status.get("spool", {}))]
    yield from found
    if not found:
        yield fine("daemon", f"{server} answers, takes records and ships them")


def _stages(stages: Mapping[str, Any], spool: Mapping[str, Any]) -> Iterator[Finding]:
    disk, redis = stages.get("spool", {}), stages.get("redis", {})
    if disk.get("level") == "error":
        fix = f"{str(disk.get('advice') or '').replace('`', '')} {_LOG}"
        yield problem("daemon-takes-nothing", f"slurmjcd's spool: {disk.get('text', 'takes no records')}", fix)
    if redis.get("level") == "error":
        text = f"slurmjcd ships nothing to Redis: {redis.get('text', 'not connected')}"
        yield problem("daemon-without-redis", text, f"systemctl restart slurmjcd; {_LOG}")
    elif spool.get("oldest_s", 0) > LAG_S:
        text = f"{spool.get('backlog_records')} records wait in the spool, the oldest for {spool['oldest_s']:.0f} s"
        yield problem("daemon-lag", text, f"redis-cli --latency and redis-cli SLOWLOG GET on Redis' host; {_LOG}")
