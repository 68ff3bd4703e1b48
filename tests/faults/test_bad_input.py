# SPDX-License-Identifier: MIT
"""What no plugin of ours sends, on the ingest.sock of a real daemon: answered or closed, and the next one is served.

Frames one by one are in tests/slurmjcd/test_protocol.py and test_ingest.py; here is what needs a process, and records
whose fields are strange but right.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import protocol, record
from tests.faults import jobs, oracle
from tests.faults.feeder import Feeder
from tests.faults.world import World
from tests.harness import wait_until

pytestmark = pytest.mark.faults_fast

HELLO = protocol.command(protocol.HELLO, b"1", b"test/1")


def put(seq: int, *records: bytes, source: bytes = b"bad.1") -> bytes:
    return protocol.command(protocol.PUT, b"SPOOL", source, b"%d" % seq, b"RECORDS", *records)


@contextmanager
def connected(world: World) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(world.daemon.ingest_socket))
        yield link


def everything(link: socket.socket) -> bytes:
    """What comes until the daemon closes, with a reset if it left something unread."""
    data = b""
    with suppress(ConnectionResetError):
        while part := link.recv(65536):
            data += part
    return data


def send(link: socket.socket, data: bytes, step: int) -> None:
    """In pieces, and no more behind them; the daemon may have heard enough before the last one."""
    with suppress(OSError):
        for at in range(0, len(data), step):
            link.sendall(data[at : at + step])
        link.shutdown(socket.SHUT_WR)


def served(world: World, source: str, first_job: int) -> None:
    """The next one who comes gets its records in."""
    before = world.stored_count()
    with Feeder(world.daemon.ingest_socket, source, first_job=first_job) as feeder:
        feeder.feed(5)
        feeder.wait_acked()
    wait_until(lambda: world.stored_count() >= before + 5, what="five records more")


JOB = jobs.encoded(1)
FRAMES: dict[str, tuple[bytes, bytes]] = {
    # what is sent behind the greeting, how the last answer begins
    "two greetings": (HELLO + HELLO, b"*10\r\n"),
    "trailing bytes": (put(1, JOB) + b"\r\n", b"-ERR requests are RESP arrays"),
    "a first number far ahead": (put(2**63 - 1, JOB, source=b"bad.2"), b"-OUTOFSEQ 1\r\n"),
    "a number past 63 bits": (put(2**63, JOB, source=b"bad.3"), b"-ERR seq must be a number"),
    "the last numbers": (put(2**63 - 1, JOB, JOB, JOB, source=b"bad.4"), b"-OUTOFSEQ 1\r\n"),
    "counters at their limit": (
        protocol.command(protocol.RING, "r", "ATTEMPTED", 2**63 - 1, "DROPPED", 2**63 - 1, "SPILLED", 2**63 - 1)
        + protocol.command(protocol.RING, "r", "ATTEMPTED", 0, "DROPPED", 0, "SPILLED", 0),
        b"+OK\r\n",
    ),
    "a greeting of another version": (protocol.command(protocol.HELLO, b"4294967295", b"test/1"), b"-NOPROTO"),
    "a command of query.sock": (protocol.command(protocol.MATCH, b"q"), b"-ERR unknown command"),
    "an answer": (b"+OK\r\n", b"-ERR requests are RESP arrays"),
    "a length that never ends": (b"*1\r\n$" + b"1" * 64, b"-ERR"),
    "many requests at once": (protocol.command(protocol.PING) * 100_000, b"+PONG\r\n"),
}


def last_answer(data: bytes) -> bytes:
    """From the last line that begins an answer on; an array whole."""
    if data.endswith(b"ingest\r\n$17\r\nmax_request_bytes\r\n:4194304\r\n"):
        return data[data.rindex(b"*10\r\n") :]
    return data[data.rindex(b"\r\n", 0, -2) + 2 :] if data.count(b"\r\n") > 1 else data


def test_frames_that_no_plugin_sends(make_world: Callable[..., World]) -> None:
    """One after the other on one daemon, whole, byte by byte and half closed."""
    world = make_world()
    for number, (name, (sent, answer)) in enumerate(FRAMES.items(), 1):
        for step in (len(sent), 1) if len(sent) < 2000 else (len(sent),):
            with connected(world) as link:
                link.sendall(HELLO)
                send(link, sent, step)
                assert last_answer(everything(link)).startswith(answer), name
        served(world, f"good-{number}.1", 1000 * number)
    assert world.daemon.process.running
    with world.redis.client() as client:
        found = oracle.compare([], oracle.stored(client), possible=[1, *range(1000, 1000 * len(FRAMES) + 1000)])
    assert found.good, found


def test_files_that_come_along_are_closed(make_world: Callable[..., World], tmp_path: Path) -> None:
    """File descriptors in a message (SCM_RIGHTS) must not stay in the daemon."""
    world = make_world()
    path = tmp_path / "sent"
    path.touch()

    def held() -> int:
        links = Path(f"/proc/{world.daemon.process.pid}/fd").iterdir()
        return sum(os.path.realpath(link) == str(path) for link in links)

    with connected(world) as link, path.open() as file:
        link.sendall(HELLO)
        socket.send_fds(link, [put(1, JOB)], [file.fileno()] * 50)
        wait_until(lambda: world.stored_count() == 1, what="the record that came with them")
        assert held() == 0
    served(world, "good.1", 10)


STRANGE: dict[str, dict[str, Any]] = {
    "separators": {"name": "a|b\nc\rd\te", "work_dir": "/x|y\n"},
    "escapes": {"name": "\x1b[31mred\x1b[0m\x07", "user": "\x7f"},
    "a zero byte": {"user": "\x00nul"},
    "no UTF-8": {"name": "\udcff\udcfe\udc80", "account": "\udcc3"},
    "an end before its start": {"start": jobs.START + 100, "end": jobs.START + 1},
    "an end after 2106": {"end": 2**32 + 86_400, "start": 2**32},
    "largest numbers": {"job_id": 2**32 - 3, "uid": 2**32 - 2, "gid": 2**32 - 2, "exit_code": 2**32 - 1},
    "nothing": {"name": None, "user": None, "group": None, "work_dir": None, "partition": None},
    "long strings": {"name": "n" * 200_000, "work_dir": "/" + "d" * 200_000},
}


def test_records_with_strange_fields_come_back_as_they_were(make_world: Callable[..., World]) -> None:
    """The one that Redis takes for no text at all is set aside by itself; none stops its neighbours."""
    world = make_world()
    records = {name: record.encode({**jobs.fields(100 + n), **more}) for n, (name, more) in enumerate(STRANGE.items())}
    with connected(world) as link:
        link.sendall(HELLO + put(1, JOB, *records.values(), jobs.encoded(2)))
        link.shutdown(socket.SHUT_WR)
        assert everything(link).endswith(b":%d\r\n" % (len(records) + 2))
    spool = world.daemon.state_dir / "spool.db"

    def all_placed() -> bool:
        with world.redis.client() as client:
            return len(oracle.stored(client)) + len(oracle.quarantined(spool)) == len(records) + 2

    wait_until(all_placed, what="every record in Redis or in quarantine")
    with world.redis.client() as client:
        placed = [*oracle.stored(client), *oracle.quarantined(spool)]
    assert sorted(placed) == sorted([JOB, jobs.encoded(2), *records.values()])
    assert oracle.quarantined(spool) == [records["a zero byte"]]
