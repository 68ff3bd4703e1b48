# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from slurmjcd import protocol, spoolfile
from slurmjcd.batch import Ring
from slurmjcd.errors import SpoolError
from slurmjcd.spool import Spool
from tests.slurmjcd.jobs import job
from tests.slurmjcd.test_spool import intake, read_all, records_of

SIZES = {"max_bytes": 2**30, "replay_s": 3600.0, "replay_bytes": 2**30}


async def open_spool(path: Path) -> Spool:
    return await Spool.open(path, **SIZES)  # type: ignore[arg-type]


async def make_spool(path: Path, batches: int = 40) -> None:
    spool = await open_spool(path)
    for number in range(1, batches + 1):
        await spool.append([intake(number * 2 - 1, number * 2)], {"ring": Ring(number, 1, 0, None)})
    await spool.close()


async def test_an_empty_file_becomes_a_spool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.db"
    path.touch()
    with caplog.at_level(logging.WARNING):
        spool = await open_spool(path)
    assert f"spool {path} is empty: a new one is started in it" in caplog.text
    await spool.append([intake(1)], {})
    await spool.close()


async def test_a_spool_is_for_its_owner_only(tmp_path: Path) -> None:
    await make_spool(tmp_path / "spool.db", 1)
    assert (tmp_path / "spool.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"x", b"hello world" * 100, b"SQLite format 2\0" + bytes(200)])
async def test_a_file_that_is_no_database_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(content)
    with pytest.raises(SpoolError, match=r"is no SQLite database: set spool\.path to a file of slurmjcd's own"):
        await open_spool(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


async def test_the_database_of_another_program_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE meta (key, value)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match="is a database of another program"):
        await open_spool(path)
    assert path.read_bytes() == before


async def test_the_spool_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    await make_spool(path, 1)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {spoolfile.FORMAT_VERSION + 1}")
    database.close()
    with pytest.raises(SpoolError, match="has format 2, this slurmjcd knows 1: install the newer slurmjcd"):
        await open_spool(path)


@pytest.mark.parametrize("where", [0, 100, 16384 + 8, 2 * 16384 + 10, 3 * 16384 + 2])
async def test_a_damaged_spool_is_set_aside_and_what_can_be_read_is_saved(
    tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool.db"
    await make_spool(path)
    content = bytearray(path.read_bytes())
    content[where : where + 64] = b"\xa5" * 64
    if where == 0:  # damage that leaves the mark of a spool in place
        content[0:16] = b"\xa5" * 16
        content[16:64] = b"\xa5" * 48
    path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        spool = await open_spool(path)
    saved = [record for record in records_of(await read_all(spool)) if record]
    good = {job(number) for number in range(1, 81)}
    assert set(saved) <= good
    assert len(saved) == len(set(saved))
    if saved != [job(number) for number in range(1, 81)] or "is damaged" in caplog.text:
        assert "set aside as spool.db.damaged-" in caplog.text
        assert f"{len(saved)} records" in caplog.text
        assert [part for part in tmp_path.iterdir() if "damaged" in part.name]
    await spool.append([intake(1000)], {})
    await spool.close()


async def test_salvage_keeps_sources_and_counters(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    await make_spool(path)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM meta WHERE key = 'spool'")
    database.close()
    spool = await open_spool(path)
    assert spool.state.watermarks == {"ring": 80}
    assert spool.state.rings["ring"] == Ring(40, 1, 0, None)
    assert records_of(await read_all(spool)) == [job(number) for number in range(1, 81)]
    await spool.close()


async def test_a_spool_killed_before_its_first_checkpoint_is_ours(tmp_path: Path) -> None:
    path, copy = tmp_path / "spool.db", tmp_path / "copy"
    copy.mkdir()
    spool = await open_spool(path)
    await spool.append([intake(1)], {})
    for part in tmp_path.glob("spool.db*"):
        (copy / part.name).write_bytes(part.read_bytes())
    again = await open_spool(copy / "spool.db")
    assert protocol.split_frames((await again.read(0, max_bytes=10**6))[0].frames) == [job(1)]
    await again.close()
    await spool.close()
