# SPDX-License-Identifier: MIT
"""`slurmjc reshard` as a process: every job once in the new shards, whatever was there and whoever was killed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import RedisServer, run_dir, wait_until
from tests.slurmjcd.jobs import NOON, job
from tests.slurmjcd.resharding.store import DAY_S, Shards, some_jobs


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_dir() as directory:
        server = RedisServer(directory / "redis")
        server.start()
        yield server
        server.stop()


@pytest.fixture
def store(server: RedisServer, tmp_path: Path) -> Iterator[Shards]:
    """Empty; three shards are configured."""
    with server.client() as client:
        client.flushall()
        client.config_set("maxmemory", 0)
        store = Shards(client.execute_command, tmp_path / "slurmjcd.toml", {"address": server.address, "shards": 3})
        store.configure()
        yield store


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 6)])
def test_jobs_move(store: Shards, old: int, new: int) -> None:
    want = some_jobs(3000)
    store.put(old, want, "TTL", 10**9, "SPOOL", "s.1", 1)
    if old > 1:
        store.set_layout(str(old))
    said = store.reshard("--to", new)
    assert (said["from"], said["to"], said["jobs"], said["days"], said["copied"]) == (old, new, 3000, 5, 3000)
    assert said["settings"] == {"shards": new}
    assert store.jobs(new) == sorted(want)
    assert store.jobs(old) == sorted(want)  # until they are dropped
    assert store.layout() == str(new).encode()
    assert store.reshard("--drop-old") == {"dropped": [old], "dropped_jobs": 3000}
    assert store.count(old) == 0
    assert store.jobs(new) == sorted(want)
    assert store.reshard("--drop-old") == {"dropped": [], "dropped_jobs": 0}


def test_retention_goes_along(store: Shards) -> None:
    """Each day's: the longest that one of the old shards has, and none where one has none."""
    store.put(3, [job(1), job(2), job(3)], "TTL", 10**9)
    store.put(3, [job(2, start=7)], "TTL", 2 * 10**9)
    store.put(3, [job(4, end=NOON + DAY_S)], "TTL", 10**9)
    store.put(3, [job(5, end=NOON + DAY_S)])
    store.set_layout("3")
    store.reshard("--to", 1, "--drop-old")
    (first, second) = store.info(b"job")[b"segment_sizes"]
    assert first[3] == ((NOON // DAY_S + 1) * DAY_S + 2 * 10**9) * 1000
    assert second[3] is None


def test_watermarks_are_what_all_old_shards_have(store: Shards) -> None:
    """What one of them lacks is sent again from the spool, to all."""
    store.set_layout("3")
    for number, prefix in enumerate(store.prefixes(3)):
        store.call(prefix, "PUT", "SPOOL", "s.1", 100 + number, "GAP", "RECORDS")
        store.call(prefix, "PUT", "SPOOL", f"only.{number}", 9, "GAP", "RECORDS")
    store.reshard("--to", 2)
    assert store.marks(2) == [{b"s.1": 99}, {b"s.1": 99}]
    # a move back sets them anew, also where they were higher
    for prefix in store.prefixes(2):
        store.call(prefix, "PUT", "SPOOL", "s.1", 500, "GAP", "RECORDS")
    store.configure(shards=2)
    store.reshard("--to", 3)
    assert store.marks(3) == [{b"s.1": 499}] * 3


def test_what_an_older_move_left_is_not_taken_for_jobs(store: Shards) -> None:
    """Since then a day was trimmed, a run reported again, later, and one that only has another name now."""
    store.put(3, some_jobs(300))
    store.set_layout("3")
    store.reshard("--to", 2)
    for prefix in store.prefixes(2):
        store.call(prefix, "TRIM", "BEFORE", (NOON // DAY_S + 1) * DAY_S)
    again = job(2, end=NOON + 3 * DAY_S + 5, user="u1", cpu_count=2, name="n1")
    renamed = job(3, end=NOON + 2 * DAY_S + 2, user="u2", cpu_count=3, name="renamed")
    store.put(2, [again, renamed])
    want = store.jobs(2)
    assert len(want) == 240
    assert {again, renamed} <= set(want)
    store.reshard("--to", 3)
    assert store.jobs(3) == want


def _kill_when(store: Shards, to: int, condition: str) -> None:
    """SIGKILL at a moment that is seen in Redis."""
    reached = {
        "copying": lambda: 0 < store.count(to) < 12_000,
        "held": lambda: b">" in (store.layout() or b""),
    }[condition]
    process = subprocess.Popen(store.command("--to", to), stdout=subprocess.DEVNULL)
    wait_until(lambda: reached() or process.poll() is not None, what=condition, every_s=0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, f"it ended before it was {condition}"


def test_killed_moves_go_on_and_nothing_is_missing_or_double(store: Shards) -> None:
    """Killed twice while it copies and once while slurmjcd holds; jobs come in between, as does a run told again."""
    want = some_jobs(12_000)
    store.put(3, want, "SPOOL", "s.1", 1)
    store.set_layout("3")
    _kill_when(store, 4, "copying")
    late = job(20_001, end=NOON + DAY_S)
    store.put(3, [late])
    _kill_when(store, 4, "held")
    assert store.layout() == b"3>4"
    again = job(1, end=NOON + 50, user="u0", cpu_count=1, name="n0")
    store.put(3, [again])
    assert "a move from 3 shards to 4 was begun" in store.refused("--to", 5)
    assert "is not finished" in store.refused("--drop-old")
    said = store.reshard("--to", 4)
    assert said["jobs"] == 12_001
    assert 0 < said["copied"] < 24_000
    assert store.jobs(4) == sorted([*want[1:], late, again])
    assert store.layout() == b"4"


def test_a_move_is_given_up(store: Shards) -> None:
    want = some_jobs(12_000)
    store.put(3, want)
    store.set_layout("3")
    _kill_when(store, 4, "held")
    done = store.run("--to", 3)
    assert done.exit_code == 0
    assert done.stdout.startswith("given up: slurmjcd goes on with 3 shards\n")
    assert store.layout() == b"3"
    assert store.reshard("--drop-old") == {"dropped": [4], "dropped_jobs": 12_000}
    assert store.jobs(3) == sorted(want)


def test_what_comes_before_a_shipper_holds_is_moved_too(store: Shards) -> None:
    store.put(3, some_jobs(50))
    store.set_layout("3")
    process = subprocess.Popen(store.command("--to", 4), stdout=subprocess.DEVNULL)
    wait_until(lambda: store.layout() == b"3>4", what="it holds", every_s=0.005)
    late = job(60, end=NOON)
    store.put(3, [late])
    assert process.wait(timeout=30) == 0
    assert late in store.jobs(4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_slurmjcd_holds_lets_it_go_on(store: Shards, number: signal.Signals) -> None:
    store.put(3, some_jobs(50))
    store.set_layout("3")
    process = subprocess.Popen(store.command("--to", 4), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: store.layout() == b"3>4", what="it holds", every_s=0.005)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number, said
    assert store.layout() == b"3"
    # and nobody has to wait for one who has gone
    assert store.reshard("--to", 4)["jobs"] == 50


def test_two_at_a_time_are_refused(store: Shards) -> None:
    store.put(3, some_jobs(50))
    store.set_layout("3")
    first = subprocess.Popen(store.command("--to", 4), stdout=subprocess.PIPE)
    wait_until(lambda: store.layout() == b"3>4", what="it holds", every_s=0.005)
    said = store.refused("--to", 4)
    assert f"another slurmjc reshard --to 4 moves these jobs, process {first.pid} on " in said
    first.communicate(timeout=30)
    assert first.returncode == 0


def test_no_room_is_said_before_anything_is_copied(store: Shards, server: RedisServer) -> None:
    store.put(3, some_jobs(20_000))
    store.set_layout("3")
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000_000)
        said = store.refused("--to", 4)
        assert "no room: the new shards on the server in " in said
        assert "(maxmemory)" in said
        assert store.count(4) == 0
        assert store.layout() == b"3"


def test_wrong_words_and_layouts_are_refused(store: Shards) -> None:
    store.put(3, some_jobs(50))
    store.set_layout("3")
    assert "say how many shards there shall be" in store.refused(status=2)
    assert "jobs are in 3 shards already: there is nothing to move" in store.refused("--to", 3)
    for number in ("0", "257", "x"):
        assert "Invalid value for '--to'" in store.run("--to", number).stderr
    store.set_layout("many")
    assert "the key job:shards can't be read: 'many' is no number of shards" in store.refused("--to", 4)
    # nobody says what is in use: what lies where the jobs should go may be all there is
    store.asked("DEL", "job:shards")
    store.configure(shards=4)
    assert "there are jobs in 3 shards and no key says how many shards are in use" in store.refused("--to", 3)


def test_a_server_that_is_away(store: Shards) -> None:
    store.configure(address="unix:/nowhere/redis.sock")
    said = store.refused("--to", 4, "--wait", 0, status=3)
    assert "no connection to Redis" in said
    assert "nothing is lost or double" in said


def test_who_may_not_is_told_what_is_needed(store: Shards, server: RedisServer, tmp_path: Path) -> None:
    store.put(3, some_jobs(50))
    store.set_layout("3")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "writer", "reset", "on", ">pw", "~*", "-@all", "+slurmjc.info", "+get")
        try:
            (tmp_path / "password").write_text("pw\n")
            (tmp_path / "password").chmod(0o600)
            words = ("--user", "writer", "--password-file", str(tmp_path / "password"))
            said = store.refused("--to", 4, *words, status=3)
        finally:
            client.execute_command("ACL", "DELUSER", "writer")
    assert "NOPERM" in said
    assert "name one who may with --user and --password-file" in said


def test_what_is_to_be_done_next_is_said(store: Shards) -> None:
    store.put(3, some_jobs(50))
    store.set_layout("3")
    first, _, *rest = store.run("--to", 4).stdout.splitlines()
    assert first == "50 jobs of 5 days are in 4 shards now"
    assert rest == [
        "set redis.shards = 4 in slurmjcd.toml on every host and restart slurmjcd",
        "then drop the old ones: slurmjc reshard --drop-old",
    ]
