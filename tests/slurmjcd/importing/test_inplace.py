# SPDX-License-Identifier: MIT
"""`slurmjc migrate` as a process, beside a running daemon and a slurm-redis client that goes on writing."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmjcd.importing.item import Item
from slurmjcd.importing.target import Run, is_there
from tests.harness import Daemon, RedisServer
from tests.harness.paths import program
from tests.slurmjcd.client.site import Site
from tests.slurmjcd.importing.test_import import running, site, stored, summary
from tests.slurmjcd.importing.test_upstream import HASH, ISO, write
from tests.slurmjcd.jobs import NOON

__all__ = ["running", "site"]  # fixtures


def command(site: Site, *args: str) -> list[str | Path]:
    return [program("slurmjc"), "migrate", "--config", site.daemon.conf, "--cluster", "C1", *args]


def migrate(site: Site, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(site, *args), capture_output=True, text=True, timeout=60, check=False)


def told(site: Site, *args: str) -> dict[str, Any]:
    done = migrate(site, "--json", *args)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if value and name != "schema"}


def hashes(first: int, count: int) -> Iterator[dict[str, str]]:
    for number in range(first, first + count):
        yield (ISO if number % 2 else HASH) | {"JobID": str(number)}


def ids(site: Site) -> list[int]:
    return [fields["job_id"] for fields in stored(site)]


def test_hashes_and_index_sets_become_records(site: Site) -> None:
    nameless = {name: value for name, value in HASH.items() if name != "Cluster"}
    write(site, *hashes(1, 500), nameless | {"JobID": "501"}, prefix="job")
    with site.redis.client() as client:
        client.sadd(f"job:idx:end:{NOON // 86400}", *range(1, 502))
        client.sadd("job:idx:end:1", 7)
    assert told(site) == {"stored": 501, "index_sets": 2}
    assert ids(site) == list(range(1, 502))
    assert {fields["cluster"] for fields in stored(site)} == {"c1"}
    with site.redis.client() as client:
        assert set(client.keys("*")) == {f"job:seg:{NOON // 86400}".encode(), b"job:cluster"}
    assert "no hash lies under 'job:'" in migrate(site).stdout


def test_a_dry_run_says_the_same_and_changes_nothing(site: Site) -> None:
    write(site, *hashes(1, 10), {"JobID": "11"}, prefix="job")
    with site.redis.client() as client:
        before = client.execute_command("DEBUG", "DIGEST")
        found = told(site, "--dry-run")
        assert client.execute_command("DEBUG", "DIGEST") == before
    assert (found["stored"], found["refused"], found["dry_run"]) == (10, 1, True)


def test_what_is_no_job_is_named_and_the_index_kept(site: Site) -> None:
    write(site, *hashes(1, 3), {"JobID": "9", "colour": "green"}, prefix="job")
    with site.redis.client() as client:
        client.sadd("job:idx:end:1", 1, 9)
    done = migrate(site)
    assert done.returncode == 1
    assert done.stderr == "slurmjc: job:9: the hash lacks JobID, UID or GID\n"
    assert done.stdout.splitlines() == [
        "stored          3  hashes that became records",
        "already_there   0  hashes of runs that were in the store before",
        "refused         1  left: no jobs",
        "index_sets_left 1  of them kept, since something is left",
    ]
    with site.redis.client() as client:
        assert client.hgetall("job:9") == {b"JobID": b"9", b"colour": b"green"}
        assert client.exists("job:idx:end:1")


def test_killed_again_and_again_no_job_is_lost_or_twice(site: Site) -> None:
    """SIGKILL wherever it is, while the client of before goes on writing."""
    write(site, *hashes(1, 20_000), prefix="job")
    stop, written = threading.Event(), []

    def client_goes_on() -> None:
        with site.redis.client() as client:
            for fields in hashes(100_001, 100_000):
                if stop.is_set():
                    return
                with client.pipeline(transaction=True) as pipe:
                    for name, value in fields.items():
                        pipe.hset(f"job:{fields['JobID']}", name, value)
                    pipe.execute_command("SLURMJC.INDEX", "job", fields["JobID"])
                    pipe.execute()
                written.append(int(fields["JobID"]))

    writer = threading.Thread(target=client_goes_on)
    writer.start()
    left = 20_000
    try:
        with site.redis.client() as client:
            for goal in (15_000, 8_000):
                process = subprocess.Popen(command(site), stdout=subprocess.DEVNULL)
                while left > goal:
                    left = len(client.keys("job:[0-9]*"))
                process.send_signal(signal.SIGKILL)
                process.wait()
            left = len(client.keys("job:[0-9]*"))
        found = told(site)
    finally:
        stop.set()
        writer.join()
    assert found.get("stored", 0) == left
    assert len(written) > 100
    assert ids(site) == [*range(1, 20_001), *written]


def test_redis_dies_again_and_again_and_comes_back(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """From its append-only file. Each time the command says so and ends; the last one finds what is left."""
    there = make_redis("there", options={"appendonly": "yes"})
    one = Site(Daemon(tmp_path / "jc", redis_address=there.address), there)
    write(one, *hashes(1, 40_000), prefix="job")
    # as many are left then as this process, on a busy machine, needs to see it
    for goal in (33_000, 26_000):
        process = subprocess.Popen(command(one), stderr=subprocess.PIPE, text=True)
        with there.client() as client:
            while client.dbsize() > goal:
                pass
        there.kill()
        assert "nothing is lost or double: the same command goes on from here" in process.communicate()[1]
        assert process.returncode == 3
        there.start()
    with there.client() as client:
        left = len(client.keys("job:[0-9]*"))
    assert 0 < left < 33_000
    assert told(one) == {"stored": left}
    assert ids(one) == list(range(1, 40_001))


def test_a_job_that_the_client_wrote_but_could_not_index(site: Site) -> None:
    """Redis was full, or the module missing: upstream takes no notice."""
    write(site, *hashes(1, 1), prefix="job")
    with site.redis.client() as client:
        client.config_set("maxmemory", 1)
        try:
            assert told(site) == {"stored": 1}
        finally:
            client.config_set("maxmemory", 0)


def test_an_import_of_the_same_hashes_before_or_behind_adds_nothing(site: Site) -> None:
    write(site, *hashes(1, 4), prefix="job")
    assert summary(site, f"{site.redis.address}?prefix=job") == {"read": 4, "stored": 4}
    before = stored(site)
    assert told(site) == {"already_there": 4}
    assert stored(site) == before
    write(site, *hashes(1, 4), prefix="old")
    assert summary(site, f"{site.redis.address}?prefix=old") == {"read": 4, "already_there": 4}


def test_a_run_whose_cluster_nobody_said_is_the_same_run(site: Site) -> None:
    """INDEX before `slurmjc migrate` has said the cluster, and the history of slurmdbd behind."""
    nameless = {name: value for name, value in HASH.items() if name != "Cluster"}
    write(site, nameless, prefix="job")
    with site.redis.client() as client:
        client.execute_command("SLURMJC.INDEX", "job", "17")
    assert told(site) == {"nameless": 1}
    assert site.ids("-a", "-S", "2026-01-01", "-M", "") == ["17"]
    assert site.ids("-a", "-S", "2026-01-01", "-M", "c1") == []
    write(site, HASH)
    assert summary(site, f"{site.redis.address}?prefix=old") == {"read": 1, "already_there": 1}


def test_retention(site: Site, tmp_path: Path) -> None:
    """Of hashes that never expire; those that ended before are left to whoever wants them."""
    now = int(time.time())
    young = HASH | {"JobID": "1", "Start": str(now - 60), "End": str(now), "Submit": str(now - 60)}
    write(site, young, HASH | {"JobID": "2"}, prefix="job")
    keeping = Daemon(tmp_path / "keeping", redis_address=site.redis.address)
    text = keeping.conf.read_text()
    keeping.conf.write_text(text.replace("[redis]\n", "[redis]\nttl_s = 864000\n"))
    assert told(Site(keeping, site.redis)) == {"stored": 1, "early": 1}
    with site.redis.client() as client:
        assert client.exists("job:2")
        assert client.expiretime(f"job:seg:{now // 86400}") == (now // 86400 + 1) * 86400 + 864_000


def test_shards_are_for_import(site: Site, tmp_path: Path) -> None:
    spread = Daemon(tmp_path / "spread", redis_address=site.redis.address)
    spread.conf.write_text(spread.conf.read_text().replace("[redis]\n", "[redis]\nshards = 3\n"))
    done = migrate(Site(spread, site.redis))
    assert (done.returncode, done.stdout) == (1, "")
    assert "redis.shards = 3 spreads jobs over many: slurmjc import 'redis://" in done.stderr


def test_no_redis(site: Site, tmp_path: Path) -> None:
    away = Daemon(tmp_path / "away", redis_address=f"unix:{tmp_path}/none.sock")
    done = migrate(Site(away, site.redis))
    assert done.returncode == 3
    assert "nothing is lost or double: the same command goes on from here" in done.stderr


@pytest.mark.parametrize(("cluster", "same"), [(None, True), ("C1", True), ("c2", False)])
def test_a_store_without_the_cluster_can_be_any(cluster: str | None, same: bool) -> None:
    item = Item("1", "")
    item.fields = {"cluster": "c1", "submit": 1, "start": 2, "end": 3, "restart_count": 0}
    assert is_there(item, Run(cluster, 1, 2, 3, 0)) is same
