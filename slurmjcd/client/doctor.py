# SPDX-License-Identifier: MIT
"""`slurmjc doctor`: what is not as it should be on this host and in its Redis, and the fix for each."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from slurmjcd import __version__
from slurmjcd.client.failure import DENIED, ERROR, UNREACHABLE, Failure
from slurmjcd.client.table import plain

if TYPE_CHECKING:
    from slurmjcd.config.settings import Config
    from slurmjcd.doctor import Finding

SCHEMA: Final = "slurmjc.doctor/1"
_SIGNS: Final = {"ok": "ok", "unknown": "?", "warning": "warning", "error": "ERROR"}
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "ok": {"fg": "green"}, "unknown": {"fg": "cyan"}, "warning": {"fg": "yellow"}, "error": {"fg": "red", "bold": True},
}  # fmt: skip
_WITHOUT_REDIS: Final = ("redis-down", "redis-login", "module-missing", "certificate-over", "waitaof-missing")
_WIDE: Final = 80  # columns, from which on a line may begin with 24 of them for sign and check


@click.command("doctor")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def doctor(config_path: Path | None, as_json: bool) -> None:
    """Look at configuration, slurm.conf and plugin, spool, sockets, kernel, Redis and daemon, and print each fix.

    Exit status: 0 when nothing has to be done (warnings may be left), 1 when something has to be, 3 when Redis or
    slurmjcd can't be reached, 4 when this user may not read the configuration or Redis denies access.
    """
    findings, meta = _all(config_path)
    if as_json:
        names = ("check", "level", "code", "text", "fix")
        rows = [{name: getattr(found, name) for name in names} for found in findings]
        click.echo(json.dumps({"schema": SCHEMA, "meta": meta | {"version": __version__}, "findings": rows}))
    else:
        click.echo("\n".join(line for found in findings for line in _lines(found)))
    raise SystemExit(_status(findings))


def _all(config_path: Path | None) -> tuple[list[Finding], dict[str, Any]]:
    """Everything, or what keeps the configuration from being read; and what the findings are about."""
    from slurmjcd.config import configfile
    from slurmjcd.doctor import fine, problem
    from slurmjcd.errors import ConfigError

    path = config_path or configfile.DEFAULT_PATH
    try:
        config = configfile.load(config_path, os.environ)
    except ConfigError as exc:
        if isinstance(exc.__cause__, PermissionError):
            return [problem("config-denied", str(exc), "run slurmjc doctor as root")], {"config": str(path)}
        return [_of_file(path, line) for line in str(exc).splitlines()], {"config": str(path)}
    there = "right" if path.exists() else "not there, so all is at its default"
    findings = [fine("configuration", f"{path}: {there}"), *asyncio.run(_look(config)), *_daemon(config)]
    if any(found.code in _WITHOUT_REDIS for found in findings):  # the daemon says it once more
        findings = [found for found in findings if found.code != "daemon-without-redis"]
    return findings, {"config": str(path), "redis": config.redis_address}


def _of_file(path: Path, line: str) -> Finding:
    from slurmjcd.doctor import problem

    text, _, hint = line.rpartition(": ")
    if hint.startswith(("did you mean", "it belongs", "known here", "chmod", "chown", "write [")):
        fix = hint if hint.startswith("ch") else f"edit {path}: {hint}"
        return problem("config-file", text, fix)
    return problem("config-file", line, f"edit {path}; slurmjcd check-config --print-default shows every key")


async def _look(config: Config) -> list[Finding]:
    from slurmjcd.doctor import certificates, machine, redis, slurm, spool

    findings = [*machine.configuration(config), *machine.sockets(config), *slurm.privacy(config), *slurm.look(config)]
    findings += [*spool.look(config), *certificates.files(config)]
    findings += [found async for found in redis.look(config)]
    return [*findings, *machine.kernel(config)]


def _daemon(config: Config) -> list[Finding]:
    """What the daemon says of itself."""
    from slurmjcd.client.connection import Connection
    from slurmjcd.doctor import daemon, problem

    if "query" not in config.daemon.roles:
        return []
    try:
        with Connection(str(config.query_socket), 5.0) as connection:
            server = connection.hello["server"].decode()
            status = json.loads(connection.call(b"SLURMJC.STATUS")) if server.endswith(f"/{__version__}") else {}
    except Failure as exc:
        fix = "systemctl start slurmjcd; systemctl status slurmjcd says why it is not running"
        return [problem("daemon-down", exc.message, fix)]
    return list(daemon.look(server, status))


def _lines(found: Finding) -> list[str]:
    """Never broken by us: a fix has to be copied in one piece. A narrow terminal gets less in front of it."""
    sign, text, fix = f"{_SIGNS[found.level]:<8}", plain(found.text), f"fix: {plain(found.fix)}"
    on_terminal = sys.stdout.isatty()
    if on_terminal and "NO_COLOR" not in os.environ:
        sign = click.style(sign, **_STYLES[found.level])
    if on_terminal and shutil.get_terminal_size().columns < _WIDE:
        return [f"{sign} {found.check}", f"  {text}", *([f"  {fix}"] if found.fix else [])]
    return [f"{sign} {found.check:<14} {text}", *([f"{'':<8} {'':<14} {fix}"] if found.fix else [])]


def _status(findings: list[Finding]) -> int:
    codes = {found.code for found in findings if found.level == "error"}
    if codes & {"redis-login", "config-denied"}:
        return DENIED
    if codes & {"redis-down", "daemon-down"}:
        return UNREACHABLE
    return ERROR if codes else 0
