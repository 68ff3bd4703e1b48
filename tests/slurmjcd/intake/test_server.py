# SPDX-License-Identifier: MIT
"""The intake over real TCP, with a real spool."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import protocol
from slurmjcd.errors import ConfigError
from slurmjcd.health.metrics import Metrics
from slurmjcd.ingest.committer import Committer
from slurmjcd.intake.resizes import Resizes
from slurmjcd.intake.server import SOURCE, IntakeServer, read_token
from slurmjcd.loopbackhttp import tcp_socket
from slurmjcd.record import decode
from slurmjcd.spool.spool import Spool
from tests.slurmjcd.intake.test_document import posted

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # what anybody may run, as opposed to the environment of this tree
CURL = ["curl", "--silent", "--show-error", "--include", "--max-time", "20", "--noproxy", "*"]
BODY_BYTES = 100_000


@dataclass
class Running:
    """A running intake."""

    port: int
    spool: Spool
    committer: Committer
    server: IntakeServer

    async def job_ids(self) -> list[int]:
        batches = await self.spool.read(0, max_bytes=2**30)
        return [decode(record)["job_id"] for batch in batches for record in protocol.split_frames(batch.frames)]


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0"])
def listen(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def intake(tmp_path: Path, request: pytest.FixtureRequest, listen: str) -> AsyncIterator[Running]:
    options: dict[str, Any] = {"token": None, "max_bytes": 2**30} | getattr(request, "param", {})
    spool = await Spool.open(tmp_path / "spool.db", max_bytes=options["max_bytes"], replay_s=0, replay_bytes=0)
    committer = Committer(spool, Metrics(), batch_records=1000, batch_bytes=2**20, batch_ms=1)
    task = asyncio.create_task(committer.run())
    server = IntakeServer(
        committer, allowed_uids=frozenset({os.geteuid()}), token=options["token"], body_bytes=BODY_BYTES,
        resizes=Resizes(tmp_path / "resizes.json"),
    )  # fmt: skip
    sock = tcp_socket(listen, "intake.listen")
    await server.start(sock)
    yield Running(sock.getsockname()[1], spool, committer, server)
    await server.close()
    committer.close()
    await task
    await spool.close()


async def post(
    running: Running, listen: str, path: str, *options: str, body: bytes = b"", uid: int | None = None
) -> str:
    """curl's POST, as slurmctld's plugin makes it (libcurl); the answer with its head."""
    host = listen.rpartition(":")[0]
    process = await asyncio.create_subprocess_exec(
        *CURL, "--data-binary", "@-", "-H", "Content-Type: application/json", *options,
        f"http://{host}:{running.port}{path}",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, user=uid,
    )  # fmt: skip
    out, _ = await process.communicate(body)
    return out.decode()


async def test_a_job_is_answered_when_it_is_in_the_spool(intake: Running, listen: str) -> None:
    answer = await post(intake, listen, "/intake/demo", body=posted())
    assert answer.startswith("HTTP/1.1 201 Created\r\n")
    assert '"result": "created"' in answer
    assert await intake.job_ids() == [17]
    assert intake.spool.state.watermarks[SOURCE] == 1


async def test_jobs_at_the_same_time_are_all_taken(intake: Running, listen: str) -> None:
    bodies = [posted(jobid=number) for number in range(1, 13)]
    answers = await asyncio.gather(*(post(intake, listen, "/intake/demo", body=body) for body in bodies))
    assert all(answer.startswith("HTTP/1.1 201") for answer in answers)
    assert sorted(await intake.job_ids()) == list(range(1, 13))


async def test_a_large_job_that_waits_to_be_told_to_go_on(intake: Running, listen: str) -> None:
    body = posted(script="x" * 90_000)
    answer = await post(intake, listen, "/intake/demo", "-H", "Expect: 100-continue", body=body)
    assert answer.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201")
    assert await intake.job_ids() == [17]


async def test_where_nobody_could_be_let_in_it_does_not_start(intake: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurmjcd.intake.tcppeer.is_told", lambda: False)
    server = IntakeServer(
        intake.committer, allowed_uids=frozenset({0}), token=None, body_bytes=65536, resizes=Resizes()
    )
    with tcp_socket("127.0.0.1:0", "intake.listen") as sock, pytest.raises(ConfigError, match="modprobe tcp_diag"):
        await server.start(sock)


async def test_a_job_that_begins_is_no_record(intake: Running, listen: str) -> None:
    begun = posted(**dict.fromkeys(("@end", "exit_code", "derived_ec", "elapsed"), ...))
    answer = await post(intake, listen, "/intake/demo", body=begun)
    assert answer.startswith("HTTP/1.1 201")
    assert '"result": "noop"' in answer
    assert await intake.job_ids() == []


@pytest.mark.parametrize(
    ("path", "options", "body", "status", "why"),
    [
        ("/intake/demo", (), b"{}", 400, "field 'jobid'"),
        ("/intake/demo", (), posted(cluster="other"), 400, "the job is of cluster"),
        ("/", (), posted(), 404, "jobs are posted to /intake/<cluster>"),
        ("/intake/", (), posted(), 404, "jobs are posted to /intake/<cluster>"),
        ("/intake/a%20b", (), posted(), 404, "jobs are posted to /intake/<cluster>"),
        ("/intake/demo/x/y", (), posted(), 404, "jobs are posted to /intake/<cluster>"),
        ("/intake/demo", ("--request", "PUT"), posted(), 405, "jobs are posted"),
        ("/intake/demo", (), b" " * (BODY_BYTES + 1), 413, "a document may have 100000 bytes, this one is of 100001"),
        ("/intake/demo", ("-H", "Content-Length: 104857600"), b"x", 413, "this one is of 104857600 bytes"),
        ("/intake/demo", ("-H", "Transfer-Encoding: chunked"), posted(), 413, "this one is of unknown size"),
    ],
)
async def test_anything_else_is_refused(
    intake: Running, listen: str, path: str, options: tuple[str, ...], body: bytes, status: int, why: str
) -> None:
    answer = await post(intake, listen, path, *options, body=body)
    assert answer.splitlines()[0].split()[1] == str(status)
    assert why in answer
    assert await intake.job_ids() == []


async def test_a_hundred_megabytes_are_refused_without_being_kept(intake: Running, listen: str, tmp_path: Path) -> None:
    """Sent all the same, by a program that says no size and doesn't wait to be told to go on."""
    options = ("-H", "Expect:", "-H", "Transfer-Encoding: chunked")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(100 * 2**20)
    tracemalloc.start()
    try:
        answer = await post(intake, listen, "/intake/demo", "--data-binary", f"@{large}", *options)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not answer or answer.startswith("HTTP/1.1 413")  # it may find the connection closed before it has read why
    assert most < 4 * 2**20
    assert (await post(intake, listen, "/intake/demo", body=posted())).startswith("HTTP/1.1 201")
    assert await intake.job_ids() == [17]


