# SPDX-License-Identifier: MIT
"""The completions that packages ship, each in its own shell. `make test` tries bash, `make test-package` all."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.harness.paths import program
from tests.harness.waiting import scaled

PATH = f"{Path(program('slurmjc')).parent}:{os.environ['PATH']}"


@pytest.fixture(scope="session")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("completions")
    subprocess.run([sys.executable, ROOT / "packaging" / "generate.py", directory], check=True)
    return directory


def run(*argv: str) -> str:
    done = subprocess.run(argv, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("slurmjc repo", ["report"]),
        ("slurmjc jobs --nd", ["--ndjson"]),
        ("slurmjcd check-config --pr", ["--print-default"]),
    ],
)
def test_bash(completions: Path, line: str, offered: list[str]) -> None:
    words = line.split()
    script = (
        f"source {completions}/bash/{words[0]}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        f'_{words[0]}_completion {words[0]}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    assert run("bash", "--norc", "-c", script).split() == offered


@pytest.mark.packages
def test_fish(completions: Path) -> None:
    script = f"source {completions}/fish/slurmjc.fish; complete -C 'slurmjc repo'"
    assert re.split(r"\s", run("fish", "--no-config", "-c", script))[0] == "report"


@pytest.mark.packages
def test_zsh(completions: Path) -> None:
    """zsh completes only what somebody types."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {"PATH": PATH, "TERM": "dumb", "PS1": "> ", "HOME": str(completions)})
    try:
        shown = ""

        def typed(keys: str, until: str) -> None:
            nonlocal shown
            shown = ""
            os.write(terminal, keys.encode())
            while until not in shown:
                ready, _, _ = select.select([terminal], [], [], scaled(20))
                assert ready, f"{until!r} is not in {shown!r}"
                shown += os.read(terminal, 4096).decode(errors="replace")

        typed(f"fpath=({completions}/zsh $fpath); autoload -U compinit; compinit -D -u; echo is-$((40 + 2))\n", "is-42")
        typed("slurmjc repo\t", "slurmjc report")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
