# SPDX-License-Identifier: MIT
"""Bytes at the HTTP port: one request and one answer, of a known kind, to our own names for this host only; nothing of
a job without the token.

The first byte says how the bytes are cut. Server, parser and handlers are the daemon's, the connection has no socket.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from aiohttp import web

from slurmjcd.config.settings import Config
from slurmjcd.daemon import Daemon
from slurmjcd.health.jobpages import JobPages
from slurmjcd.health.metrics import Metrics
from slurmjcd.health.server import HealthServer
from slurmjcd.health.statuspage import StatusPage
from tests.fuzz.inprocess import Complaints, Wire, pieces

LOOP: Final = asyncio.new_event_loop()
STATUSES: Final = {200, 400, 401, 404, 405, 413, 417, 421, 503}
TOKEN: Final = "a-token-that-no-input-holds-by-chance"
HEADERS: Final = (b"X-Content-Type-Options: nosniff", b"Content-Security-Policy: default-src 'none'")
HEAD: Final = re.compile(rb"HTTP/\d\.\d (\d{3}) [ -~]*\r\n(?:[!-9;-~]+: [ -~]*\r\n)*\r\n")
LOCAL: Final = re.compile(rb"(?i)(localhost|127\.0\.0\.1|\[::1\]|::1)?(:\d*)?")
_ROUNDS: Final = 30  # of the loop, in which a whole request is answered


async def readiness() -> dict[str, Any]:
    return {"ready": True, "status": "ok", "components": {}}


def _server() -> web.Server[web.BaseRequest]:
    async def make() -> web.Server[web.BaseRequest]:
        daemon = Daemon(Config.model_validate({"redis": {"address": "unix:/nowhere"}}), Config)
        jobs = JobPages(daemon)
        jobs.set_token(TOKEN)
        pages = StatusPage(daemon.observer, lambda: True).pages | jobs.pages
        runner = HealthServer(Metrics(), readiness, lambda: None, pages).http.runner()
        await runner.setup()
        assert runner.server is not None
        return runner.server

    return LOOP.run_until_complete(make())


SERVER: Final = _server()


async def talk(parts: list[bytes]) -> tuple[bytes, bool]:
    """What one connection gets, and whether it was closed then."""
    connection, wire = SERVER(), Wire()
    connection.connection_made(wire)
    for part in parts:
        if not wire.is_closing():
            connection.data_received(part)
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
        if wire.is_closing():
            break
    closed = wire.is_closing()
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return bytes(wire.out), closed


def check(stream: bytes, out: bytes) -> None:
    head = HEAD.match(out)
    assert head, out[:200]
    status, rest = int(head[1]), out[head.end() :]
    assert status in STATUSES, status
    length = re.search(rb"Content-Length: (\d+)\r\n", head[0])
    assert length, "an answer without its length"
    assert len(rest) == int(length[1]) or (not rest and stream.lstrip()[:4].upper() == b"HEAD"), "more than one answer"
    if status not in (400, 413):
        assert all(header in head[0] for header in HEADERS)
    assert b"sees" not in rest or TOKEN.encode() in stream, "jobs without the token"
    if re.match(rb"(?i)(GET|HEAD)[ ]/api/(token|jobs|report)[ ?]", stream.lstrip()) and TOKEN.encode() not in stream:
        assert status != 200, "a page that is behind the token"
    if status == 200:
        hosts = re.findall(rb"(?im)^host[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.split(rb"\r?\n\r?\n", stream)[0])
        assert all(LOCAL.fullmatch(host) for host in hosts), hosts


def one_input(data: bytes) -> None:
    seed, stream = data[0] if data else 0, data[1:]
    with Complaints() as complaints:
        out, closed = LOOP.run_until_complete(talk(pieces(stream, seed)))
    assert not complaints.lines, complaints.lines
    if out and not out.startswith(b"HTTP/1.1 100 "):
        assert closed, "the connection goes on after its answer"
        check(stream, out)
