# SPDX-License-Identifier: MIT
"""What /metrics says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.harness import Daemon

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(daemon: Daemon) -> Samples:
    """Each sample by its name and labels."""
    status, body = daemon.get("/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def value(daemon: Daemon, name: str, **labels: str) -> float:
    """One sample's value; `name` without slurmjcd_."""
    return scrape(daemon)[f"slurmjcd_{name}", frozenset(labels.items())]
