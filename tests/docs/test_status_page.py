# SPDX-License-Identifier: MIT
"""The commands of docs/status-page.md, and its pictures."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.docs.blocks import blocks, run
from tests.harness import Daemon, RedisServer
from tests.harness.paths import ROOT
from tests.harness.ports import free_ports
from tests.slurmjcd.client.site import made
from tests.slurmjcd.jobs import job

MakeRedis = Callable[..., RedisServer]
PAGE = ROOT / "docs" / "status-page.md"
PICTURE_MAX = 100_000  # bytes


def test_each_command_on_the_page_does_what_it_says(tmp_path: Path, rundir: Path, make_redis: MakeRedis) -> None:
    by_name = {block.name: block for block in blocks(PAGE) if block.runs}
    port = free_ports(1)[0]
    paths = {"/etc/slurmjcd": str(tmp_path), "127.0.0.1:9856": f"127.0.0.1:{port}"}
    run(by_name["token"], paths=paths, env={}, cwd=tmp_path)
    redis, now = make_redis(), int(time.time())
    with redis.client() as client:
        records = [job(**made(job_id=number, state=5, end=now - 60)) for number in (1, 2)]
        client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records)
    health = {"listen": f"127.0.0.1:{port}", "token_file": str(tmp_path / "page-token")}
    daemon = Daemon(rundir / "jc", redis_address=redis.address, settings={"health": health})
    daemon.process.start()
    try:
        daemon.process.wait_ready(lambda: _listens(port))
        said = run(by_name["curl"], paths=paths, env={}, cwd=tmp_path)
        assert '"slurmjcd.status/1"' in said
        assert '"slurmjcd.history/1"' in said
        said = run(by_name["ask"], paths=paths, env={}, cwd=tmp_path)
    finally:
        daemon.stop()
    token, found, report = (json.loads(text) for text in said.replace("}{", "}\n{").splitlines())
    assert token == {"token": True}
    assert [row["job_id"] for row in found["jobs"]] == [2, 1]
    assert [(group["account"], group["jobs"]) for group in report["groups"]] == [("physics", 2)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_its_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"images/[a-z-]+\.png", PAGE.read_text())
    assert len(pictures) == 4
    for picture in pictures:
        assert 0 < (PAGE.parent / picture).stat().st_size < PICTURE_MAX, picture
