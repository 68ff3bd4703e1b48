# SPDX-License-Identifier: MIT
"""docs/disaster-recovery.md: each disaster happens, the page's commands are run, and nothing is missing."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.docs.blocks import blocks
from tests.docs.site import Site, running_site
from tests.harness import ROOT
from tests.slurmjcd.jobs import job

PAGE: Final = {block.name: block for block in blocks(ROOT / "docs" / "disaster-recovery.md") if block.runs}
FUTURE: Final = int(datetime.datetime(2037, 1, 2, 12, tzinfo=datetime.UTC).timestamp())
PLAYED: Final = {
    "look", "copy", "redis-start", "redis-restore", "redis-audit", "spool-damaged", "spool-lost", "disk-spool",
    "disk-redis", "clock-look", "clock-drop", "module-look", "module-start",
}  # fmt: skip


@pytest.fixture
def site() -> Iterator[Site]:
    """200 jobs are stored."""
    with running_site() as made:
        made.end_jobs(200)
        made.wait_stored(200)
        yield made


def audited(said: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)", said, re.MULTILINE)}


def test_no_command_is_left_out() -> None:
    assert set(PAGE) == PLAYED


def test_a_redis_that_was_stopped_is_started(site: Site) -> None:
    site.redis.stop()
    site.end_jobs(50)
    assert "degraded" in site.play(PAGE["look"])
    site.play(PAGE["redis-start"])
    site.wait_stored(250)
    assert audited(site.play(PAGE["redis-audit"]))["unaccounted"] == 0


def test_a_redis_that_lost_all_gets_its_copy_and_what_came_after_it(site: Site) -> None:
    site.play(PAGE["copy"])
    site.end_jobs(30)
    site.wait_stored(230)
    site.redis.kill()
    for path in site.redis_dir.glob("appendonlydir/*"):
        path.unlink()
    site.end_jobs(20)
    site.play(PAGE["redis-restore"])
    site.wait_stored(250)
    books = audited(site.play(PAGE["redis-audit"]))
    assert (books["lost"], books["unaccounted"]) == (0, 0)
    site.redis.restart()  # with the append-only file, which has them now
    site.wait_stored(250)


def test_a_damaged_spool_is_looked_at(site: Site) -> None:
    site.daemon.stop()
    spool = site.daemon.state_dir / "spool.db"
    content = bytearray(spool.read_bytes())
    content[16384 * 2 : 16384 * 2 + 64] = b"\xa5" * 64
    spool.write_bytes(content)
    site.daemon.start()
    assert list(site.daemon.state_dir.glob("spool.db.damaged-*"))
    assert "set aside as spool.db.damaged-" in site.play(PAGE["spool-damaged"])
    assert not list(site.daemon.state_dir.glob("spool.db.damaged-*"))


def test_a_lost_spool_is_begun_anew(site: Site) -> None:
    site.play(PAGE["spool-lost"])
    site.end_jobs(50)
    site.wait_stored(250)


def test_a_full_disk_is_looked_at(site: Site) -> None:
    """That the daemon goes on by itself is tests/faults/test_spool_disk.py's."""
    aside = site.daemon.state_dir / "spool.db.damaged-1"
    aside.touch()
    site.play(PAGE["disk-spool"])
    assert not aside.exists()
    assert "aof_last_write_status:ok" in site.play(PAGE["disk-redis"])


def test_a_day_of_the_future_is_found_and_dropped(site: Site) -> None:
    times = {"submit": FUTURE - 100, "eligible": FUTURE - 100, "start": FUTURE - 60, "end": FUTURE}
    with site.redis.client() as client:
        client.execute_command("SLURMJC.PUT", "job", "RECORDS", job(900_000, **times))
    assert "2037-01-02" in site.play(PAGE["clock-look"])
    assert site.play(PAGE["clock-drop"]).strip() == "1"
    assert site.stored() == 200


def test_a_module_that_is_missing_is_found_and_put_back(site: Site) -> None:
    target = site.module.readlink()
    conf = site.redis_conf.read_text()
    site.redis.stop()
    site.redis_conf.write_text(conf.replace("loadmodule", "# loadmodule"))
    assert site.control(["start", "redis-server"]) == ""
    assert site.redis.process.wait() != 0
    said = site.play(PAGE["module-look"])
    assert "# loadmodule" in said
    assert "Unknown command 'SLURMJC.PUT' reading the append only file" in said
    site.redis_conf.write_text(conf)
    assert site.module.readlink() == target
    site.end_jobs(20)
    assert "slurm_jobcomp" in site.play(PAGE["module-start"])
    site.wait_stored(220)
