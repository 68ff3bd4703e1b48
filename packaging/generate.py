# SPDX-License-Identifier: MIT
"""Make what packages ship and the programs themselves know best: generate.py DIRECTORY.

    <program>.1, .8 and slurmjcd.toml.5      manual pages
    slurmjcd.toml.default                    every setting at its default
    bash/, zsh/, fish/                       completions, named as each shell looks for them

Runs with the Python of an environment that has slurmjcd in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import manpages
from click.shell_completion import get_completion_class

from slurmjcd import cli as daemon_cli
from slurmjcd.client import main as client_cli
from slurmjcd.config.sample import sample

_PROGRAMS = {"slurmjc": client_cli.cli, "slurmjcd": daemon_cli.main}
_FILE_NAMES = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}


def generate(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for page in manpages.all_pages():
        (directory / page.file_name).write_text(str(page))
    (directory / "slurmjcd.toml.default").write_text(sample())
    for shell, name in _FILE_NAMES.items():
        kind = get_completion_class(shell)
        assert kind is not None
        (directory / shell).mkdir(exist_ok=True)
        for program, command in _PROGRAMS.items():
            # not source(), which asks the bash of this machine for its version
            completion = kind(command, {}, program, f"_{program.upper()}_COMPLETE")
            text = completion.source_template % completion.source_vars()
            (directory / shell / name.format(program)).write_text(text)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
