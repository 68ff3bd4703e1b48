# SPDX-License-Identifier: MIT
"""A Prometheus of our own on loopback, which scrapes one slurmjcd every second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.harness import Process
from tests.harness.ports import free_ports


class Prometheus:
    """Scrapes `target`, evaluates the rules of that file."""

    def __init__(self, directory: Path, target: str, rules: Path) -> None:
        directory.mkdir()
        self._url = f"http://127.0.0.1:{free_ports(1)[0]}"
        conf = directory / "prometheus.yml"
        conf.write_text(
            json.dumps(  # JSON is YAML
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(rules)],
                    "scrape_configs": [{"job_name": "slurmjcd", "static_configs": [{"targets": [target]}]}],
                }
            )
        )
        self.process = Process(
            [
                "prometheus", f"--config.file={conf}", f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={self._url.removeprefix('http://')}", "--log.level=warn",
            ],
            log=directory / "prometheus.log",
        )  # fmt: skip

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"{self._url}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """What the API has under `path`; an error of it is an AssertionError with its words."""
        try:
            with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[float]:
        """The values now, of every series that the expression gives."""
        return [float(series["value"][1]) for series in self.get("query", query=expression)["result"]]
