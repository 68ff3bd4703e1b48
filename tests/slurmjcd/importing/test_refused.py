# SPDX-License-Identifier: MIT
"""The file of refused items, above all that of an import which was killed and goes on."""

from __future__ import annotations

from pathlib import Path

from slurmjcd.importing.item import Item
from slurmjcd.importing.refused import RefusedFile


def refused(path: Path, identity: str = "x", heading: str = "a|b") -> RefusedFile:
    return RefusedFile(path, identity, heading)


def write(path: Path, *numbers: int) -> None:
    file = refused(path)
    for number in numbers:
        file.add(number, Item(str(number + 1), f"raw {number}\n", refused=f"why\n{number}"))
    file.close()


def test_each_entry_is_a_remark_and_the_item_in_a_line(tmp_path: Path) -> None:
    write(tmp_path / "bad", 3)
    assert (tmp_path / "bad").read_text() == (
        "# slurmjc import x\na|b\n# item 3, at 4: why\\n3\nraw 3\\n\n"
    )  # fmt: skip


def test_nothing_refused_makes_no_file(tmp_path: Path) -> None:
    write(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_going_on_keeps_what_was_taken_and_forgets_what_comes_again(tmp_path: Path) -> None:
    """A killed run wrote entries of items that the store has not taken."""
    write(tmp_path / "bad", 3, 7, 9)
    file = refused(tmp_path / "bad")
    file.go_on(7)
    assert file.number == 2
    file.add(9, Item("10", "raw 9", refused="why 9"))
    file.close()
    lines = (tmp_path / "bad").read_text().splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("# item")] == ["# item 3", "# item 7", "# item 9"]
    assert lines[-1] == "raw 9"


def test_going_on_leaves_the_file_of_another_import_until_something_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "bad", 3)
    before = (tmp_path / "bad").read_text()
    file = refused(tmp_path / "bad", identity="y")
    file.go_on(100)
    file.close()
    assert (tmp_path / "bad").read_text() == before