async def test_another_user_is_refused_before_a_byte_of_the_job_is_read(
    intake: Running, listen: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        answer = await post(intake, listen, "/intake/demo", body=posted(), uid=NOBODY)
        assert answer.startswith("HTTP/1.1 403")
        assert "only root and SlurmUser" in answer
    assert await intake.job_ids() == []
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert lines == [f"intake: refused a document of uid {NOBODY}"]


async def test_others_who_hold_connections_keep_no_job_out(intake: Running, listen: str) -> None:
    host = listen.rpartition(":")[0].strip("[]")
    code = (
        "import socket, sys\n"
        f"held = [socket.create_connection(({host!r}, {intake.port})) for _ in range(60)]\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-I", "-S", "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    answers = [await post(intake, listen, "/intake/demo", body=posted(jobid=number)) for number in range(1, 20)]
    assert {answer.split()[1] for answer in answers} == {"201"}
    # they have no more than their share, and get it back
    assert " 503 " in await post(intake, listen, "/intake/demo", body=posted(), uid=NOBODY)
    await process.communicate(b"")
    async with asyncio.timeout(20):
        while " 403 " not in await post(intake, listen, "/intake/demo", body=posted(), uid=NOBODY):
            await asyncio.sleep(0.05)
    assert await intake.job_ids() == list(range(1, 20))


async def test_a_socket_that_was_closed_is_nobodys(intake: Running, listen: str) -> None:
    """The kernel shows it with uid 0: whoever sends and closes at once must not pass for root."""
    host = listen.rpartition(":")[0].strip("[]")
    code = (
        "import socket, sys, struct\n"
        f"s = socket.create_connection(({host!r}, {intake.port}))\n"
        "body = sys.stdin.buffer.read()\n"
        "s.sendall(b'POST /intake/demo HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)\n"
    )
    for _ in range(20):
        process = await asyncio.create_subprocess_exec(
            PYTHON, "-I", "-S", "-c", code, stdin=subprocess.PIPE, user=NOBODY
        )
        await process.communicate(posted())
    # one of ours comes after all those
    assert (await post(intake, listen, "/intake/demo", body=posted(jobid=99))).startswith("HTTP/1.1 201")
    assert await intake.job_ids() == [99]


@pytest.mark.parametrize("intake", [{"token": "s3cret"}], indirect=True)
@pytest.mark.parametrize("listen", ["127.0.0.1:0"])
async def test_a_token_is_asked_for_where_one_is_set(intake: Running, listen: str) -> None:
    for path in ("/intake/demo", "/intake/demo/", "/intake/demo/s3cre", "/intake/demo/s3crett"):
        answer = await post(intake, listen, path, body=posted())
        assert answer.split()[1] in ("403", "404")
        assert "s3cret" not in answer
    assert (await post(intake, listen, "/intake/demo/s3cret", body=posted())).startswith("HTTP/1.1 201")
    assert await intake.job_ids() == [17]


@pytest.mark.parametrize("intake", [{"max_bytes": 4096}], indirect=True)
@pytest.mark.parametrize("listen", ["127.0.0.1:0"])
async def test_a_full_spool_is_not_the_jobs_fault(intake: Running, listen: str) -> None:
    answers = [await post(intake, listen, "/intake/demo", body=posted(jobid=number)) for number in range(1, 31)]
    taken = [number for number, answer in enumerate(answers, 1) if answer.startswith("HTTP/1.1 201")]
    assert 0 < len(taken) < len(answers)
    assert all(answer.startswith("HTTP/1.1 503") for answer in answers[len(taken) :])
    assert await intake.job_ids() == taken


@pytest.mark.parametrize("listen", ["127.0.0.1:0"])
async def test_a_body_that_does_not_come_whole_is_no_job(intake: Running, listen: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(b"POST /intake/demo HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + posted()[:100])
    writer.write_eof()
    async with asyncio.timeout(20):
        assert not (await reader.read()).startswith(b"HTTP/1.1 2")
    writer.close()
    await writer.wait_closed()
    assert await intake.job_ids() == []


@pytest.mark.parametrize("listen", ["127.0.0.1:0"])
async def test_one_that_stops_says_so(intake: Running, listen: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    body = posted()
    writer.write(b"POST /intake/demo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:-1])
    await asyncio.sleep(0.1)  # let it be accepted
    intake.server.stop()
    writer.write(body[-1:])
    async with asyncio.timeout(20):
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("text", ["a b", "é", "x" * 257])
def test_a_token_that_no_address_can_hold_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text + "\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"must hold 1 to 256 of A-Z"):
        read_token(path)
