# SPDX-License-Identifier: MIT
"""slurmjc audit and slurmjc quarantine: every call of the hook is accounted for, and nothing disappears silently."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest

from slurmjcd import protocol, record
from tests.faults import jobs
from tests.faults.test_ring import counters
from tests.faults.world import World
from tests.harness import wait_until
from tests.harness.paths import program


def slurmjc(world: World, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("slurmjc"), *words, "--config", world.daemon.conf],
        capture_output=True, text=True, timeout=30, check=check,
    )  # fmt: skip


def books(world: World) -> dict[str, int]:
    return dict(json.loads(slurmjc(world, "audit", "--json").stdout))


def test_audit_accounts_for_every_call_after_kills_and_drops(make_world: Callable[..., World]) -> None:
    """attempted = stored + dropped, and stored is what Redis really holds."""
    world = make_world(params="ring_mib=1,spill_mib=0")
    world.driver.start(1000, rate=2000)
    world.driver.wait_calls(300)
    world.daemon.kill()
    world.driver.report(world.driver.process)
    process = world.driver.start(8000)  # more than the ring holds
    failed = world.driver.report(process)["failed"]
    assert failed > 0
    world.revive()
    world.drain()
    wait_until(lambda: counters(world)["dropped"] == failed, what="the drops to be told")
    found = books(world)
    assert found["attempted"] == 9001
    assert found["stored"] == found["jobs_in_redis"] == 9001 - failed
    assert found["dropped"] == failed
    assert found["unaccounted"] == 0


def test_a_full_spool_fills_the_ring_and_the_spill_file_and_then_the_newest_are_dropped(
    make_world: Callable[..., World],
) -> None:
    """What was taken stays; who finds no room is named in the log and counted, and the books say the same."""
    calls, mib = 16_000, 1 << 20
    world = make_world(params="ring_mib=1,spill_mib=1", settings={"spool": {"max_bytes": mib}})
    world.redis.process.send(signal.SIGSTOP)
    process = world.driver.start(calls, rate=2500)

    def spool() -> dict[str, object]:
        return dict(json.loads(world.daemon.get("/readyz")[1])["components"]["spool"])

    def told() -> list[tuple[str, str]]:
        return re.findall(r"ring full, (\d+) records dropped, the last of JobId((?: \d+)+)", process.log_text())

    wait_until(told, what="a line of what was dropped", timeout_s=60)
    taken = world.driver.calls
    assert spool()["status"] == "spool.max_bytes is reached"
    assert sum(path.stat().st_size for path in world.driver.spills()) > mib // 2
    failed = world.driver.report(process)["failed"]
    assert failed > 1000
    assert calls - failed - taken <= 5, "somebody found room behind one who did not, and not because he was small"
    wait_until(
        lambda: sum(int(count) for count, _ in told()) == failed, what=lambda: f"{failed} dropped in the log: {told()}"
    )
    named = {int(job_id) for _, ids in told() for job_id in ids.split()}
    assert not named & world.driver.promised().keys(), "the log names jobs that were taken"
    world.check()
    wait_until(lambda: counters(world)["dropped"] == failed, what="the drops to be told")
    found = books(world)
    assert (found["attempted"], found["dropped"], found["unaccounted"]) == (calls + 1, failed, 0)
    assert found["stored"] == found["jobs_in_redis"] == calls + 1 - failed


def test_audit_says_what_waits(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.driver.start(100)
    wait_until(lambda: world.stored_count() == 100, what="100 records")
    world.daemon.stop()
    world.driver.start(50)
    world.driver.wait_calls(150)
    found = books(world)
    assert (found["attempted"], found["stored"], found["waiting"]) == (100, 100, 0)
    world.check()
    assert books(world)["stored"] == 151


def put(world: World, *records: bytes) -> None:
    """Records as a plugin would send them."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(world.daemon.ingest_socket))
        link.sendall(protocol.command(protocol.HELLO, b"1", b"test/1"))
        link.sendall(protocol.command(protocol.PUT, b"SPOOL", b"test.1", b"1", b"RECORDS", *records))
        data = b""
        while not data.endswith(b":%d\r\n" % len(records)):
            data += link.recv(65536)


@pytest.mark.faults_fast
def test_a_poisoned_record_goes_to_quarantine_alone_and_is_listed_shown_tried_again_and_dropped(
    make_world: Callable[..., World],
) -> None:
    """Its neighbours are stored; retry brings it back as long as it is refused; drop goes on counting it."""
    world = make_world()
    poison = record.encode({**jobs.fields(7), "end": "tomorrow"})
    put(world, jobs.encoded(6), poison, jobs.encoded(8))
    wait_until(lambda: world.stored_count() == 2, what="its neighbours to be stored")

    def listed() -> list[dict[str, object]]:
        return list(json.loads(slurmjc(world, "quarantine", "list", "--json").stdout)["quarantine"])

    (entry,) = wait_until(listed, what="the record in quarantine")
    assert entry["job_id"] == "7"
    assert poison.hex() in slurmjc(world, "quarantine", "show", str(entry["seq"])).stdout
    found = books(world)
    assert (found["attempted"], found["stored"], found["quarantined"]) == (3, 2, 1)

    assert "1 sent again" in slurmjc(world, "quarantine", "retry", "--all").stdout
    wait_until(lambda: [new["seq"] for new in listed()] not in ([], [entry["seq"]]), what="it to be refused again")
    assert books(world)["unaccounted"] == 0

    assert "1 dropped" in slurmjc(world, "quarantine", "drop", "--all").stdout
    found = books(world)
    assert (found["attempted"], found["stored"], found["quarantined"], found["discarded"]) == (3, 2, 0, 1)
    assert json.loads(world.daemon.get("/readyz")[1])["components"]["spool"]["quarantined_records"] == 0


@pytest.mark.faults_fast
def test_quarantine_says_what_is_wrong_with_its_arguments(make_world: Callable[..., World]) -> None:
    world = make_world()
    done = slurmjc(world, "quarantine", "drop", check=False)
    assert done.returncode == 2
    assert "--all" in done.stderr
    done = slurmjc(world, "quarantine", "show", "42", check=False)
    assert (done.returncode, done.stderr) == (
        5, "slurmjc: no record 42 is in quarantine: see slurmjc quarantine list\n",
    )  # fmt: skip
    world.redis.kill()
    done = slurmjc(world, "audit", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("slurmjc: no connection to Redis")
