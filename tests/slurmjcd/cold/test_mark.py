# SPDX-License-Identifier: MIT
"""Which directory it is that days are moved to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slurmjcd.cold.engine import Engine
from slurmjcd.cold.mark import MARK, MarkedDirectory
from slurmjcd.cold.reader import ColdDays
from slurmjcd.errors import Unavailable
from tests.module.records import job
from tests.slurmjcd.cold.conftest import write_files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def test_who_moves_days_makes_a_mark_and_remembers_it(files: Path, tmp_path: Path) -> None:
    memory = tmp_path / "cold.mark"
    MarkedDirectory(files, memory).check(empty=True)
    mark = (files / MARK).read_text()
    assert memory.read_text() == mark
    assert sorted(tmp_path.iterdir()) == [memory, files]
    assert list(files.iterdir()) == [files / MARK]
    MarkedDirectory(files, memory).check(empty=True)
    MarkedDirectory(files, tmp_path / "of another daemon").check(empty=True)
    assert (files / MARK).read_text() == (tmp_path / "of another daemon").read_text() == mark


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_another_directory_is_refused(files: Path, tmp_path: Path, *, restarted: bool, empty: bool) -> None:
    memory = tmp_path / "cold.mark"
    place = MarkedDirectory(files, memory)
    place.check(empty=True)
    mark = (files / MARK).rename(tmp_path / "aside")
    place = MarkedDirectory(files, memory) if restarted else place
    with pytest.raises(
        Unavailable, match=f"{files} is not the directory .* is missing: .* remove {memory} and restart"
    ):
        place.check(empty=empty)
    (files / MARK).write_text("0123\n")
    with pytest.raises(Unavailable, match=r"its mark .* is another"):
        place.check(empty=empty)
    mark.rename(files / MARK)
    place.check(empty=empty)
    # what it says to do
    (files / MARK).unlink()
    memory.unlink()
    MarkedDirectory(files, memory).check(empty=empty)
    assert (files / MARK).read_text() == memory.read_text()


def test_who_only_answers_wants_files_or_a_mark(files: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=rf"{files} has no files and no mark .*: is it mounted\?"):
        MarkedDirectory(files, None).check(empty=True)
    MarkedDirectory(files, None).check(empty=False)  # of a version that made no marks
    assert not list(files.iterdir())
    MarkedDirectory(files, tmp_path / "cold.mark").check(empty=True)
    MarkedDirectory(files, None).check(empty=True)


def test_two_that_begin_at_once_agree(files: Path, tmp_path: Path) -> None:
    memories = [tmp_path / f"{number}" for number in range(8)]
    with ThreadPoolExecutor(len(memories)) as threads:
        list(threads.map(lambda memory: MarkedDirectory(files, memory).check(empty=True), memories))
    assert {memory.read_text() for memory in memories} == {(files / MARK).read_text()}
    assert list(files.iterdir()) == [files / MARK]


def test_a_mark_that_cannot_be_made_or_read(files: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"the mark of {files} can't be written: No such file or directory"):
        MarkedDirectory(files, tmp_path / "away" / "cold.mark").check(empty=True)
    (files / MARK).unlink()
    (files / MARK).mkdir()
    with pytest.raises(Unavailable, match=r"\.slurmjcd can't be read: Is a directory"):
        MarkedDirectory(files, tmp_path / "cold.mark").check(empty=True)


def test_a_directory_that_is_mounted_over_is_looked_at_again(engine: Engine, files: Path, tmp_path: Path) -> None:
    write_files(files, [job(1)])
    days = ColdDays(files, engine, MarkedDirectory(files, None))
    assert len(days.files()) == 1
    aside = files.rename(tmp_path / "aside")
    files.mkdir()
    with pytest.raises(Unavailable, match=r"is it mounted\?"):
        days.files()
    files.rmdir()
    aside.rename(files)
    assert len(days.files()) == 1
