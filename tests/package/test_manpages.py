# SPDX-License-Identifier: MIT
"""The manual pages that packages ship: no formatter complains, and nothing that a program knows is missing."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from slurmjcd import cli as daemon_cli
from slurmjcd.client import main as client_cli
from slurmjcd.config.settings import Config
from tests.harness import ROOT

PROGRAMS = {"slurmjc": (client_cli.cli, 1), "slurmjcd": (daemon_cli.main, 8)}
WRITTEN = [ROOT / "packaging" / "man" / name for name in ("jobcomp_redis.7", "slurm_jobcomp.7")]


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What packaging/generate.py makes."""
    directory = tmp_path_factory.mktemp("generated")
    subprocess.run([sys.executable, ROOT / "packaging" / "generate.py", directory], check=True)
    return directory


def below(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all that a user can reach from it, each with the words that one types."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=words[-1])
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            if not child.hidden:
                yield from below(child, (*words, name))


def rendered(page: Path) -> str:
    """As a terminal shows it, without its bold and its hyphenation."""
    done = subprocess.run(["mandoc", "-Tascii", "-Owidth=1000", page], capture_output=True, text=True, check=True)
    return re.sub(r".\x08", "", done.stdout)


def test_no_formatter_has_a_complaint(generated: Path) -> None:
    pages = [*generated.glob("*.[158]"), *WRITTEN]
    assert len(pages) > len(WRITTEN)
    lint = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *pages], capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout) == (0, "")
    for page in pages:
        argv = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page]
        man = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (man.returncode, man.stderr) == (0, ""), page


def test_every_command_has_a_page_with_every_option(generated: Path) -> None:
    expected = {"slurmjcd.toml.5"}
    for program, (command, section) in PROGRAMS.items():
        for words, below_it in below(command, (program,)):
            name = f"{'-'.join(words)}.{section}"
            expected.add(name)
            text = rendered(generated / name)
            for parameter in below_it.params:
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    heads = [line.strip() for line in text.splitlines() if line.lstrip().startswith("-")]
                    for flag in parameter.opts:
                        assert any(re.search(rf"(^|[ /]){re.escape(flag)}($|[ ,/])", head) for head in heads), (
                            name,
                            flag,
                        )
            assert "-h, --help" in text
    assert {path.name for path in generated.glob("*.[158]")} == expected


def test_the_page_of_the_configuration_has_every_key(generated: Path) -> None:
    text = rendered(generated / "slurmjcd.toml.5")
    written = (generated / "slurmjcd.toml.default").read_text()
    every = tomllib.loads(re.sub(r"(?m)^#(?! )", "", written))
    assert set(every) == set(Config.model_fields)
    for section, keys in every.items():
        start = text.index(f"\n[{section}]\n")
        part = text[start : text.find("\n[", start + 1)]
        for key in keys:
            assert re.search(rf"(?m)^ +{key}( |$)", part), (section, key)


def test_the_page_of_the_plugin_has_every_option() -> None:
    source = (ROOT / "cplugin" / "params.c").read_text()
    names = re.search(r"option_names\[UNKNOWN\] = \{(.*?)/\*", source, re.DOTALL)
    assert names is not None
    ours = [name for name in re.findall(r'"(\w+)"', names[1]) if not name.startswith("enable_job_")]
    assert len(ours) > 1
    text = rendered(WRITTEN[0])
    for name in ours:
        assert re.search(rf"(?m)^ +{name}(=\w+)?$", text), name


def test_the_page_of_the_module_has_every_command() -> None:
    names = re.findall(r'^    \{"(slurmjc\.\w+)"', (ROOT / "redis_module" / "module.c").read_text(), re.MULTILINE)
    assert len(names) > 1
    text = rendered(WRITTEN[1])
    for name in names:
        assert re.search(rf"(?m)^ +{re.escape(name.upper())} prefix", text), name


def test_what_stands_for_itself_is_not_taken_for_a_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "packaging"))
    roff = importlib.import_module("roff")
    page = roff.Page("some", 1, "a page", "1", "2026-01-01")
    page.heading("OPTIONS")
    hostile = ".so /etc/passwd 'br \\n(.g ~/-x ^ `a' \"q\""
    page.text(roff.escape(hostile))
    page.term(roff.bold("'x .y"), hostile)
    path = tmp_path / "some.1"
    path.write_text(str(page))
    assert rendered(path).count(hostile) == 2
