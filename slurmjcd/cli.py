# SPDX-License-Identifier: MIT
"""The command `slurmjcd`: reads options, sets up logging, calls one function."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import click

from slurmjcd import __version__

_CONFIG = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="Configuration; default /etc/slurmjcd/slurmjcd.toml, which may be missing.",
)  # fmt: skip

_SWITCH_S = 0.0005

log = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """slurmjcd keeps Slurm's completed jobs in Redis or Valkey."""


@main.command()
@_CONFIG
def run(config_path: Path | None) -> None:
    """Run the daemon until SIGTERM."""
    import uvloop

    from slurmjcd import logs
    from slurmjcd.config import configfile
    from slurmjcd.daemon import Daemon
    from slurmjcd.errors import SlurmjcdError

    try:
        config = configfile.load(config_path, os.environ)
        logs.set_up(config.daemon.log_level)
        # the spool's thread needs the interpreter for a moment many times in a commit, and gets it from a loop that is
        # busy with questions only at the end of this
        sys.setswitchinterval(_SWITCH_S)

        async def serve() -> None:
            await Daemon(config, lambda: configfile.load(config_path, os.environ)).run()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    except SlurmjcdError as exc:
        fail(exc)


@main.command("check-config")
@_CONFIG
@click.option("--print-default", is_flag=True, help="Print a configuration file with every key at its default.")
@click.option("--slurm", is_flag=True, help="Also say whether slurmctld will load the plugin at its next start.")
def check_config(config_path: Path | None, print_default: bool, slurm: bool) -> None:
    """Say whether the configuration is right, for a start or a reload."""
    from slurmjcd.config import checks, configfile, sample
    from slurmjcd.errors import SlurmjcdError
    from slurmjcd.slurm import slurmplugin

    if print_default:
        click.echo(sample.sample(), nl=False)
        return
    try:
        config = configfile.load(config_path, os.environ)
        checks.check_machine(config)
        plugin = slurmplugin.check_slurm(config) if slurm else ""
    except SlurmjcdError as exc:
        fail(exc)
    click.echo(f"{config_path or configfile.DEFAULT_PATH}: right")
    if plugin:
        click.echo(plugin)


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"slurmjcd {__version__}")


def fail(exc: Exception) -> None:
    """End with status 1 and the error, one line per problem."""
    for line in str(exc).splitlines():
        click.echo(f"slurmjcd: {line}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
