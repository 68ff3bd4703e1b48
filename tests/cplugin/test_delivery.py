# SPDX-License-Identifier: MIT
"""From the hook to a daemon that cuts, refuses, forgets or stays away: every record is taken once, in order."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import signal
import time
from collections import Counter

import msgpack
import pytest

from tests.cplugin.conftest import Site
from tests.cplugin.fake_daemon import FakeDaemon
from tests.harness.waiting import wait_until


def sums(daemon: FakeDaemon) -> list[str]:
    return [hashlib.sha256(record).hexdigest() for record in daemon.records()]


def settle(site: Site, daemon: FakeDaemon) -> None:
    """Waits until the daemon has every promised record, then checks that it has nothing else and each once."""
    promised = site.promised()
    wait_until(
        lambda: len(daemon.records()) >= len(promised), what=lambda: f"{len(daemon.records())} of {len(promised)}"
    )
    assert Counter(sums(daemon)) == Counter(promised)


def test_records_arrive_in_order(site: Site) -> None:
    daemon = site.daemon().start()
    driver = site.driver()
    for _ in range(20):
        driver.call(50)
    settle(site, daemon)
    assert sums(daemon) == site.promised()
    assert len(daemon.stored) == 1


def test_hello_comes_first_and_says_who_calls(site: Site) -> None:
    daemon = site.daemon().start()
    site.driver().call(1)
    settle(site, daemon)
    assert daemon.requests[0][:2] == [b"SLURMJC.HELLO", b"1"]
    assert daemon.requests[0][2].startswith(b"jobcomp_redis/")


def test_names_are_put_in_where_slurm_has_none(site: Site) -> None:
    """The reference jobs have a user, and groups the system does not know: nil stays nil."""
    daemon = site.daemon().start()
    site.driver().call(1)
    settle(site, daemon)
    record = msgpack.unpackb(daemon.records()[0])
    assert record[9] is not None
    with pytest.raises(KeyError):
        grp.getgrgid(record[8])
    assert record[10] is None
    with pytest.raises(KeyError):
        pwd.getpwuid(record[7])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen as somebody else")
@pytest.mark.parametrize(
    ("params", "trusted"), [("", False), (",daemon_user=64103", True), (",daemon_user=root", False)]
)
def test_who_listens_is_root_or_the_daemons_user(site: Site, params: str, trusted: bool) -> None:
    """Somebody who got hold of the socket's path is told nothing, and what they would acknowledge is kept."""
    squatter = site.daemon()
    squatter.path.parent.chmod(0o777)
    os.seteuid(64103)
    try:
        squatter.start()
    finally:
        os.seteuid(0)
    driver = site.driver(params=f"ring_mib=1{params}")
    driver.call(10)
    if trusted:
        settle(site, squatter)
        return
    wait_until(lambda: "uid 64103 listens there, which is neither root nor" in driver.log(), what="the refusal")
    squatter.stop()
    assert squatter.requests == []
    squatter.path.unlink(missing_ok=True)
    settle(site, site.daemon().start())


def test_daemon_that_comes_late_gets_everything(site: Site) -> None:
    daemon = site.daemon()
    driver = site.driver()
    driver.call(300)
    daemon.start()
    settle(site, daemon)


def test_daemon_that_comes_and_goes_gets_each_record_once(site: Site) -> None:
    daemon = site.daemon().start()
    driver = site.driver()
    for _ in range(8):
        driver.call(40)
        daemon.drop_clients()
        driver.call(40)
        daemon.stop()
        driver.call(20)
        daemon.start()
    settle(site, daemon)


@pytest.mark.parametrize("cut", range(12))
def test_reply_may_come_in_pieces_or_end_anywhere(site: Site, cut: int) -> None:
    """The first replies are cut short and the connection closed: the records were stored, and are sent again."""
    daemon = site.daemon()
    cuts = [cut, cut, cut]

    def cut_reply(request: list[bytes]) -> bytes | None:
        reply = daemon.take(request)
        return reply[: cuts.pop() % (len(reply) + 1)] + daemon.CLOSE if cuts else reply

    daemon.put = cut_reply
    daemon.start()
    site.driver().call(100)
    settle(site, daemon)
    assert len(cuts) < 3


