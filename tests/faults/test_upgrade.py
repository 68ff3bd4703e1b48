# SPDX-License-Identifier: MIT
"""Versions of the daemon and of its spool's format, forth and back, under load."""

from __future__ import annotations

import json
import lzma
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmjcd.spool import spoolfile
from tests.faults import jobs, make_corpus, oracle
from tests.faults.feeder import Feeder
from tests.faults.make_corpus import CORPUS, DROPPED, RECORDS, SOURCE
from tests.faults.world import World
from tests.harness import Daemon, wait_until
from tests.harness.paths import program

# a daemon of the version to come: its spools have another format, and it reads those of this one
NEXT = f"""
from slurmjcd import cli
from slurmjcd.spool import spoolfile
spoolfile.FORMAT_VERSION = {spoolfile.FORMAT_VERSION + 1}
spoolfile.SCHEMA += "CREATE TABLE novelty (value);"
cli.main()
"""


def use(daemon: Daemon, code: str | None) -> None:
    """Let the daemon's next start be of that version, None for this one."""
    argv = daemon.process.argv
    begin, end = argv.index("--") + 1, argv.index("run")
    argv[begin:end] = [str(program("slurmjcd"))] if code is None else [sys.executable, "-c", code]


@pytest.mark.faults_fast
@pytest.mark.parametrize("kept", sorted(CORPUS.glob("spool-*.db.xz")), ids=lambda path: path.name)
def test_a_spool_of_every_format_there_was_is_read(make_world: Callable[..., World], kept: Path) -> None:
    """What it holds is delivered, its books and its quarantine go on, and what its sources sent is known."""
    world = make_world(start=False)
    spool = world.daemon.state_dir / "spool.db"
    spool.write_bytes(lzma.decompress(kept.read_bytes()))
    spool.chmod(0o600)
    world.start()
    wait_until(lambda: world.stored_count() == RECORDS - 1, what="the kept records")
    with Feeder(world.daemon.ingest_socket, SOURCE) as feeder:
        feeder.feed(RECORDS + 4)  # the first ones once more, as after a lost answer
        feeder.wait_acked()
    wait_until(lambda: world.stored_count() == RECORDS + 3, what="the new records")
    with world.redis.client() as client:
        verdict = oracle.compare([*range(1, RECORDS), *range(RECORDS + 1, RECORDS + 5)], oracle.stored(client))
    assert verdict.good, verdict
    assert oracle.quarantined(spool) == [jobs.encoded(RECORDS)]
    done = subprocess.run(
        [program("slurmjc"), "audit", "--json", "--config", world.daemon.conf],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["attempted"], found["stored"], found["quarantined"], found["dropped"], found["unaccounted"]) == (
        RECORDS + 4 + DROPPED, RECORDS + 3, 1, DROPPED, 0,
    )  # fmt: skip


@pytest.mark.faults_fast
def test_the_corpus_has_this_format(tmp_path: Path) -> None:
    """Whoever changes the format has to keep a file of the new one too."""
    assert (CORPUS / f"spool-{spoolfile.FORMAT_VERSION}.db.xz").exists()
    make_corpus.make(tmp_path / "spool.db")
    assert len(oracle.spooled(tmp_path / "spool.db")) == RECORDS


def test_upgraded_and_downgraded_under_load(make_world: Callable[..., World]) -> None:
    """A spool stays in the format that it was made in, so the version before takes it back."""
    world = make_world()
    world.driver.start(5000, rate=1000)
    for number, version in enumerate([NEXT, None, NEXT, None], 1):
        world.driver.wait_calls(500 * number)
        assert world.daemon.stop() == 0
        use(world.daemon, version)
        world.start_daemon()
    world.check()


def test_a_spool_of_the_version_to_come_is_refused_and_waited_for(make_world: Callable[..., World]) -> None:
    """One clear line, the file as it was, records in the ring; with the newer daemon back, nothing is missing."""
    world = make_world(start=False)
    use(world.daemon, NEXT)
    world.start()
    world.driver.start(4000, rate=1000)
    world.driver.wait_calls(500)
    world.redis.kill()  # so that the spool holds what Redis has not
    world.driver.wait_calls(1000)
    assert world.daemon.stop() == 0
    spool = world.daemon.state_dir / "spool.db"
    before = spool.read_bytes()
    use(world.daemon, None)
    world.daemon.process.start()
    assert world.daemon.process.wait() == 1
    refusal = f"slurmjcd: spool {spool} has format 2, this slurmjcd knows 1: install the newer slurmjcd"
    assert world.daemon.process.log_text().splitlines()[-1] == refusal
    assert spool.read_bytes() == before
    assert not [path.name for path in spool.parent.iterdir() if re.search("damaged|salvaged", path.name)]
    use(world.daemon, NEXT)
    world.check()
