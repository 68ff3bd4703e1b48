# SPDX-License-Identifier: MIT
"""The convention of blocks.py itself: what is run, and what must not be passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import blocks, run


def page(directory: Path, text: str) -> Path:
    path = directory / "page.md"
    path.write_text(text)
    return path


def test_blocks_are_found_with_what_stands_behind_their_fence(tmp_path: Path) -> None:
    found = blocks(
        page(
            tmp_path,
            'a\n```sh name=first exit=3\nexit 3\n```\n```text\nx\n```\n```sh shown="no mail here"\nmail\n```\n',
        )
    )
    assert [(block.line, block.name, block.status, block.runs) for block in found] == [
        (2, "first", 3, True),
        (5, "", 0, False),
        (8, "", 0, False),
    ]
    assert found[2].shown == "no mail here"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("```\nls\n```\n", r"page\.md:1: no language behind the fence"),
        ("```sh\nls\n", r"page\.md:1: this block has no end"),
        ("```sh skip\nls\n```\n", r"page\.md:1: unknown: skip"),
        ("```sh shown=\nls\n```\n", r"page\.md:1: shown needs a value"),
        ("```text exit=1\nls\n```\n", r"page\.md:1: only blocks of commands"),
        ("```sh name=a\n:\n```\n```sh name=a\n:\n```\n", r"page\.md: two blocks of one name"),
    ],
)
def test_a_block_that_nobody_can_judge_is_an_error(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        blocks(page(tmp_path, text))


def test_a_block_is_run_with_the_paths_of_the_test(tmp_path: Path) -> None:
    (block,) = blocks(page(tmp_path, "```sh\necho /etc/x/y $WORD | tr -d '\\n'\n```\n"))
    out = run(block, paths={"/etc": "/wrong", "/etc/x": "/right"}, env={"WORD": "w"}, cwd=tmp_path)
    assert out == "/right/y w"


@pytest.mark.parametrize("line", ["false; true", "false | true", "exit 2", "echo $never_set"])
def test_any_command_that_fails_fails_its_block(tmp_path: Path, line: str) -> None:
    (block,) = blocks(page(tmp_path, f"```sh\n{line}\n```\n"))
    with pytest.raises(AssertionError, match=r"page\.md:1 ended with [12], the page says 0"):
        run(block, paths={}, env={}, cwd=tmp_path)