def test_tryagain_is_tried_again(site: Site) -> None:
    daemon = site.daemon()
    refusals = [b"-TRYAGAIN spool full\r\n", b"-TRYAGAIN disk\r\n", b"-OOM what Redis says\r\n"]
    daemon.put = lambda request: refusals.pop() if refusals else daemon.take(request)
    daemon.start()
    driver = site.driver()
    for _ in range(10):
        driver.call(100)
    settle(site, daemon)
    assert not refusals
    assert sums(daemon) == site.promised()
    assert "the daemon does not take records" in driver.log()


def test_gap_is_healed_by_going_back(site: Site) -> None:
    """A batch that got lost behind an answer that said nothing about it: the next is out of sequence."""
    daemon = site.daemon()
    errors = [b"-OUTOFSEQ 1\r\n"]
    daemon.put = lambda request: errors.pop() if errors else daemon.take(request)
    daemon.start()
    site.driver().call(200)
    settle(site, daemon)
    assert len(daemon.stored) == 1


def test_daemon_that_has_more_than_it_acknowledged_is_believed(site: Site) -> None:
    """Replies were lost behind a commit: records it has are not sent to it once more."""
    daemon = site.daemon()
    site.driver().call(100)
    ahead = FakeDaemon(daemon.path)

    def first(request: list[bytes]) -> bytes:
        daemon.take([*request[:5], *request[5:45]])
        daemon.put = daemon.take
        return b"-OUTOFSEQ 41\r\n"

    daemon.put = first
    daemon.start()
    settle(site, daemon)
    assert ahead.stored == {}
    again = [r for r in daemon.requests if r[0] == b"SLURMJC.PUT"][1]
    assert int(again[3]) == 41


def test_daemon_that_forgot_gets_a_new_numbering(site: Site) -> None:
    daemon = site.daemon().start()
    driver = site.driver()
    driver.call(100)
    settle(site, daemon)
    before = site.promised()
    (source,) = daemon.stored
    daemon.stop()
    daemon.stored.clear()
    daemon.start()
    driver.call(50)
    wait_until(lambda: len(daemon.records()) >= 50, what="the rest")
    assert sums(daemon) == site.promised()[len(before) :]
    ((fresh, records),) = [(s, r) for s, r in daemon.stored.items() if r]
    assert fresh == source.rsplit(b".", 1)[0] + b".2"
    assert sorted(records) == list(range(1, 51))


def test_refused_record_is_dropped_alone(site: Site) -> None:
    daemon = site.daemon()
    driver = site.driver()
    driver.call(100)
    bad = site.promised()[37]

    def pick(request: list[bytes]) -> bytes:
        for index, record in enumerate(request[5:]):
            if hashlib.sha256(record).hexdigest() == bad:
                return b"-BADRECORD %d not today\r\n" % index
        return daemon.take(request)

    daemon.put = pick
    daemon.start()
    wait_until(lambda: len(daemon.records()) >= 99, what="the others")
    assert sums(daemon) == [s for s in site.promised() if s != bad]
    wait_until(lambda: "refuses the record of JobId=" in driver.log(), what="a line in the log")
    counted = [c for c in daemon.counters.values() if c[b"DROPPED"]]
    assert [c[b"DROPPED"] for c in counted] == [1]
    assert sum(c[b"ATTEMPTED"] for c in counted) == 38


def test_batch_that_is_too_big_is_halved(site: Site) -> None:
    daemon = site.daemon()
    daemon.put = lambda request: b"-TOOBIG\r\n" if len(request) > 15 else daemon.take(request)
    site.driver().call(100)
    daemon.start()
    settle(site, daemon)


def test_request_stays_within_what_the_daemon_takes(site: Site) -> None:
    daemon = site.daemon()
    daemon.max_request_bytes = 65536
    site.driver().call(300)
    daemon.start()
    settle(site, daemon)
    puts = [r for r in daemon.requests if r[0] == b"SLURMJC.PUT"]
    assert max(sum(map(len, r)) for r in puts) < 65536


