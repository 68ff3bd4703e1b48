# SPDX-License-Identifier: MIT
"""docs/retention.md, command by command."""

from __future__ import annotations

import time
import tomllib
from typing import Final

from slurmjcd.config.settings import Config
from tests.docs.blocks import blocks
from tests.docs.site import running_site
from tests.harness import ROOT
from tests.slurmjcd.jobs import job

PAGE: Final = blocks(ROOT / "docs" / "retention.md")
DAY: Final = 86_400


def ended(job_id: int, days_ago: int) -> bytes:
    end = int(time.time()) - days_ago * DAY
    return job(job_id, submit=end - 100, eligible=end - 100, start=end - 60, end=end)


def test_every_command_of_the_page() -> None:
    with running_site() as site:
        with site.redis.client() as client:
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", ended(1, 200), ended(2, 95), ended(3, 2))
        settings, files = (block for block in PAGE if block.language == "toml")
        Config.model_validate(tomllib.loads(files.text))
        said = {}
        for block in PAGE:
            if block.name == "set":
                site.daemon.write_conf(tomllib.loads(settings.text))
            if block.runs:
                said[block.name or block.where] = site.play(block)
        assert "retention     365.0 d" in said["look"]
        assert "jobs          3" in said["look"]
        assert said["trim"].strip() == "2"
        assert site.stored() == 1
