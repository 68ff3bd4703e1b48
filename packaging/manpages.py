# SPDX-License-Identifier: MIT
"""The manual pages of the two programs and of the configuration file, out of what click and pydantic know of them.

click-man, the library for this, asks a group for its `commands`, which one that imports them when they are called
doesn't have, writes section 1 only, and escapes nothing but hyphens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import click
from pydantic import BaseModel
from roff import Page, bold, escape, italic

from slurmjcd import __version__
from slurmjcd import cli as daemon_cli
from slurmjcd.client import failure
from slurmjcd.client import main as client_cli
from slurmjcd.config.sample import toml_value
from slurmjcd.config.settings import Config

_EXIT_CLIENT = {
    0: "what was asked was done; nothing found is no error",
    failure.ERROR: "an error",
    failure.USAGE: "an option or argument that is wrong",
    failure.UNREACHABLE: "the daemon, or its Redis, can't be reached",
    failure.DENIED: "the one who asks may not see that",
    failure.MISSING: "a job that was asked for by its id isn't there, where the command looks for that",
}
_EXIT_DAEMON = {0: "stopped in order, or nothing wrong", 1: "an error, one line of it on stderr for each", 2: "usage"}
_SEE = [
    ("slurmjc", 1),
    ("slurmjcd", 8),
    ("slurmjcd.toml", 5),
    ("jobcomp_redis", 7),
    ("slurm_jobcomp", 7),
]
DATE = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))


def all_pages() -> Iterator[Page]:
    yield from _program(client_cli.cli, "slurmjc", 1)
    yield from _program(daemon_cli.main, "slurmjcd", 8)
    yield _configuration()


def walk(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A command and all that are below it and not hidden, each in its context."""
    context = click.Context(command, info_name=name, parent=parent, **_settings(command))
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            child = command.get_command(context, below)
            if child is not None and not child.hidden:
                yield from walk(child, below, context)


def _settings(command: click.Command) -> dict[str, object]:
    return dict(command.context_settings)


def _program(command: click.Command, name: str, section: int) -> Iterator[Page]:
    contexts = list(walk(command, name))
    for context in contexts:
        yield _command_page(context, section, [c.command_path.replace(" ", "-") for c in contexts])


def _command_page(context: click.Context, section: int, siblings: list[str]) -> Page:
    command, path = context.command, context.command_path
    name = path.replace(" ", "-")
    paragraphs = (command.help or "").strip().split("\n\n")
    summary = " ".join(paragraphs[0].split()).split(". ")[0].rstrip(".")
    page = Page(name, section, summary[:1].lower() + summary[1:], __version__, DATE)
    page.heading("SYNOPSIS")
    page.text(" ".join([bold(path), *(italic(piece) for piece in command.collect_usage_pieces(context))]))
    page.heading("DESCRIPTION")
    for paragraph in paragraphs:
        page.text(escape(paragraph.replace("\b", "")))
    page.heading("OPTIONS")
    for parameter in command.get_params(context):
        record = None if getattr(parameter, "hidden", False) else parameter.get_help_record(context)
        if record:
            page.term(bold(record[0]), record[1] or "See above.")
    if isinstance(command, click.Group):
        page.heading("COMMANDS")
        for below in command.list_commands(context):
            child = command.get_command(context, below)
            if child is not None and not child.hidden:
                page.term(f"{bold(f'{name}-{below}')}({section})", child.get_short_help_str(200))
    _surroundings(page, section)
    page.see_also(
        [
            *((other, section) for other in siblings if other != name),
            *(p for p in _SEE if p[0] != name and p[0] not in siblings),
        ]
    )
    return page


def _surroundings(page: Page, section: int) -> None:
    page.heading("EXIT STATUS")
    for code, means in (_EXIT_CLIENT if section == 1 else _EXIT_DAEMON).items():
        page.term(bold(str(code)), means + ".")
    page.heading("ENVIRONMENT")
    if section == 1:
        page.term(bold("SLURMJC_SOCKET"), "The daemon's query.sock, as with --socket.")
    else:
        page.term(bold("SLURMJCD_<SECTION>__<KEY>"), "A setting of slurmjcd.toml(5), which it overrides.")
    page.heading("FILES")
    if section == 1:
        page.term(bold("/run/slurmjcd/query.sock"), "Where slurmjcd listens for questions.")
    else:
        page.term(bold("/etc/slurmjcd/slurmjcd.toml"), "Configuration, slurmjcd.toml(5).")
        page.term(bold("/var/lib/slurmjcd"), "The spool, and the jobs if the daemon runs its own Redis.")
        page.term(bold("/run/slurmjcd"), "The two sockets.")


def _configuration() -> Page:
    page = Page("slurmjcd.toml", 5, "configuration of slurmjcd", __version__, DATE)
    page.heading("SYNOPSIS")
    page.text(bold("/etc/slurmjcd/slurmjcd.toml"))
    page.heading("DESCRIPTION")
    page.text(escape(
        "A TOML file with the sections below. All of it may be left out: then the daemon keeps jobs for ever, in a "
        "Redis of its own. The environment overrides the file: SLURMJCD_<SECTION>__<KEY>, such as "
        "SLURMJCD_SPOOL__PATH=/data/spool.db."
    ))  # fmt: skip
    page.text(escape(
        "slurmjcd check-config says whether the file is right and names every line that isn't; systemctl reload "
        "slurmjcd takes it in. slurmjcd check-config --print-default prints a file with every key."
    ))  # fmt: skip
    for section, model in sections():
        page.heading(f"[{section}]")
        page.text(escape((model.__doc__ or "").strip()))
        for key, field in model.model_fields.items():
            default = toml_value(key, field.get_default(call_default_factory=True))
            page.term(bold(key), f"{(field.description or '').rstrip('.')}. Default: {default}")
    page.heading("EXAMPLE")
    page.text(escape("Ninety days of jobs, in a Redis on another host:"))
    page.preformatted([
        "[redis]",
        "ttl_s = 7776000",
        'address = "rediss://redis.example.org:6379"',
        'user = "slurmjcd-writer"',
        'password_file = "/etc/slurmjcd/redis-password"',
    ])  # fmt: skip
    page.see_also([other for other in _SEE if other[0] != "slurmjcd.toml"])
    return page


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """The sections of the file and their models."""
    for name, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        yield name, model
