# SPDX-License-Identifier: MIT
"""Shards on a server without any daemon, as a test fills them and looks at them, and `slurmjc reshard` as a process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner, Result

from slurmjcd import record
from slurmjcd.client.main import cli
from slurmjcd.resharding import run
from slurmjcd.store.shards import layout_key, shard_of, shard_prefixes
from tests.slurmjcd.jobs import NOON, job

DAY_S = 86_400
SETTLED_S = 0.2
_QUICK = f"""
from slurmjcd.resharding import run
run._SETTLED_S = {3 * SETTLED_S}
from slurmjcd.client.main import main
main()
"""


def some_jobs(count: int, *, days: int = 5, first: int = 1) -> list[bytes]:
    """Jobs that ended on as many days, each a little other than the last."""
    return [
        job(first + n, end=NOON + DAY_S * (n % days) + n, user=f"u{n % 7}", cpu_count=1 + n % 64, name=f"n{n}")
        for n in range(count)
    ]


@dataclass
class Shards:
    """The jobs under one prefix.

    Args:
        asked: runs a command, with its first key to find the server by.
        conf: a configuration of slurmjcd for it; its [redis] is written by `configure`.
        redis: lines of [redis].
    """

    asked: Callable[..., Any]
    conf: Path
    redis: dict[str, Any]
    prefix: str = "job"

    def configure(self, **settings: Any) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in {**self.redis, **settings}.items()]
        parts = {"run_dir": str(self.conf.parent / "run"), "state_dir": str(self.conf.parent)}
        daemon = [f"{name} = {json.dumps(value)}" for name, value in {**parts, "slurm_user": "root"}.items()]
        self.conf.write_text("\n".join(["[daemon]", *daemon, "[redis]", *lines, ""]))

    def prefixes(self, shards: int) -> tuple[bytes, ...]:
        return shard_prefixes(self.prefix.encode(), shards)

    def call(self, prefix: bytes, command: str, *words: Any) -> Any:
        return self.asked(f"SLURMJC.{command}", prefix, *words)

    def put(self, shards: int, records: list[bytes], *options: Any) -> None:
        for number, prefix in enumerate(self.prefixes(shards)):
            part = [blob for blob in records if shard_of(record.decode(blob)["job_id"], shards) == number]
            self.call(prefix, "PUT", *options, "RECORDS", *part)

    def jobs(self, shards: int) -> list[bytes]:
        """All records, sorted; each has to be in its shard."""
        found: list[bytes] = []
        for number, prefix in enumerate(self.prefixes(shards)):
            if self.call(prefix, "MATCH", "all", "limit", 10**9) is None:
                continue
            while page := self.call(prefix, "FETCH", "all", 10_000, "RECORDS"):
                assert {shard_of(record.decode(blob)["job_id"], shards) for blob in page} == {number}
                found += page
        return sorted(found)

    def count(self, shards: int) -> int:
        return sum(self.info(prefix)[b"jobs"] for prefix in self.prefixes(shards))

    def info(self, prefix: bytes) -> dict[bytes, Any]:
        reply = self.call(prefix, "INFO", "SEGMENTS")
        return dict(zip(reply[::2], reply[1::2], strict=True))

    def marks(self, shards: int) -> list[dict[bytes, int]]:
        found = [self.info(prefix)[b"watermarks"] for prefix in self.prefixes(shards)]
        return [dict(zip(marks[::2], marks[1::2], strict=True)) for marks in found]

    def layout(self) -> bytes | None:
        value: bytes | None = self.asked("GET", layout_key(self.prefix.encode()))
        return value

    def set_layout(self, value: str) -> None:
        self.asked("SET", layout_key(self.prefix.encode()), value)

    # --- the command ----------------------------------------------------------

    def command(self, *words: str | int) -> list[str]:
        """As a process, with a shorter wait for shippers where there are none."""
        return [sys.executable, "-c", _QUICK, "reshard", "--config", str(self.conf), *map(str, words)]

    def run(self, *words: str | int) -> Result:
        """In this process."""
        with mock.patch.object(run, "_SETTLED_S", SETTLED_S):
            return CliRunner().invoke(cli, ["reshard", "--config", str(self.conf), *map(str, words)])

    def reshard(self, *words: str | int) -> dict[str, Any]:
        """What it says that it did."""
        done = self.run(*words, "--json")
        assert done.exit_code == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        assert said.pop("schema") == "slurmjc.reshard/1"
        return said

    def refused(self, *words: str | int, status: int = 1) -> str:
        """The one line of its error."""
        done = self.run(*words)
        assert done.exit_code == status, (done.exit_code, done.stderr)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        return done.stderr
