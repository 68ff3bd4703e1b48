# SPDX-License-Identifier: MIT
"""The commands that docs/sacct.md begins with, by the real sacct."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.docs.blocks import blocks
from tests.harness.stack import Stack

COMMANDS = [re.split(r"\s{2,}", line)[0] for line in blocks(Path("docs/sacct.md"))[0].text.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_is_taken_and_answered(module_stack: Stack, command: str) -> None:
    words = shlex.split(command.replace("alice", "root"))  # a user that this host has
    assert words[:2] == ["sacct", "-c"]
    done = module_stack.cluster.call(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("---")
