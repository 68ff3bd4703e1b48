# SPDX-License-Identifier: MIT
"""`slurmjc import`: history from a log, a table or another tool's output into the store, each run of a job once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from slurmjcd.client.failure import ERROR, UNREACHABLE, Failure
from slurmjcd.client.flags import Seconds

if TYPE_CHECKING:
    from slurmjcd.cold.reader import ColdDays
    from slurmjcd.config.settings import Config
    from slurmjcd.importing.item import Source
    from slurmjcd.importing.run import Summary

_FORMATS: Final = ("auto", "ndjson", "filetxt", "sacct", "sacct-json", "elasticsearch", "mysql", "upstream")
_SHOWN: Final = 5
_MEANING: Final = {
    "read": "jobs in the source",
    "stored": "new in the store",
    "already_there": "in the store before, left as they are",
    "earlier_run": "taken by the run of this import that was stopped",
    "left_out": "steps, and jobs that have not ended",
    "expired": "ended longer ago than the store keeps jobs (redis.ttl_s)",
    "refused": "can't be records",
}
_OPTIONAL: Final = frozenset({"earlier_run", "left_out", "expired"})


@click.command("import")
@click.argument("source")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="auto", help="Of the source; default: look.")
@click.option("--timezone", metavar="ZONE", help="Of local times in the source; default: this host's.")
@click.option("--cluster", metavar="NAME", help="For jobs that don't name theirs; default: ClusterName of slurm.conf.")
@click.option(
    "--password-file", type=click.Path(path_type=Path), metavar="FILE",
    help="Password for a database, in a file of mode 0600.",
)  # fmt: skip
@click.option(
    "--unknown-id", metavar="N", type=click.IntRange(0, 2**32 - 2),
    help="uid and gid for names that this host doesn't know; default: refuse those jobs.",
)  # fmt: skip
@click.option(
    "--refused", "refused_path", type=click.Path(path_type=Path), metavar="FILE",
    help="Where refused jobs go; default slurmjc-import-ID.refused here.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Read and compare, store nothing.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@click.option(
    "--wait", "wait_s", default=60.0, metavar="SECONDS", type=Seconds(0, 86400),
    help="How long to wait for live records on their way to Redis; default 60.",
)  # fmt: skip
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip
def import_(
    *, source: str, refused_path: Path | None, dry_run: bool, as_json: bool, wait_s: float, **words: Any
) -> None:
    """Import completed jobs from SOURCE. For root, beside the running daemon.

    SOURCE is a file (jobcomp/filetxt's log, what sacct -P or sacct --json printed, or slurmjc export as NDJSON),
    - for standard input, mysql://USER@HOST/DATABASE (jobcomp/mysql's table), redis://HOST[?prefix=job] or unix:/PATH
    (slurm-redis' hashes).

    Each run of a job is stored once. Stopped at any moment, the same command goes on where it was. Exit status 1 when
    something was refused.
    """
    from slurmjcd.config import configfile
    from slurmjcd.errors import SlurmjcdError, StoreError
    from slurmjcd.importing.backlog import Behind
    from slurmjcd.importing.item import WrongFormat

    try:
        config = configfile.load(words["config_path"], os.environ)
        opened = open_source(source, words, config)
        path = refused_path or Path(f"slurmjc-import-{opened.identity[:12] or opened.kind}.refused")
        summary = asyncio.run(do_import(config, opened, path, dry=dry_run, wait_s=wait_s))
    except WrongFormat as exc:
        raise Failure(str(exc)) from exc
    except (StoreError, Behind) as exc:
        again = "" if dry_run else "; nothing is lost or double: the same command goes on from here"
        raise Failure(f"{exc}{again}", UNREACHABLE) from exc
    except SlurmjcdError as exc:
        raise Failure(str(exc).replace("\n", "; ")) from exc
    except OSError as exc:
        raise Failure(f"{exc.filename or source}: {exc.strerror or exc}") from exc
    _report(summary, path, dry=dry_run, as_json=as_json)


def open_source(source: str, words: dict[str, Any], config: Config) -> Source:
    """The source that the command line names; `words` holds the options by their names here.

    Raises:
        Failure: an option of it makes no sense.
        WrongFormat: it is none that can be imported.
        OSError: it can't be read.
    """
    from slurmjcd.importing import sources
    from slurmjcd.importing.localtimes import find_zone

    try:
        zone_id, zone = find_zone(words["timezone"])
    except ValueError as exc:
        raise Failure(str(exc)) from exc
    cluster = cluster_name(words["cluster"], config)
    return sources.open_source(
        source,
        words["form"],
        sources.Options(zone, zone_id, cluster, words["unknown_id"], _password(words["password_file"])),
    )


def cluster_name(said: str | None, config: Config) -> str:
    """The cluster of jobs that don't name theirs.

    Raises:
        Failure: nobody says it.
    """
    from slurmjcd.slurm import slurmconf

    cluster = said
    if cluster is None:
        try:
            cluster = slurmconf.setting(config.access.slurm_conf, "ClusterName")
        except OSError:
            cluster = None
    if not cluster:
        raise Failure(
            f"name the cluster with --cluster: {config.access.slurm_conf} can't be read or has no ClusterName"
        )
    return cluster.lower()  # Slurm itself lowers it, so do records of its plugin


async def do_import(config: Config, source: Source, refused_path: Path, *, dry: bool, wait_s: float) -> Summary:
    """Import it, after what was on its way to Redis has arrived.

    Raises:
        SlurmjcdError: the store or the spool can't be asked, or did not take it.
        Behind: what is on its way doesn't arrive.
    """
    from slurmjcd.client.progress import Progress
    from slurmjcd.importing.backlog import drained
    from slurmjcd.importing.refused import RefusedFile
    from slurmjcd.importing.run import Import
    from slurmjcd.importing.target import Target
    from slurmjcd.store.store import Store

    store = Store(config)
    target = Target(store, config.redis, _files_of(config))
    refused = RefusedFile(refused_path, source.identity, source.heading)
    try:
        await drained(config, store, wait_s=wait_s, tell=lambda text: click.echo(f"slurmjc: {text}", err=True))
        await target.open()
        with Progress("importing", source.total) as progress:
            return await Import(source, target, refused, config.redis, dry=dry, tick=progress.add).run()
    finally:
        refused.close()
        await target.close()


def _files_of(config: Config) -> ColdDays | None:
    """The files of older days.

    Raises:
        ConfigError: they can't be read with what is installed.
    """
    if config.cold.dir is None:
        return None
    from slurmjcd.config import checks
    from slurmjcd.errors import ConfigError

    if problems := checks.about_cold(config):
        raise ConfigError("\n".join(problems))
    from slurmjcd.cold.engine import Engine
    from slurmjcd.cold.mark import MarkedDirectory
    from slurmjcd.cold.reader import ColdDays

    return ColdDays(config.cold.dir, Engine(config.cold.engine), MarkedDirectory(config.cold.dir, None))


def _password(path: Path | None) -> str | None:
    from slurmjcd.config.checks import read_secret
    from slurmjcd.errors import ConfigError

    try:
        return read_secret("--password-file", path) if path is not None else None
    except ConfigError as exc:
        raise Failure(str(exc)) from exc


def _where(place: str) -> str:
    return f"line {place}" if place.isdigit() else place


def _report(summary: Summary, path: Path, *, dry: bool, as_json: bool) -> None:
    from slurmjcd.client.table import plain

    rows = {name: getattr(summary, name) for name in _MEANING}
    if as_json:
        refused = [{"at": place, "reason": reason} for place, reason in summary.reasons]
        file = str(path) if summary.refused and not dry else None
        click.echo(json.dumps({"schema": "slurmjc.import/1", "dry_run": dry, **rows, "reasons": refused, "file": file}))
    else:
        width = max(len(str(value)) for value in rows.values())
        for name, value in rows.items():
            if value or name not in _OPTIONAL:
                click.echo(f"{name:<14}{value:>{width}}  {_MEANING[name]}")
        if dry:
            click.echo("nothing was stored: this was a dry run")
    if not summary.refused:
        return
    for place, reason in summary.reasons[:_SHOWN]:
        click.echo(f"slurmjc: {_where(place)}: {plain(reason)}", err=True)
    if summary.refused > _SHOWN:
        click.echo(f"slurmjc: and {summary.refused - _SHOWN} more", err=True)
    if not dry:
        click.echo(f"slurmjc: refused jobs, with all reasons, are in {path}", err=True)
    sys.exit(ERROR)
