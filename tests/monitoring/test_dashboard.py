# SPDX-License-Identifier: MIT
"""Every query of the dashboard and every alert, asked of a real Prometheus that scrapes a real slurmjcd."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.harness import ROOT, Daemon, RedisServer, wait_until
from tests.harness.ports import free_ports
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.test_rules import RULES
from tests.slurmjcd.jobs import job
from tests.slurmjcd.wire import Wire

DASHBOARD: Final[dict[str, Any]] = json.loads((ROOT / "monitoring" / "grafana.json").read_text())
PANELS: Final[list[dict[str, Any]]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
_WINDOW: Final = "10s"  # what Grafana makes of $__rate_interval with a scrape a second, and some


def expressions() -> dict[str, str]:
    """What each query asks for, by where it stands, as Grafana sends it when all daemons are chosen."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
    } | {note["name"]: note["expr"] for note in DASHBOARD["annotations"]["list"]}
    return {
        where: text.replace("$instance", ".*").replace("$__rate_interval", _WINDOW) for where, text in found.items()
    }


def metric_names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:slurmjcd|process)_\w+|\bup\b", expression))


def test_panels_say_what_they_show_and_have_room() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_alerts_that_panels_name_exist() -> None:
    named = set(re.findall(r"Slurmjcd[A-Z]\w+", json.dumps(DASHBOARD)))
    assert named <= set(re.findall(r"alert: (\w+)", RULES.read_text()))


def test_queries_ask_for_one_job_and_the_chosen_daemons() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            selectors = re.findall(r"(?:slurmjcd_|process_)\w+(\{[^}]*\})?", target["expr"])
            assert selectors or target["expr"].startswith("up{")
            assert all('{job="slurmjcd",instance=~"$instance"' in selector for selector in selectors), target["expr"]


async def _live(daemon: Daemon, until: Callable[[], bool]) -> None:
    """Jobs come and somebody asks, until `until`."""
    wire, asking = await Wire.connect(daemon.ingest_socket), await Wire.connect(daemon.query_socket)
    seq = 1
    async with asyncio.timeout(60):
        while not until():
            states = [(seq, 3), (seq + 1, 5), (seq + 2, 6)]
            assert await wire.put(seq, *(job(number, state=state) for number, state in states)) == 3
            seq += 3
            await wire.call("SLURMJC.RING", "ring", "ATTEMPTED", seq - 1, "DROPPED", 0, "SPILLED", 0)
            if await asking.call("SLURMJC.MATCH", "q", "user", "ada", "limit", 10) is not None:
                await asking.call("SLURMJC.FETCH", "q", 10, "RECORDS")
            await asyncio.sleep(0.2)
    await wire.close()
    await asking.close()


async def test_every_query_and_every_alert_finds_data(
    rundir: Path, make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon], stopper: ExitStack
) -> None:
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    daemon = Daemon(rundir / "jc", redis_address=make_redis().address, settings={"health": {"listen": listen}})
    stopper.callback(daemon.stop)
    daemon.process.start()
    daemon.process.wait_ready(daemon.listening)
    prometheus = Prometheus(rundir / "prometheus", listen, RULES)
    stopper.callback(prometheus.process.stop)
    prometheus.start()

    def has_all() -> bool:
        """Enough scrapes for the window, and the last jobs read."""
        seen = prometheus.query('count_over_time(up{job="slurmjcd"}[1m])')
        return seen >= [6] and prometheus.query("sum(rate(slurmjcd_job_run_seconds_count[10s]))") > [0]

    await _live(daemon, has_all)
    empty = {
        where: text
        for where, text in expressions().items()
        # the daemon was started before the first scrape, so it is enough that its start is known
        if all(map(math.isnan, prometheus.query(text.removesuffix(" > 0") if where == "Starts" else text)))
    }
    assert empty == {}

    rules = prometheus.get("rules")["groups"][0]["rules"]
    assert len(rules) == RULES.read_text().count("- alert: ")
    wait_until(
        lambda: all(rule["health"] == "ok" for rule in prometheus.get("rules")["groups"][0]["rules"]),
        what=lambda: f"rules that were evaluated without an error: {prometheus.get('rules')}",
    )
    for rule in rules:
        assert prometheus.query(rule["query"]) == [], rule["name"]  # all is well, so none is even pending
        for name in metric_names(rule["query"]):
            assert prometheus.query(f'count({name}{{job="slurmjcd"}})') > [0], f"{rule['name']} asks for {name}"
    targets = prometheus.get("targets")["activeTargets"]
    assert [target["health"] for target in targets] == ["up"], targets