@pytest.mark.parametrize(
    "reply", [b"+OK\r\n", b"*0\r\n", b"$-1\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"\x00\xff", b"*1000000000\r\n"]
)
def test_strange_reply_ends_the_connection_not_the_delivery(site: Site, reply: bytes) -> None:
    daemon = site.daemon()
    strange = [reply]
    daemon.put = lambda request: strange.pop() if strange else daemon.take(request)
    daemon.start()
    driver = site.driver()
    driver.call(20)
    settle(site, daemon)


def test_counters_say_what_was_dropped(site: Site) -> None:
    driver = site.driver(params="ring_mib=1,spill_mib=0")
    calls, failed = driver.call(4000)
    assert 0 < failed < calls
    daemon = site.daemon().start()
    settle(site, daemon)
    assert len(daemon.records()) == calls - failed
    ((_, counters),) = daemon.counters.items()
    assert (counters[b"ATTEMPTED"], counters[b"DROPPED"]) == (calls, failed)
    assert "records dropped, the last of JobId" in driver.log()


# ---- the job script


def put_script(site: Site, job_id: int, script: bytes) -> None:
    directory = site.state / f"hash.{job_id % 10}" / f"job.{job_id}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "script").write_bytes(script + b"\0")


def record_with_script(site: Site, script: bytes) -> tuple[list, list]:
    """What is stored of the first reference job without and with a script."""
    daemon = site.daemon().start()
    plain = site.driver()
    plain.call(1)
    wait_until(lambda: len(daemon.records()) == 1, what="the plain record")
    before = msgpack.unpackb(daemon.records()[0], unicode_errors="surrogateescape")
    plain.kill()
    put_script(site, before[2] if before[3] is not None else before[1], script)
    site.driver(params="ring_mib=1,store_script").call(1)
    wait_until(lambda: len(daemon.records()) == 2, what="the other record")
    return before, msgpack.unpackb(daemon.records()[1], unicode_errors="surrogateescape")


def test_script_comes_along_when_asked_for(site: Site) -> None:
    before, after = record_with_script(site, b"#!/bin/sh\nsrun true \xff\n")
    assert after[-1].pop("script") == "#!/bin/sh\nsrun true \udcff\n"
    assert after == before


def test_long_script_is_cut_and_said_to_be(site: Site) -> None:
    before, after = record_with_script(site, b"xx" + "\u20ac".encode() * 100_000)
    assert len(after[-1]["script"].encode()) == 262142
    assert after[-1].pop("truncated") == "script"
    del after[-1]["script"]
    assert after == before


def test_script_that_is_gone_is_left_out(site: Site) -> None:
    daemon = site.daemon().start()
    site.driver(params="ring_mib=1,store_script").call(50)
    settle(site, daemon)


# ---- processes that die or overlap


def test_successor_delivers_what_a_killed_process_left(site: Site) -> None:
    first = site.driver()
    first.call(200)
    first.kill()
    second = site.driver(first=200)
    second.call(100)
    daemon = site.daemon().start()
    settle(site, daemon)
    assert sums(daemon) == site.promised()
    assert len(daemon.stored) == 1


def test_two_processes_at_once_share_nothing(site: Site) -> None:
    """As in a reconfigure: the new process is there before the old one is gone, and the old one goes on for a while."""
    old = site.driver()
    old.call(50)
    new = site.driver(first=1000)
    new.call(50)
    old.call(50)
    new.call(50)
    daemon = site.daemon().start()
    old.call(50)
    old.kill()
    new.call(50)
    settle(site, daemon)


def test_killed_again_and_again_under_delivery(site: Site) -> None:
    daemon = site.daemon().start()
    for i in range(12):
        driver = site.driver(first=i * 500)
        driver.call(37 * i + 1)
        driver.kill()
    site.driver(first=90000).call(1)
    promised = set(site.promised())
    wait_until(lambda: promised <= set(sums(daemon)), what="all that was promised")
    assert max(Counter(sums(daemon)).values()) == 1


def test_stopped_process_delivers_when_it_goes_on(site: Site) -> None:
    daemon = site.daemon().start()
    driver = site.driver()
    driver.call(100)
    settle(site, daemon)
    os.kill(driver.pid, signal.SIGSTOP)
    os.kill(driver.pid, signal.SIGCONT)
    driver.call(100)
    settle(site, daemon)


# ---- the spill file


def test_records_beyond_the_ring_are_spilled_and_come_back_in_order(site: Site) -> None:
    driver = site.driver()
    calls = 0
    for _ in range(12):
        calls, failed = driver.call(400)
        assert failed == 0
        wait_until(lambda: driver.ring_is_low(), what="room in the ring")
    assert list(site.state.glob("*.spill"))
    daemon = site.daemon().start()
    settle(site, daemon)
    assert sums(daemon) == site.promised()
    assert len(daemon.records()) == calls
    wait_until(lambda: not list(site.state.glob("*.spill")), what="the spill file to go")
    ((_, counters),) = daemon.counters.items()
    assert counters[b"DROPPED"] == 0


@pytest.mark.parametrize("reply", [b"-TRYAGAIN the spool is full\r\n", None], ids=["TRYAGAIN", "hangs up"])
def test_records_that_a_daemon_refuses_are_spilled_too(site: Site, reply: bytes | None) -> None:
    """It answers, and is there at each attempt: only an acknowledgement says that it takes records."""
    daemon = site.daemon()
    daemon.put = lambda request: reply
    daemon.start()
    driver = site.driver()
    for _ in range(12):
        _, failed = driver.call(400)
        assert failed == 0
        wait_until(driver.ring_is_low, what="room in the ring")
    assert list(site.state.glob("*.spill"))
    daemon.put = daemon.take
    settle(site, daemon)
    assert sums(daemon) == site.promised()


def test_a_daemon_that_acknowledges_slowly_costs_no_record(site: Site) -> None:
    """An acknowledgement comes again and again, but jobs end faster: what the ring has no room for is spilled."""
    daemon = site.daemon()

    def slowly(request: list[bytes]) -> bytes:
        time.sleep(0.4)
        return daemon.take(request)

    daemon.put = slowly
    daemon.max_request_bytes = 65536  # and few at a time
    daemon.start()
    driver = site.driver()
    for _ in range(120):
        _, failed = driver.call(100)
        assert failed == 0
        wait_until(lambda: driver.ring_used() < 7 / 8, what="room in the ring")
        if list(site.state.glob("*.spill")):
            break
    else:
        pytest.fail("nothing was spilled")
    acknowledged = len(daemon.records())
    assert driver.call(100)[1] == 0
    daemon.put = daemon.take
    settle(site, daemon)
    assert acknowledged, "the daemon has to take some of it before"
    assert sums(daemon) == site.promised()
    assert len(daemon.stored) == 1, "the numbering goes on"
    ((_, counters),) = daemon.counters.items()
    assert counters[b"DROPPED"] == 0
    assert "no delivery" not in driver.log()


def test_end_of_the_process_spills_for_a_reboot(site: Site) -> None:
    driver = site.driver()
    driver.call(200)
    driver.fini()
    driver.kill()
    for ring in site.ring_dir.glob("*.ring"):
        ring.unlink()
    daemon = site.daemon().start()
    site.driver(first=200).call(10)
    settle(site, daemon)
    assert len(daemon.stored) == 2


def test_killed_while_spilling_loses_nothing(site: Site) -> None:
    for i in range(10):
        driver = site.driver(first=i * 1000)
        driver.call(900)
        driver.kill()
    daemon = site.daemon().start()
    site.driver(first=90000).call(1)
    settle(site, daemon)


def test_init_after_fini_goes_on(site: Site) -> None:
    driver = site.driver()
    driver.call(10)
    driver.fini()
    driver.init()
    driver.call(10)
    daemon = site.daemon().start()
    settle(site, daemon)
    driver.fini()
    driver.init()
    driver.call(10)
    settle(site, daemon)


def test_spill_file_with_an_empty_ring_is_delivered_and_forgotten(site: Site) -> None:
    driver = site.driver()
    driver.call(10)
    driver.fini()
    driver.kill()
    daemon = site.daemon().start()
    driver = site.driver(first=10)
    settle(site, daemon)
    wait_until(lambda: not list(site.state.glob("*.spill")), what="the spill file to go")
    driver.call(10)
    settle(site, daemon)
    assert sums(daemon) == site.promised()
    assert len(daemon.stored) == 1


def test_new_location_is_used_at_once(site: Site) -> None:
    driver = site.driver()
    driver.call(10)
    other = site.sockets.parent / "other"
    other.mkdir()
    daemon = FakeDaemon(other / "ingest.sock").start()
    driver.set_location(str(other))
    settle(site, daemon)


@pytest.mark.parametrize("name", ["missing", "file", "fifo", "directory"])
def test_start_does_not_depend_on_the_socket(site: Site, name: str) -> None:
    path = site.sockets / "ingest.sock"
    if name == "file":
        path.write_text("hello")
    elif name == "fifo":
        os.mkfifo(path)
    elif name == "directory":
        path.mkdir()
    driver = site.driver()
    assert driver.call(5) == (5, 0)
    wait_until(lambda: "no delivery to" in driver.log(), what="a line in the log")
    driver.fini()
