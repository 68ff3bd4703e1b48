# SPDX-License-Identifier: MIT
"""Each alert fires on series where it should and stays quiet on those where it should not: promtool says so."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

from tests.docs.blocks import blocks
from tests.harness import ROOT

RULES: Final = ROOT / "monitoring" / "slurmjcd.rules.yml"
_ALERT: Final = re.compile(r"^ +- alert: (\w+)$(.*?)(?=^ +- alert: |\Z)", re.MULTILINE | re.DOTALL)
_AT: Final = "2h"  # all series have a value a minute: start+step x times

Series = dict[str, str]

# by alert: series on which it fires at two hours, and those, each for itself, on which it must not
CASES: Final[dict[str, tuple[Series, list[Series]]]] = {
    "SlurmjcdDown": ({"up": "1x110 0x30"}, [{"up": "1x150"}, {"up": "1x119 0x30"}, {'up{job="other"}': "0x150"}]),
    "SlurmjcdRestarts": (
        {"slurmjcd_start_time_seconds": "0x70 9x5 20x5 30x5 40x80"},
        [{"slurmjcd_start_time_seconds": "0x100 50x50"}, {"slurmjcd_start_time_seconds": "0x5 1x5 2x5 3x5 4x150"}],
    ),
    "SlurmjcdMemory": (
        {"process_resident_memory_bytes": "500000000x150"},
        [{"process_resident_memory_bytes": "260000000x150"}, {"process_resident_memory_bytes": "0x110 500000000x40"}],
    ),
    "SlurmjcdDescriptors": (
        {"process_open_fds": "900x150", "process_max_fds": "1000x150"},
        [{"process_open_fds": "900x150", "process_max_fds": "16384x150"}],
    ),
    "SlurmjcdRecordsDropped": (
        {"slurmjcd_ring_dropped_total": "0x80 5x70"},
        [{"slurmjcd_ring_dropped_total": "5x150"}, {"slurmjcd_ring_dropped_total": "0x10 5x140"}],
    ),
    "SlurmjcdRecordsLost": (
        {"slurmjcd_lost_records": "0x80 5x70"},
        [{"slurmjcd_lost_records": "5x150"}, {"slurmjcd_lost_records": "5x80 0x70"}],  # a new spool, with a new count
    ),
    "SlurmjcdSpoolRefuses": (
        {"slurmjcd_spool_up": "0x150", "slurmjcd_spool_max_bytes": "4096x150"},
        [
            {"slurmjcd_spool_up": "1x150", "slurmjcd_spool_max_bytes": "4096x150"},
            {"slurmjcd_spool_up": "0x150", "slurmjcd_spool_max_bytes": "0x150"},  # a login node
        ],
    ),
    "SlurmjcdSpoolFilling": (
        {"slurmjcd_spool_waiting_bytes": "600x150", "slurmjcd_spool_max_bytes": "1000x150"},
        [
            {"slurmjcd_spool_waiting_bytes": "400x150", "slurmjcd_spool_max_bytes": "1000x150"},
            {"slurmjcd_spool_waiting_bytes": "0x150", "slurmjcd_spool_max_bytes": "0x150"},
        ],
    ),
    "SlurmjcdRecordsSpilled": (
        {"slurmjcd_ring_spilled_total": "0x110 900x40"},
        [{"slurmjcd_ring_spilled_total": "900x150"}, {"slurmjcd_ring_spilled_total": "0x90 900x60"}],
    ),
    "SlurmjcdQuarantine": (
        {"slurmjcd_quarantined_records": "0x100 1x50"},
        [{"slurmjcd_quarantined_records": "0x150"}, {"slurmjcd_quarantined_records": "1x118 0x40"}],
    ),
    "SlurmjcdIngestRefused": (
        {"slurmjcd_ingest_connections_refused_total": "0x110 1x40"},
        [{"slurmjcd_ingest_connections_refused_total": "7x150"}],
    ),
    "SlurmjcdIntakeRefused": (
        {'slurmjcd_intake_documents_total{outcome="refused"}': "0x110 1x40"},
        [
            {'slurmjcd_intake_documents_total{outcome="refused"}': "3x150"},
            {'slurmjcd_intake_documents_total{outcome="taken"}': "0+9x150"},
            {'slurmjcd_intake_documents_total{outcome="later"}': "0+9x150"},
        ],
    ),
    "SlurmjcdCommitSlow": (
        {
            'slurmjcd_ingest_seconds_bucket{le="1"}': "0x150",
            'slurmjcd_ingest_seconds_bucket{le="2.5"}': "0+60x150",
            'slurmjcd_ingest_seconds_bucket{le="+Inf"}': "0+60x150",
        },
        [
            {
                'slurmjcd_ingest_seconds_bucket{le="0.1"}': "0+60x150",
                'slurmjcd_ingest_seconds_bucket{le="+Inf"}': "0+60x150",
            },
            {'slurmjcd_ingest_seconds_bucket{le="+Inf"}': "50x150"},  # nothing was committed
        ],
    ),
    "SlurmjcdRedisDown": (
        {"slurmjcd_redis_up": "1x100 0x50"},
        [{"slurmjcd_redis_up": "1x150"}, {"slurmjcd_redis_up": "1x118 0x40"}],
    ),
    "SlurmjcdRecordsWait": (
        {"slurmjcd_spool_oldest_seconds": "0+60x150", "slurmjcd_redis_up": "1x150"},
        [
            {"slurmjcd_spool_oldest_seconds": "0+60x150", "slurmjcd_redis_up": "0x150"},  # SlurmjcdRedisDown says it
            {"slurmjcd_spool_oldest_seconds": "20x150", "slurmjcd_redis_up": "1x150"},
        ],
    ),
    "SlurmjcdReplay": (
        {"slurmjcd_replays_total": "0x80 1x70"},
        [{"slurmjcd_replays_total": "1x150"}, {"slurmjcd_replays_total": "4x80 0x70"}],  # the daemon was restarted
    ),
    "SlurmjcdRedisEvicts": (
        {"slurmjcd_redis_evicts": "1x150"},
        [{"slurmjcd_redis_evicts": "0x150"}],
    ),
    "SlurmjcdRedisMemory": (
        {"slurmjcd_redis_memory_bytes": "95x150", "slurmjcd_redis_memory_max_bytes": "100x150"},
        [
            {"slurmjcd_redis_memory_bytes": "80x150", "slurmjcd_redis_memory_max_bytes": "100x150"},
            {"slurmjcd_redis_memory_bytes": "95x150", "slurmjcd_redis_memory_max_bytes": "0x150"},  # no limit
        ],
    ),
    "SlurmjcdEmbeddedRestarts": (
        {"slurmjcd_embedded_restarts_total": "0x80 3x70"},
        [{"slurmjcd_embedded_restarts_total": "3x150"}, {"slurmjcd_embedded_restarts_total": "0x20 3x130"}],
    ),
    "SlurmjcdQueriesFail": (
        {
            "slurmjcd_queries_failed_total": "0+6x150",
            'slurmjcd_queries_total{kind="match"}': "0+30x150",
            'slurmjcd_queries_total{kind="fetch"}': "0+30x150",
        },
        [
            {"slurmjcd_queries_failed_total": "0+6x150", 'slurmjcd_queries_total{kind="match"}': "0+600x150"},
            {"slurmjcd_queries_failed_total": "9x150", 'slurmjcd_queries_total{kind="match"}': "9x150"},
        ],
    ),
    "SlurmjcdQueriesSlow": (
        {
            'slurmjcd_query_seconds_bucket{kind="match",le="2.5"}': "0x150",
            'slurmjcd_query_seconds_bucket{kind="match",le="+Inf"}': "0+60x150",
        },
        [
            {
                'slurmjcd_query_seconds_bucket{kind="match",le="0.1"}': "0+60x150",
                'slurmjcd_query_seconds_bucket{kind="match",le="+Inf"}': "0+60x150",
            },
            {
                'slurmjcd_query_seconds_bucket{kind="hello",le="2.5"}': "0x150",
                'slurmjcd_query_seconds_bucket{kind="hello",le="+Inf"}': "0+60x150",
            },
        ],
    ),
}


def _with_target(name: str, instance: str) -> str:
    """A series as it is scraped: with job and instance."""
    metric, _, inside = name.rstrip("}").partition("{")
    found = {"job": "slurmjcd", "instance": instance, **dict(re.findall(r'(\w+)="([^"]*)"', inside))}
    return metric + "{" + ",".join(f'{label}="{value}"' for label, value in found.items()) + "}"


def _question(alert: str, instance: str, *, fires: bool) -> dict[str, object]:
    return {
        "expr": f'count(ALERTS{{alertname="{alert}",instance="{instance}",alertstate="firing"}})',
        "eval_time": _AT,
        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
    }


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules() -> None:
    assert f"{len(CASES)} rules found" in promtool("check", "rules", str(RULES))


def test_each_alert_fires_where_it_should_and_nowhere_else(tmp_path: Path) -> None:
    series, questions = [], []
    for alert, (firing, quiet) in CASES.items():
        for number, case in enumerate([firing, *quiet]):
            instance = f"{alert}-{number}"  # each case is a daemon of its own, so that one run takes all
            series += [{"series": _with_target(name, instance), "values": values} for name, values in case.items()]
            questions.append(_question(alert, instance, fires=number == 0))
    test = {"interval": "1m", "input_series": series, "promql_expr_test": questions}
    path = tmp_path / "tests.yml"  # JSON is YAML
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_each_alert_says_what_is_wrong_and_leads_to_what_to_do() -> None:
    alerts = dict(_ALERT.findall(RULES.read_text()))
    assert set(alerts) == set(CASES)
    page = (ROOT / "docs" / "metrics.md").read_text()
    section = page[page.index("\n## Alerts\n") :]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == list(alerts)
    for name, text in alerts.items():
        for part in ("summary: ", "description: ", "labels: {severity: "):
            assert part in text, name
        assert re.search(r"severity: (critical|warning)}", text), name
        assert f"runbook: docs/metrics.md#{name.lower()}\n" in text


def test_rules_ask_only_for_metrics_that_are_documented() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for name in set(re.findall(r"\b(?:slurmjcd|process)_[a-z_]+", RULES.read_text())):
        assert f"`{name.removesuffix('_bucket')}" in page, name


def test_prometheus_takes_the_configuration_of_the_page(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "metrics.md") if block.language == "yaml"]
    path = tmp_path / "prometheus.yml"
    path.write_text(block.text.replace("/usr/share/slurmjcd/monitoring", str(RULES.parent)))
    assert f"{len(CASES)} rules found" in promtool("check", "config", str(path))


def test_packages_bring_what_the_page_names() -> None:
    installed = (ROOT / "packaging" / "debian" / "slurmjcd.install").read_text()
    for file in sorted(RULES.parent.iterdir()):
        assert f"monitoring/{file.name} usr/share/slurmjcd/monitoring\n" in installed
