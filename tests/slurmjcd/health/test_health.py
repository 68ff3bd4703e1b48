# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from slurmjcd.errors import ConfigError
from slurmjcd.health.metrics import Metrics
from slurmjcd.health.server import HealthServer
from slurmjcd.loopbackhttp import tcp_socket

STATE: dict[str, Any] = {"ready": True, "status": "ok", "components": {}}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def readiness() -> dict[str, Any]:
        return STATE

    sock = tcp_socket("127.0.0.1:0", "health.listen")
    server = HealthServer(Metrics(), readiness, lambda: None)
    await server.start(sock)
    yield sock.getsockname()[1]
    await server.close()


async def http(port: int, request: str) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = (await reader.read(100_000)).decode() if "close" in request else ""
    writer.close()
    await writer.wait_closed()
    return head, body


def get(path: str, host: str = "localhost", method: str = "GET") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


async def test_alive_ready_and_metrics(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "200 OK" in (await http(port, get("/healthz")))[0]
    assert "200 OK" in (await http(port, get("/readyz")))[0]
    head, body = await http(port, get("/metrics"))
    assert "text/plain" in head
    assert "slurmjcd_build_info" in body
    monkeypatch.setitem(STATE, "ready", False)
    assert " 503 " in (await http(port, get("/readyz")))[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9856", "LOCALHOST:1", "[::1]:9856"])
async def test_our_own_names_are_answered(port: int, host: str) -> None:
    assert "200 OK" in (await http(port, get("/healthz", host)))[0]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example]",
        "[::1].evil.example",
        "localhost:x",
        "localhost.evil.example:9856",
        "127.0.0.1.evil.example",
    ],
)
async def test_other_host_names_are_refused(port: int, host: str) -> None:
    assert " 421 " in (await http(port, get("/metrics", host)))[0]


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (get("/nope"), " 404 "),
        (get("/../etc/passwd"), " 404 "),
        (get("/%2e%2e/%00"), " 404 "),
        (get("/healthz", method="POST"), " 405 "),
        (get("/healthz", method="DELETE"), " 405 "),
        ("\x16\x03\x01\x02\r\n\r\n", " 400 "),
        (get("/" + "x" * 20_000), " 400 "),
    ],
)
async def test_anything_else_is_refused(port: int, request_text: str, status: str) -> None:
    assert status in (await http(port, request_text))[0]


async def test_answers_carry_security_headers(port: int) -> None:
    for path in ("/healthz", "/nope"):
        head, _ = await http(port, get(path))
        for name in ("Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Cache-Control"):
            assert name in head


@pytest.mark.parametrize("request_text", [get("/nope"), get("/healthz", "evil.example"), get("/healthz", method="PUT")])
async def test_a_connection_is_over_after_its_answer(port: int, request_text: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_text.replace("Connection: close", "Connection: keep-alive").encode())
    async with asyncio.timeout(5):
        assert b"HTTP/1.1 4" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_bytes_that_are_no_request_make_one_line_of_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        await http(port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n")
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.levelname for line in lines] == ["WARNING"]
    assert lines[0].exc_info is None


async def test_what_a_client_expects_is_never_mind(port: int, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: \xd800-continue\r\n\r\n")
    async with asyncio.timeout(5):
        assert b"HTTP/1.1 200 OK" in await reader.read()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    writer.close()
    await writer.wait_closed()


def test_a_port_that_is_taken_is_told() -> None:
    holder = tcp_socket("127.0.0.1:0", "health.listen")
    with pytest.raises(ConfigError, match=r"health\.listen: .* can't be bound: Address already in use"):
        tcp_socket(f"127.0.0.1:{holder.getsockname()[1]}", "health.listen")
    holder.close()
