# SPDX-License-Identifier: MIT
"""The commands of docs/moving.md as they stand there, each on a history of its kind; MySQL's in tests/histories."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, run
from tests.harness.paths import program
from tests.slurmjcd.client.site import Site, serving
from tests.slurmjcd.importing import test_elasticsearch, test_sacct_corpus
from tests.slurmjcd.importing.test_filetxt import line
from tests.slurmjcd.importing.test_import import stored
from tests.slurmjcd.importing.test_upstream import HASH, ISO, write

PAGE = Path("docs/moving.md")
BLOCKS = {block.name: block for block in blocks(PAGE)}


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    with serving([]) as site:
        yield site


def follow(site: Site, block: Block, directory: Path) -> str:
    """Run it where the page's paths are in this directory."""
    with site.redis.client() as client:
        client.flushall()
    paths = {
        "slurmjc import": f"slurmjc import --config {site.daemon.conf}",
        "slurmjc migrate": f"slurmjc migrate --cluster c1 --config {site.daemon.conf}",
        "/var/log": str(directory),
        "redis://oldhost:6379?prefix=job": f"{site.redis.address}?prefix=old:job",
    }
    if "--cluster" not in block.text:
        paths["slurmjc import"] += " --cluster c1"
    path = f"{Path(program('slurmjc')).parent}:{os.environ['PATH']}"
    if block.name == "upstream":
        write(site, HASH, ISO, prefix="old:job")
    if block.name == "in-place":
        write(site, HASH, ISO, prefix="job")
    return run(block, paths=paths, env={"PATH": path}, cwd=directory)


def test_every_command_is_run_somewhere() -> None:
    runs = {block.name for block in BLOCKS.values() if block.runs}
    assert runs == {"filetxt", "rotated", "mysql", "sacct", "json", "elasticsearch", "upstream", "in-place"}


def test_filetxt(running: Site, tmp_path: Path) -> None:
    (tmp_path / "slurm_jobcomp.log").write_text(line(JobId="1") + "\n" + line(JobId="2") + "\n")
    said = follow(running, BLOCKS["filetxt"], tmp_path)
    assert "nothing was stored: this was a dry run" in said
    assert [fields["job_id"] for fields in stored(running)] == [1, 2]
    # 12:00 in Berlin
    assert stored(running)[0]["end"] % 86400 == 11 * 3600


def test_rotated_logs(running: Site, tmp_path: Path) -> None:
    for number in (1, 2):
        text = "".join(line(JobId=str(job_id)) + "\n" for job_id in (number, 3))
        (tmp_path / f"slurm_jobcomp.log-{number}.gz").write_bytes(gzip.compress(text.encode()))
    follow(running, BLOCKS["rotated"], tmp_path)
    assert [fields["job_id"] for fields in stored(running)] == [1, 2, 3]


def test_sacct(running: Site, tmp_path: Path) -> None:
    corpus = test_sacct_corpus.CORPUS / "24.11"
    (tmp_path / "history.txt").write_bytes((corpus / "sacct.txt").read_bytes())
    (tmp_path / "history.json").write_bytes((corpus / "sacct.json").read_bytes())
    jobs = len(test_sacct_corpus.live("24.11"))
    for name in ("sacct", "json"):
        said = " ".join(follow(running, BLOCKS[name], tmp_path).split())
        assert f"stored {jobs} " in said
        assert len(stored(running)) == jobs


def test_elasticsearch_dump(running: Site, tmp_path: Path) -> None:
    (tmp_path / "slurm.ndjson").write_text(json.dumps({"_source": test_elasticsearch.JOB}) + "\n")
    follow(running, BLOCKS["elasticsearch"], tmp_path)
    assert [fields["name"] for fields in stored(running)] == ["caf\u00e9"]


def test_slurm_redis(running: Site, tmp_path: Path) -> None:
    follow(running, BLOCKS["upstream"], tmp_path)
    assert [fields["job_id"] for fields in stored(running)] == [17, 18]


def test_slurm_redis_in_place(running: Site, tmp_path: Path) -> None:
    said = follow(running, BLOCKS["in-place"], tmp_path)
    assert said.split()[:2] == ["stored", "2"]
    assert [fields["job_id"] for fields in stored(running)] == [17, 18]
    with running.redis.client() as client:
        assert client.keys("job:1*") == []


def test_the_words_for_sacct_are_those_that_the_error_names() -> None:
    assert test_sacct_corpus.RECOMMENDED in BLOCKS["sacct-ask"].text
