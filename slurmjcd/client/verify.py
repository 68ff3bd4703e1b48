# SPDX-License-Identifier: MIT
"""`slurmjc verify`: is every job that slurmdbd, or a log, has in the store? What is missing, and mending it."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from slurmjcd.client import clusters
from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import DENIED, ERROR, UNREACHABLE, Failure
from slurmjcd.client.progress import Progress
from slurmjcd.slurm.states import ENDED

if TYPE_CHECKING:
    from slurmjcd.config.settings import Config
    from slurmjcd.importing.item import Source
    from slurmjcd.importing.run import Summary
    from slurmjcd.verifying.accounts import Reading, Window
    from slurmjcd.verifying.findings import Report
    from slurmjcd.verifying.pairing import Findings

_LIVE: Final = "sacct"
_DAY_S: Final = 86400
_HOUR_S: Final = 3600
_ON_THE_WAY_S: Final = 60  # a job that ended a moment ago may not yet be known to either side
_SHOWN: Final = 5
_NOBODY: Final = 65534  # stands for who isn't known, where only times are compared
_WAIT_S: Final = 60.0


@click.command("verify")
@click.option(
    "--against", metavar="sacct|FILE", default=_LIVE, show_default=True,
    help="slurmdbd, asked by sacct here; or what sacct -P printed, or jobcomp/filetxt's log.",
)  # fmt: skip
@click.option(
    "-S", "--starttime", metavar="TIME", help="Ended at or after; default 24 hours earlier, of a FILE its first job."
)
@click.option("-E", "--endtime", metavar="TIME", help="Ended before; default a minute ago, of a FILE its last job.")
@click.option("-M", "--clusters", metavar="LIST", help="Only these clusters; default: sacct's own, or all in FILE.")
@click.option("--cluster", metavar="NAME", help="For jobs in FILE that don't name theirs; default: as import has it.")
@click.option("--timezone", metavar="ZONE", help="Of local times in FILE; default: this host's.")
@click.option("--backfill", is_flag=True, help="Import what is missing. For root, beside the running daemon.")
@click.option(
    "--unknown-id", metavar="N", type=click.IntRange(0, 2**32 - 2),
    help="--backfill: uid and gid for names that this host doesn't know; default: refuse those jobs.",
)  # fmt: skip
@click.option("--holes", is_flag=True, help="Of the hours only those in which a job is missing.")
@click.option(
    "--most", default=1000, show_default=True, metavar="N", type=click.IntRange(0), help="Missing jobs shown."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option(
    "--refused", "refused_path", type=click.Path(path_type=Path), default=Path("slurmjc-verify.refused"),
    metavar="FILE", help="Where jobs go that --backfill can't import; default slurmjc-verify.refused here.",
)  # fmt: skip
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip
@click.pass_obj
def verify(connect: Any, /, **options: Any) -> None:
    """Compare the store with another account of the same jobs, hour by hour and job by job.

    Exit status 0: nothing is missing, or --backfill has brought it in. 1: something is, or can't be read.
    """
    from slurmjcd.errors import SlurmjcdError, StoreError
    from slurmjcd.importing.backlog import Behind
    from slurmjcd.importing.item import WrongFormat
    from slurmjcd.verifying.live import NoAnswer

    window = _window(options)
    config = _config(options)
    connection: Connection = connect()
    if connection.hello["sees"] != b"all":
        raise Failure(
            "you see only your own jobs here, so there is nothing to compare: ask as root or an operator", DENIED
        )
    try:
        with tempfile.NamedTemporaryFile(prefix="slurmjc-verify-") as saved:
            if options["against"] == _LIVE:
                _ask_sacct(window, options["clusters"], saved.file)
            report = _verify(connection, config, window, options, saved.name)
            _show(report, options)
    except (NoAnswer, StoreError, Behind) as exc:
        raise Failure(str(exc), UNREACHABLE) from exc
    except WrongFormat as exc:
        raise Failure(str(exc)) from exc
    except SlurmjcdError as exc:
        raise Failure(str(exc).replace("\n", "; ")) from exc
    except OSError as exc:
        raise Failure(f"{exc.filename or options['against']}: {exc.strerror or exc}") from exc
    if report.still_missing or report.reading.unreadable_number:
        sys.exit(ERROR)


def _window(options: dict[str, Any]) -> Window:
    """What was asked for; of a file without -S, from the beginning."""
    from slurmjcd.client.times import parse_time
    from slurmjcd.verifying.accounts import Window

    now = int(time.time())
    live = options["against"] == _LIVE
    try:
        start = parse_time(options["starttime"], now) if options["starttime"] else None
        end = parse_time(options["endtime"], now) if options["endtime"] else now + 1 - live * _ON_THE_WAY_S
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if start is None:
        start = end - _DAY_S if live else 0
    if end <= start:
        raise click.UsageError("--endtime is not after --starttime, so no job can have ended in between")
    return Window(max(0, start), end)


def _config(options: dict[str, Any]) -> Config:
    """The daemon's. Who may not read it compares without knowing how long the store keeps jobs."""
    from slurmjcd.config import configfile
    from slurmjcd.config.settings import Config
    from slurmjcd.errors import SlurmjcdError

    try:
        return configfile.load(options["config_path"], os.environ)
    except SlurmjcdError as exc:
        if options["backfill"] or options["config_path"]:
            raise Failure(str(exc).replace("\n", "; ")) from exc
        return Config()


