# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurmjcd.access.listener import Listener, descriptors
from slurmjcd.access.policy import Peer
from slurmjcd.access.sockets import OwnSocket


class Echo(asyncio.Protocol):
    """Says back what it gets."""

    live = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        type(self).live += 1

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        type(self).live -= 1


@pytest.fixture
def listening(rundir: Path) -> Iterator[Callable[..., Path]]:
    made: list[OwnSocket] = []

    def listen(**options: object) -> Path:
        Echo.live = 0
        own = OwnSocket(rundir / "s", 0o600)
        made.append(own)
        Listener("test", own.socket, Echo, **options)  # type: ignore[arg-type]
        return rundir / "s"

    yield listen
    for own in made:
        own.close()


async def says(path: Path, text: bytes = b"hello") -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(text)
        async with asyncio.timeout(20):
            return await reader.read(100)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_who_is_let_in_is_served(listening: Callable[..., Path]) -> None:
    path = listening()
    assert await asyncio.gather(*[says(path) for _ in range(100)]) == [b"hello"] * 100


async def test_who_is_not_let_in_is_told_and_never_has_a_transport(listening: Callable[..., Path]) -> None:
    asked: list[Peer | None] = []

    def admit(peer: Peer | None, opening: int) -> bytes:
        asked.append(peer)
        return b"-LIMIT full\r\n"

    path = listening(admit=admit)
    assert await says(path, b"") == b"-LIMIT full\r\n"
    assert asked == [Peer(os.geteuid(), os.getpid(), os.getegid())]
    assert Echo.live == 0


async def test_a_connection_is_cut_at_the_end_of_its_life(listening: Callable[..., Path]) -> None:
    path = listening(life_s=0.05)
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(20):
        assert await reader.read(10) == b""
    writer.close()


async def test_without_descriptors_it_waits_quietly_and_goes_on(
    listening: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = listening()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(30)]
    waiting: list[int] = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with caplog.at_level(logging.DEBUG):
        try:
            for client in clients:
                client.setblocking(False)
                client.connect(str(path))
            # as many as there are already: the next descriptor is one too many
            highest = os.open("/dev/null", os.O_RDONLY)
            waiting.append(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
            for _ in range(30):
                await asyncio.sleep(0.01)
            assert Echo.live == 0
            assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
                "test: no room for another connection (Too many open files), waiting"
            ]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in waiting:
                os.close(descriptor)
    async with asyncio.timeout(20):
        while Echo.live < 30:
            await asyncio.sleep(0.01)
    for client in clients:
        client.close()


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1] - 1, limits[1]))
        assert descriptors() == limits[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limits[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
