# SPDX-License-Identifier: MIT
"""`slurmjc doctor`: what is not as it should be on this host and in its Redis, and the fix for each."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from slurmjcd import __version__
from slurmjcd.client.failure import DENIED, ERROR, UNREACHABLE, Failure

if TYPE_CHECKING:
    from slurmjcd.config import Config
    from slurmjcd.doctor import Finding

SCHEMA: Final = "slurmjc.doctor/1"
_SIGNS: Final = {"ok": "ok", "unknown": "?", "warning": "warning", "error": "ERROR"}


@click.command("doctor")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def doctor(connect: Any, config_path: Path | None, as_json: bool) -> None:
    """Look at configuration, sockets, kernel and Redis, and print the fix for what is wrong.

    Exit status: 0 when nothing has to be done (warnings may be left), 1 when something has to be, 3 when Redis or
    slurmjcd can't be reached, 4 when this user may not read the configuration or Redis denies access.
    """
    from slurmjcd import configfile
    from slurmjcd.errors import ConfigError

    try:
        config = configfile.load(config_path, os.environ)
    except ConfigError as exc:
        denied = isinstance(exc.__cause__, PermissionError)
        raise Failure(str(exc).replace("\n", "; "), DENIED if denied else ERROR) from exc
    findings = asyncio.run(_look(config))
    findings += _daemon(connect, config)
    if as_json:
        rows = [{name: getattr(found, name) for name in ("check", "level", "text", "fix")} for found in findings]
        meta = {"redis": config.redis_address, "version": __version__}
        click.echo(json.dumps({"schema": SCHEMA, "meta": meta, "findings": rows}))
    else:
        click.echo("\n".join(line for found in findings for line in _lines(found)))
    raise SystemExit(_status(findings))


async def _look(config: Config) -> list[Finding]:
    from slurmjcd.doctor import machine, redis

    findings = [*machine.configuration(config), *machine.sockets(config), *machine.privacy(config)]
    findings += [found async for found in redis.look(config)]
    return [*findings, *machine.kernel(config)]


def _daemon(connect: Any, config: Config) -> list[Finding]:
    """Whether the daemon answers, and is of our version."""
    from slurmjcd.client.connection import Connection
    from slurmjcd.doctor import Finding

    if "query" not in config.daemon.roles:
        return []
    try:
        server = Connection(str(config.query_socket), 5.0).hello["server"].decode()
    except Failure as exc:
        return [Finding("daemon", "error", exc.message, "systemctl status slurmjcd")]
    if server != f"slurmjcd/{__version__}":
        return [Finding("daemon", "warning", f"{server} runs, this is {__version__}", "systemctl restart slurmjcd")]
    return [Finding("daemon", "ok", f"{server} answers on {config.query_socket}")]


def _lines(found: Finding) -> list[str]:
    lines = [f"{_SIGNS[found.level]:<8} {found.check:<14} {found.text}"]
    if found.fix and found.level != "ok":
        lines.append(f"{'':<8} {'':<14} fix: {found.fix}")
    return lines


def _status(findings: list[Finding]) -> int:
    wrong = [found for found in findings if found.level == "error"]
    if any(found.check == "login" for found in wrong):
        return DENIED
    if any(found.check in ("redis", "daemon") for found in wrong):
        return UNREACHABLE
    return ERROR if wrong else 0
