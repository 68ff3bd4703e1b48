# SPDX-License-Identifier: MIT
"""A configuration file, two NUL bytes, and variables of the environment: a configuration, or errors of one line each.

A configuration that is taken has numbers in their ranges and addresses that the daemon can use.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from slurmjcd.config import configfile
from slurmjcd.config.settings import Config
from slurmjcd.errors import ConfigError
from slurmjcd.store import connections
from slurmjcd.store.connections import Login
from slurmjcd.store.store import Store

LOOP: Final = asyncio.new_event_loop()
_LINE_MAX: Final = 2000


@functools.cache
def _file() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="fuzz-config-")
    _KEPT.append(directory)
    return Path(directory.name) / "slurmjcd.toml"


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []


def values(section: BaseModel) -> Iterator[Any]:
    """Every value in it, however deep."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from values(value)
        elif isinstance(value, dict):
            yield from value
            yield from (who for names in value.values() for who in names)
        elif isinstance(value, list):
            yield from value
        else:
            yield value


async def connect_nowhere(config: Config) -> None:
    """All that happens with an address until somebody connects."""
    for shard in Store(config).shards[:2]:
        connections.connection(config, Login("", "", None))
        for replica in (False, True):
            shard._routes.route(shard.prefix, asks=True, replica=replica)


def check(config: Config) -> None:
    for value in values(config):
        if isinstance(value, float):
            assert math.isfinite(value)
        if isinstance(value, str | Path):
            assert os.fsencode(str(value)).isascii() or str(value)
            assert "\0" not in str(value)
    LOOP.run_until_complete(connect_nowhere(config))
    if config.health.listen.startswith("unix:"):
        assert len(os.fsencode(config.health.listen.removeprefix("unix:"))) <= 107
    elif config.health.listen:
        assert 0 <= int(config.health.listen.rpartition(":")[2]) <= 65535


def one_input(data: bytes) -> None:
    text, _, rest = data.partition(b"\0\0")
    pairs = (line.partition(b"=") for line in rest.split(b"\0"))
    env = {"SLURMJCD_" + os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    _file().write_bytes(text)
    try:
        config = configfile.load(_file(), env)
    except ConfigError as exc:
        lines = str(exc).split("\n")
        assert all(lines), "an empty line"
        for line in lines:
            assert line.isprintable(), line
            assert len(line) < _LINE_MAX, len(line)
        return
    check(config)
