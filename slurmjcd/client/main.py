# SPDX-License-Identifier: MIT
"""The command `slurmjc`. Subcommands are imported when they are called."""

from __future__ import annotations

import importlib
import keyword
import os
import signal
import sys
from typing import Final

import click

from slurmjcd import __version__
from slurmjcd.client.failure import ERROR
from slurmjcd.client.flags import Seconds

_COMMANDS: Final = {
    "audit": "Account for every record that slurmctld handed over.",
    "doctor": "Look for what is wrong, and say the fix.",
    "export": "Write jobs for other programs: NDJSON, CSV, Parquet, XDMoD.",
    "import": "Take in jobs from logs, tables and other tools, each once.",
    "jobs": "List completed jobs, with sacct's flags.",
    "migrate": "Take in what slurm-redis left in the daemon's Redis, in place.",
    "quarantine": "Records that were refused: list, show, retry, drop.",
    "report": "Count jobs and what they used, by user, account, state, day.",
    "reshard": "Move all jobs into another number of shards.",
    "show": "Show everything known of a job.",
    "stats": "How much is stored, how fast it grows, how long the room lasts.",
    "top": "A live screen: stages, rates, backlog, troubles, the jobs that ended last.",
    "verify": "Compare the store with slurmdbd or a log, and mend what is missing.",
    "wait": "Wait for jobs to end, and end as they did.",
    "watch": "Print each job as it is stored.",
    "why": "Say how a job ended, and why.",
}
_DEFAULT_SOCKET: Final = "/run/slurmjcd/query.sock"


class LazyGroup(click.Group):
    """Finds each command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        module = importlib.import_module(f"slurmjcd.client.{name}")
        command: click.Command = getattr(module, name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # of which click would make words
            sys.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="slurmjc", message="%(prog)s %(version)s")
@click.option(
    "--socket", default=lambda: os.environ.get("SLURMJC_SOCKET", _DEFAULT_SOCKET), metavar="PATH",
    help=f"slurmjcd's query.sock; default $SLURMJC_SOCKET or {_DEFAULT_SOCKET}.",
)  # fmt: skip
@click.option("--timeout", default=10.0, metavar="SECONDS", type=Seconds(0.001, 86400), help="Default 10.")
@click.pass_context
def cli(ctx: click.Context, socket: str, timeout: float) -> None:
    """Ask slurmjcd about completed jobs."""

    def connect() -> object:
        from slurmjcd.client.connection import Connection

        return Connection(socket, timeout)

    ctx.obj = connect


def main() -> None:
    """Run, quiet when the reader of a pipe goes away."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
    if sys.stdout is None:
        click.echo("slurmjc: stdout is closed", err=True)
        sys.exit(ERROR)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal of LC_ALL=C must not end the program
            reconfigure(errors="backslashreplace")
    try:
        cli()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as exc:
        click.echo(f"slurmjc: {exc.strerror or exc}", err=True)
        sys.exit(ERROR)


if __name__ == "__main__":
    main()
