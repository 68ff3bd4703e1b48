# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import logging
import mmap
import random
import sqlite3
from pathlib import Path

import pytest

from slurmjcd import protocol
from slurmjcd.errors import SpoolError
from slurmjcd.spool import spoolfile, spoolscan
from slurmjcd.spool.batch import Ring
from slurmjcd.spool.spool import Spool
from slurmjcd.spool.spoolscan import PAGE_BYTES
from tests.slurmjcd.jobs import job
from tests.slurmjcd.spool.test_spool import intake, read_all, records_of

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


async def test_a_text_that_is_damaged_costs_its_own_row_only(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = await open_spool(path)
    for number, source in enumerate("abc", 1):
        await spool.append([intake(number, source=source)], {})
    await spool.close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE source SET id = CAST(x'01ff' AS TEXT) WHERE id = 'a'")
    spool = await open_spool(path)
    assert spool.state.watermarks == {"b": 2, "c": 3}
    assert records_of(await read_all(spool)) == [job(1), job(2), job(3)]
    await spool.close()


def leaves(path: Path) -> list[int]:
    """Offsets of the leaf pages of the table of batches, in the order of their numbers."""
    content, found = path.read_bytes(), {}
    for at in range(PAGE_BYTES, len(content), PAGE_BYTES):
        if content[at] == 0x0D and (firsts := [first for first, _, _ in one_page(path, at)]):
            found[min(firsts)] = at
    return [at for _, at in sorted(found.items())]


def one_page(path: Path, at: int) -> list[spoolscan.Batch]:
    """The batches whose cells are on one page."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return list(spoolscan._leaf(data, at))


@pytest.mark.parametrize("places", [(0.5,), (0.2, 0.8), (0.1, 0.3, 0.5, 0.7, 0.9), (0.0, 1.0)])
@pytest.mark.parametrize("tree", ["whole", "root", "header"])
async def test_what_lies_between_damaged_places_is_saved(
    tmp_path: Path, places: tuple[float, ...], tree: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Exactly the batches of the damaged pages are lost, and they are counted, with or without a tree above them."""
    path = tmp_path / "spool.db"
    await make_spool(path, 900)
    pages = leaves(path)
    assert len(pages) > 8, "too small to have damage in several places"
    hit = sorted({pages[round(place * (len(pages) - 1))] for place in places})
    gone = {number for at in hit for first, count, _ in one_page(path, at) for number in range(first, first + count)}
    if tree == "root":
        with sqlite3.connect(path) as database:
            (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'batch'").fetchone()
        database.close()
        hit.append((root - 1) * PAGE_BYTES)
    content = bytearray(path.read_bytes())
    for at in hit:
        content[at : at + 2000] = b"\xa5" * 2000
    if tree == "header":
        content[0:16] = b"\xa5" * 16
    path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        spool = await open_spool(path)
    assert records_of(await read_all(spool)) == [job(number) for number in range(1, 1801) if number not in gone]
    # the file's header leads to the sources, which say how many there were behind the last
    known = gone if tree != "header" or 1.0 not in places else set()
    assert f"{1800 - len(gone)} records" in caplog.text
    if known:
        assert spool.state.lost == len(gone)
        assert f"{len(gone)} are known to be lost" in caplog.text
    await spool.append([intake(2000)], {})
    await spool.close()


async def test_salvage_counts_what_was_behind_a_cut(tmp_path: Path) -> None:
    """The sources' watermarks tell how many records there were."""
    path = tmp_path / "spool.db"
    await make_spool(path, 900)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 // PAGE_BYTES * PAGE_BYTES])
    spool = await open_spool(path)
    saved = len(records_of(await read_all(spool)))
    assert 0 < saved < 1800
    assert spool.state.lost == 1800 - saved
    await spool.close()


async def test_salvage_leaves_alone_what_was_trimmed(tmp_path: Path) -> None:
    """Pages that were freed still hold batches that are over."""
    path = tmp_path / "spool.db"
    await make_spool(path, 900)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite have it on
        database.execute("UPDATE meta SET value = 1000 WHERE key = 'shipped'")
        database.execute("DELETE FROM batch WHERE first < 1000")
        database.execute("DELETE FROM meta WHERE key = 'spool'")
    database.close()
    assert any(first < 900 for first, _, _ in spoolscan.batches(path)), "nothing was left on freed pages"
    spool = await open_spool(path)
    assert records_of(await read_all(spool)) == [job(number) for number in range(1001, 1801)]
    assert spool.state.lost == 0
    await spool.close()


@pytest.mark.parametrize(("begin", "end"), [(0, 16), (16, 18), (18, 20), (20, 24), (28, 32), (32, 60), (18, 60)])
async def test_salvage_finds_what_is_only_in_the_log(tmp_path: Path, begin: int, end: int) -> None:
    """The database's first page is damaged, and the log has the latest batch but not that page."""
    path, copy = tmp_path / "spool.db", tmp_path / "copy"
    copy.mkdir()
    await make_spool(path, 5)
    spool = await open_spool(path)
    await spool.append([intake(11)], {})
    for part in tmp_path.glob("spool.db*"):
        (copy / part.name).write_bytes(part.read_bytes())
    await spool.close()
    content = bytearray((copy / "spool.db").read_bytes())
    content[begin:end] = b"\xa5" * (end - begin)
    (copy / "spool.db").write_bytes(content)
    again = await open_spool(copy / "spool.db")
    assert records_of(await read_all(again)) == [job(number) for number in range(1, 12)]
    await again.close()


@pytest.mark.parametrize("seed", range(20))
async def test_any_damage_is_survived(tmp_path: Path, seed: int) -> None:
    """Whatever stands in any page: a spool that works, with records that were put in, each once."""
    chance = random.Random(seed)
    path = tmp_path / "spool.db"
    await make_spool(path, 300)
    content = bytearray(path.read_bytes())
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(100, len(content))
        size = chance.choice((1, 8, 500, 30_000))
        content[at : at + size] = chance.randbytes(len(content[at : at + size]))
    path.write_bytes(content)
    spool = await open_spool(path)
    saved = [record for record in records_of(await read_all(spool)) if record]
    assert set(saved) <= {job(number) for number in range(1, 601)}
    assert len(saved) == len(set(saved))
    await spool.append([intake(1000)], {})
    await spool.close()


@pytest.mark.parametrize("first", [1, 11, 79])
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_damaged_count_passes_no_record_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int, count: int
) -> None:
    """Frames and their checksum are whole; the number beside them is not, and SQLite finds nothing wrong."""
    path = tmp_path / "spool.db"
    await make_spool(path, 40)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE batch SET count = ? WHERE first = ?", (count, first))
        database.commit()
    spool = await open_spool(path)
    assert records_of(await read_all(spool)) == [job(number) for number in range(1, 81)]
    assert spool.state.last == 80
    assert "counted again" in caplog.text
    await spool.close()


@pytest.mark.parametrize("key", ["spool", "shipped", "clock", "lost"])
async def test_a_spool_that_lost_a_line_of_its_books_is_damaged(tmp_path: Path, key: str) -> None:
    path = tmp_path / "spool.db"
    await make_spool(path, 5)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM meta WHERE key = ?", (key,))
        database.commit()
    spool = await open_spool(path)
    assert records_of(await read_all(spool)) == [job(number) for number in range(1, 11)]
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1
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
