# SPDX-License-Identifier: MIT
"""Fenced blocks of a Markdown page, and which of them a test runs.

The first word behind the fence is the language, the others are for the tests; a reader on the web sees only the block.

    ```sh                     run: bash -eu -o pipefail, has to end with 0
    ```sh exit=3              run: has to end with 3
    ```sh name=lost           run; tests call it by that name, to do something before or after it
    ```sh shown=<why>         not run, and why: one word, or several in double quotes
    ```toml, ```text, …       not commands, never run

A page that the tests take on may have no block without a language, so that nothing is passed over by mistake.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness.waiting import scaled

FENCE: Final = "```"
SHELL: Final = "sh"
_WORDS: Final = frozenset({"exit", "name", "shown"})


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is where its fence stands, counted from 1."""

    page: Path
    line: int
    language: str
    text: str
    name: str = ""
    status: int = 0
    shown: str = ""

    @property
    def runs(self) -> bool:
        return self.language == SHELL and not self.shown

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order.

    Raises:
        ValueError: a fence without a language or without its end, an unknown word behind it, a name given twice.
    """
    found: list[Block] = []
    lines: list[str] = []
    opened, info = 0, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = line.strip()
        if not opened and fence.startswith(FENCE):
            opened, info, lines = number, fence.removeprefix(FENCE), []
        elif opened and fence == FENCE:
            found.append(_block(page, opened, info, lines))
            opened = 0
        elif opened:
            lines.append(line)
    if opened:
        raise ValueError(f"{page.name}:{opened}: this block has no end")
    names = [block.name for block in found if block.name]
    if len(names) != len(set(names)):
        raise ValueError(f"{page.name}: two blocks of one name among {', '.join(names)}")
    return found


def _block(page: Path, line: int, info: str, lines: list[str]) -> Block:
    where = f"{page.name}:{line}"
    language, *words = shlex.split(info) or [""]
    if not language:
        raise ValueError(f"{where}: no language behind the fence; sh for commands, text for what they print")
    values = dict(word.partition("=")[::2] for word in words)
    if unknown := values.keys() - _WORDS:
        raise ValueError(f"{where}: unknown: {', '.join(sorted(unknown))}")
    if empty := [name for name, value in values.items() if not value]:
        raise ValueError(f"{where}: {empty[0]} needs a value")
    if values and language != SHELL:
        raise ValueError(f"{where}: only blocks of commands (sh) are run or not")
    text = "\n".join(lines) + "\n"
    status = int(values.get("exit", "0"))
    return Block(page, line, language, text, values.get("name", ""), status, values.get("shown", ""))


def run(block: Block, *, paths: Mapping[str, str], env: Mapping[str, str], cwd: Path) -> str:
    """Run one block; what it printed, on both streams.

    Args:
        paths: what stands on the page → what it is here; the longest first. For what a page has to name as it is on
            a host (/etc/slurmjcd), and a test has elsewhere.
        env: variables over those of this process.

    Raises:
        AssertionError: it ended with another status than the page says.
    """
    script = block.text
    for name in sorted(paths, key=len, reverse=True):
        script = script.replace(name, paths[name])
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        env={**os.environ, **env},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=scaled(120),
        check=False,
    )
    assert done.returncode == block.status, (
        f"{block.where} ended with {done.returncode}, the page says {block.status}:\n{script}\n{done.stdout}"
    )
    return done.stdout
