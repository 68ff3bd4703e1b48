# SPDX-License-Identifier: MIT
"""The same jobs in stores of several shards on one server, for tests that compare answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from slurmjcd.config.settings import Config, QuerySection, RedisSection
from slurmjcd.record import decode
from slurmjcd.store.shards import layout_key, shard_of, shard_prefixes
from slurmjcd.store.store import Store
from tests.harness import RedisServer


def prefix_of(shards: int) -> str:
    """Where the jobs in so many shards lie, beside those in another number: of each prefix there is one layout."""
    return "job" if shards == 1 else f"j{shards:02}"


def put(server: RedisServer, records: Iterable[bytes], *words: Any, shards: int = 1) -> None:
    """Store records where a daemon with so many shards would; `words` are of PUT, before RECORDS."""
    prefix = prefix_of(shards).encode()
    parts: list[list[bytes]] = [[] for _ in range(shards)]
    for record in records:
        parts[shard_of(decode(record)["job_id"], shards)].append(record)
    with server.client() as client:
        for name, part in zip(shard_prefixes(prefix, shards), parts, strict=True):
            for first in range(0, len(part), 1000):
                client.execute_command("SLURMJC.PUT", name, *words, "RECORDS", *part[first : first + 1000])
        if shards > 1:
            client.set(layout_key(prefix), shards)


@contextlib.contextmanager
def serving(directory: Path, records: Sequence[bytes], counts: Iterable[int]) -> Iterator[RedisServer]:
    """A server that has the same records in so many shards each, side by side."""
    server = RedisServer(directory)
    server.start()
    try:
        for count in counts:
            put(server, records, shards=count)
        yield server
    finally:
        server.stop()


def open_queries(server: RedisServer, *, shards: int) -> int:
    """How many queries the server has open, of all shards."""
    prefix = prefix_of(shards).encode()
    with server.client() as client:
        infos = [client.execute_command("SLURMJC.INFO", name) for name in shard_prefixes(prefix, shards)]
    return sum(dict(zip(info[::2], info[1::2], strict=True))[b"queries"] for info in infos)


def config(server: RedisServer, shards: int, query: QuerySection | None = None) -> Config:
    redis = RedisSection(address=server.address, shards=shards, prefix=prefix_of(shards))
    return Config(redis=redis, query=query or QuerySection())


def store(server: RedisServer, shards: int) -> Store:
    """A store with its layout set, as a shipper would have done, where the server is up."""
    if shards > 1:
        with contextlib.suppress(redis.ConnectionError), server.client() as client:
            client.set(layout_key(prefix_of(shards).encode()), shards)
    return Store(config(server, shards))


def split_store(servers: Sequence[RedisServer]) -> Store:
    """A store whose shard i is on server i, as the masters of a cluster would have them."""
    whole = store(servers[0], len(servers))
    whole.shards = tuple(store(server, len(servers)).shards[number] for number, server in enumerate(servers))
    for shard in whole.shards:
        shard._layout = whole.layout
    return whole
