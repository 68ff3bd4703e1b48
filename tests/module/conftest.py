# SPDX-License-Identifier: MIT
"""One server for all tests of the module, empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import RedisServer, run_dir
from tests.module.records import Job, pack, unpack


class Store:
    """The module's commands over one prefix. The client is Any: much of redis-py has no types."""

    def __init__(self, client: Any, prefix: str = "job") -> None:
        self.client = client
        self.prefix = prefix

    def call(self, name: str, *args: Any) -> Any:
        return self.client.execute_command(f"SLURMJC.{name}", self.prefix, *args)

    def put(self, *jobs: Job, options: tuple[Any, ...] = ()) -> int:
        return int(self.call("PUT", *options, "RECORDS", *map(pack, jobs)))

    def fetch(self, query: str, count: int = 1000) -> list[Job]:
        """All that is left of an open query."""
        out: list[Job] = []
        while rows := self.call("FETCH", query, count, "RECORDS"):
            out += map(unpack, rows)
        return out

    def find(self, *criteria: Any, count: int = 1000) -> list[Job]:
        if self.call("MATCH", "q", *criteria) is None:
            return []
        return self.fetch("q", count)

    def ids(self, *criteria: Any) -> list[int]:
        return [record["job_id"] for record in self.find(*criteria)]

    def info(self, *words: str) -> dict[str, Any]:
        reply = self.call("INFO", *words)
        if isinstance(reply, list):  # RESP2
            reply = dict(zip(reply[::2], reply[1::2], strict=True))
        return {key.decode(): value for key, value in reply.items()}

    def digest(self) -> bytes:
        return bytes(self.client.execute_command("DEBUG", "DIGEST"))

    def digest_of(self, day: int) -> bytes:
        """Of one segment."""
        (digest,) = self.client.execute_command("DEBUG", "DIGEST-VALUE", f"{self.prefix}:seg:{day}")
        return bytes(digest)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """One for each suite that has this fixture: the session's directory would be the same for all of them."""
    with run_dir() as directory:
        shared = RedisServer(directory / "redis")
        shared.start()
        yield shared
        shared.stop()


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    with server.client() as client:
        client.flushall()
        yield Store(client)
        assert client.ping()
