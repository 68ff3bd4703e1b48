# SPDX-License-Identifier: MIT
"""RDB files that earlier versions wrote, and ones that later versions may write."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.harness import RedisServer
from tests.harness.paths import MODULE
from tests.harness.redis_server import SERVER
from tests.module.conftest import Store
from tests.module.make_corpus import HERE, NAMES, contents
from tests.module.records import DAY, job
from tests.module.test_life import crc64

MakeRedis = Callable[..., RedisServer]


def test_every_kind_is_kept() -> None:
    assert {path.stem for path in HERE.glob("v1-*.rdb")} == {f"v1-{name}" for name in NAMES}


@pytest.mark.parametrize("path", sorted(HERE.glob("*.rdb")), ids=lambda path: path.stem)
def test_kept_file(make_redis: MakeRedis, rundir: Path, path: Path) -> None:
    (rundir / "redis").mkdir()
    shutil.copy(path, rundir / "redis" / "dump.rdb")
    with make_redis().client() as client:
        store = Store(client)
        expected = json.loads(path.with_suffix(".json").read_text())
        assert contents(store) == expected
        assert store.info()["jobs"] == len(expected["jobs"])
        client.execute_command("DEBUG", "RELOAD")
        assert contents(store) == expected


def of_version(payload: bytes, version: int) -> bytes:
    """A DUMP payload whose data type says another encoding version: the last ten bits of its id."""
    assert payload[:2] == b"\x07\x81"
    ident = int.from_bytes(payload[2:10], "big") >> 10 << 10 | version
    body = payload[:2] + ident.to_bytes(8, "big") + payload[10:-8]
    return body + crc64(body)


def test_encoding_of_a_later_version_is_refused(make_redis: MakeRedis) -> None:
    server = make_redis()
    with server.client() as client:
        store = Store(client)
        store.put(job(1))
        payload = client.dump(f"job:seg:{DAY}")
        client.restore("same:seg:1", 0, of_version(payload, 1))
        with pytest.raises(redis.ResponseError, match="Bad data format"):
            client.restore("later:seg:1", 0, of_version(payload, 2))
        assert client.exists("later:seg:1") == 0
        assert store.ids() == [1]
    lines = [line for line in (server.directory / "redis.log").read_text().splitlines() if "slurm_jobcomp:" in line]
    assert len(lines) == 1
    assert lines[0].endswith("slurm_jobcomp: a segment has encoding version 2, this module knows up to 1")


def test_file_of_a_later_version_stops_the_start(make_redis: MakeRedis, rundir: Path) -> None:
    """Better no server than one that lost the jobs."""
    path = rundir / "later"
    path.mkdir()
    data = (HERE / "v1-ordinary.rdb").read_bytes()
    with make_redis("now").client() as client:
        Store(client).put(job(1))
        ident = client.dump(f"job:seg:{DAY}")[2:10]
    later = (int.from_bytes(ident, "big") + 1).to_bytes(8, "big")
    assert ident in data
    (path / "dump.rdb").write_bytes(data[:-8].replace(ident, later) + bytes(8))  # no check sum
    argv: list[str | Path] = ["--port", "0", "--unixsocket", path / "s", "--dir", path, "--loadmodule", MODULE]
    done = subprocess.run([SERVER, *argv], capture_output=True, text=True, timeout=60, check=False)
    assert "a segment has encoding version 2, this module knows up to 1" in done.stdout
    assert "Ready to accept connections" not in done.stdout
