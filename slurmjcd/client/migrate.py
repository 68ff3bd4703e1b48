# SPDX-License-Identifier: MIT
"""`slurmjc migrate`: slurm-redis' hashes in the daemon's own Redis become records, in place, beside live traffic."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slurmjcd.client.failure import ERROR, UNREACHABLE, Failure

if TYPE_CHECKING:
    from slurmjcd.config.settings import Config
    from slurmjcd.importing.inplace import Taken

_SHOWN: Final = 5
_MEANING: Final = {
    "stored": "hashes that became records",
    "already_there": "hashes of runs that were in the store before",
    "early": "left: ended longer ago than the store keeps jobs (redis.ttl_s)",
    "refused": "left: no jobs",
    "index_sets": "of slurm-redis' index sets removed",
    "index_sets_left": "of them kept, since something is left",
    "nameless": "jobs of before that name no cluster: slurmjc jobs -M '' has them, sacct -c doesn't",
}
_OPTIONAL: Final = frozenset({"early", "index_sets", "index_sets_left", "nameless"})


@click.command("migrate")
@click.option("--cluster", metavar="NAME", help="For jobs that don't name theirs; default: ClusterName of slurm.conf.")
@click.option("--dry-run", is_flag=True, help="Look, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip
def migrate(*, cluster: str | None, dry_run: bool, as_json: bool, config_path: Path | None) -> None:
    """Take in the jobs that slurm-redis left as hashes in the daemon's Redis, under redis.prefix. For root.

    A hash goes when its job is stored. Redis answers everybody else in between, and slurm-redis may go on writing.
    Stopped at any moment, the same command goes on. What is no job is left alone and named: exit status 1.
    """
    from slurmjcd.client.import_ import cluster_name
    from slurmjcd.config import configfile
    from slurmjcd.errors import SlurmjcdError, StoreError

    try:
        config = configfile.load(config_path, os.environ)
        if config.redis.shards > 1:
            raise Failure(
                f"hashes lie under one prefix, and redis.shards = {config.redis.shards} spreads jobs over many: "
                "slurmjc import 'redis://…?prefix=…' takes them in"
            )
        taken = asyncio.run(_take(config, cluster_name(cluster, config), dry=dry_run))
    except StoreError as exc:
        raise Failure(f"{exc}; nothing is lost or double: the same command goes on from here", UNREACHABLE) from exc
    except SlurmjcdError as exc:
        raise Failure(str(exc).replace("\n", "; ")) from exc
    except OSError as exc:
        raise Failure(f"{exc.filename or 'slurmjcd.toml'}: {exc.strerror or exc}") from exc
    _report(taken, config.redis.prefix, dry=dry_run, as_json=as_json)


async def _take(config: Config, cluster: str, *, dry: bool) -> Taken:
    from slurmjcd.client.progress import Progress
    from slurmjcd.importing.inplace import take_all
    from slurmjcd.store.store import Store

    with Progress("migrating", 0) as progress:
        return await take_all(Store(config), config.redis, cluster=cluster, dry=dry, tick=progress.add)


def _report(taken: Taken, prefix: str, *, dry: bool, as_json: bool) -> None:
    from slurmjcd.client.table import plain

    rows = {name: getattr(taken, name) for name in _MEANING} | {"refused": len(taken.refused)}
    if as_json:
        reasons = [{"at": key, "reason": why} for key, why in taken.refused.items()]
        click.echo(json.dumps({"schema": "slurmjc.migrate/1", "dry_run": dry, **rows, "reasons": reasons}))
    else:
        width = max(len(str(value)) for value in rows.values())
        for name, value in rows.items():
            if value or name not in _OPTIONAL:
                click.echo(f"{name:<16}{value:>{width}}  {_MEANING[name]}")
        if dry:
            click.echo("nothing was changed: this was a dry run")
        elif not any(rows.values()):
            click.echo(f"no hash lies under '{prefix}:': slurm-redis has JobCompLoc:job there, see redis.prefix")
    if not taken.refused:
        return
    for key, why in list(taken.refused.items())[:_SHOWN]:
        click.echo(f"slurmjc: {plain(key)}: {plain(why)}", err=True)
    if len(taken.refused) > _SHOWN:
        click.echo(f"slurmjc: and {len(taken.refused) - _SHOWN} more, see --json", err=True)
    sys.exit(ERROR)