def _ask_sacct(window: Window, clusters: str | None, out: IO[bytes]) -> None:
    from slurmjcd.verifying import live

    with Progress("asking sacct", window.end - window.start) as progress:
        live.ask(window.start, window.end, clusters, out, progress.add)


def _open(options: dict[str, Any], config: Config, saved: str, unknown_id: int | None) -> Source:
    from slurmjcd.client import import_

    words: dict[str, Any] = defaultdict(lambda: None, form="auto", unknown_id=unknown_id)
    if options["against"] == _LIVE:
        words |= {"form": "sacct", "timezone": "UTC", "cluster": "unknown"}
        return import_.open_source(saved, words, config)
    words |= {"timezone": options["timezone"], "cluster": options["cluster"]}
    return import_.open_source(options["against"], words, config)


def _verify(connection: Connection, config: Config, window: Window, options: dict[str, Any], saved: str) -> Report:
    from slurmjcd.verifying.accounts import Part
    from slurmjcd.verifying.findings import Hole, Report

    source = _open(options, config, saved, _NOBODY)
    kept_since = int(time.time()) - config.redis.ttl_s if config.redis.ttl_s else 0
    window, found, reading = _compare(connection, source, replace(window, kept_since=kept_since), options)
    filled = None
    if options["backfill"] and found.holes:
        part = Part(_open(options, config, saved, options["unknown_id"]), found.holes)
        filled = _fill(part, config, options["refused_path"])
    holes = [Hole.of(item) for item in _some(Part(source, found.holes), options["most"])]
    against = _LIVE if options["against"] == _LIVE else Path(options["against"]).name
    return Report(against, window, found, reading, holes, filled)


def _some(source: Source, most: int) -> Iterator[Any]:
    from itertools import islice

    return islice(source.items(0), most)


def _compare(
    connection: Connection, source: Source, window: Window, options: dict[str, Any]
) -> tuple[Window, Findings, Reading]:
    """The window that was compared, what was found, and what could not be read."""
    from slurmjcd.verifying import accounts
    from slurmjcd.verifying.pairing import Pairing

    reading = accounts.Reading()
    only = frozenset(name.lower() for name in clusters.chosen(options["clusters"]))
    with closing(Pairing()) as pairing:
        with Progress("reading", source.total) as progress:
            pairing.add_theirs(accounts.theirs(source, window, only, reading, progress.add))
        begin, end = pairing.ends() if options["against"] != _LIVE else (0, 0)
        # what a file holds says itself from when to when it is
        if begin and not options["starttime"]:
            window = replace(window, start=begin // _HOUR_S * _HOUR_S)
        if end and not options["endtime"]:
            window = replace(window, end=min(window.end, end + 1))
        since = max(window.start, window.kept_since)
        criteria = [("start", str(since)), ("end", str(window.end - 1)), ("state", ENDED)]
        with Progress("asking the store", 0) as progress:
            records = connection.records(criteria)
            pairing.add_ours(accounts.ours(records, window, only or pairing.clusters(), progress.add))
        return window, pairing.compare(), reading


def _fill(part: Source, config: Config, refused_path: Path) -> Summary:
    from slurmjcd.client import import_

    return asyncio.run(import_.do_import(config, part, refused_path, dry=False, wait_s=_WAIT_S))


def _show(report: Report, options: dict[str, Any]) -> None:
    from slurmjcd.client import table
    from slurmjcd.client.times import rfc3339
    from slurmjcd.verifying import findings

    window, reading = report.window, report.reading
    since = rfc3339(window.start) if window.start else "the beginning"
    click.echo(f"slurmjc: jobs that ended from {since} to before {rfc3339(window.end)}", err=True)
    if options["as_json"]:
        click.echo(findings.document(report))
    else:
        table.write(findings.lines(report, only_holes=options["holes"]))
    problems = [(place, reason, "can't be read") for place, reason in reading.unreadable[:_SHOWN]]
    if report.filled is not None:
        problems += [(place, reason, "can't be imported") for place, reason in report.filled.reasons[:_SHOWN]]
    for place, reason, what in problems:
        at = f"line {place}" if place.isdigit() else place
        where = f"a line of {_LIVE}'s" if report.against == _LIVE else f"{report.against}, {at}"
        click.echo(f"slurmjc: {where} {what}: {table.plain(reason)}", err=True)
    if reading.unreadable_number > _SHOWN:
        click.echo(f"slurmjc: and {reading.unreadable_number - _SHOWN:,} lines more can't be read", err=True)
    if report.filled is not None and report.filled.refused:
        click.echo(f"slurmjc: what can't be imported is in {options['refused_path']}, with all reasons", err=True)
