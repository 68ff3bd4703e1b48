# SPDX-License-Identifier: MIT
"""`slurmjc quarantine list|show|retry|drop`: records that Redis refused for what they hold, kept in the spool."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from slurmjcd.client.failure import MISSING, Failure

_CONFIG = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the quarantine; `damaged` entries hold the bytes of a whole batch."""

    seq: int
    spool: str
    at: int
    reason: str
    record: bytes

    @property
    def damaged(self) -> bool:
        from slurmjcd.spool.ledger import quarantined_records

        return quarantined_records(self.reason) > 1 or self.reason.startswith("checksum")

    @property
    def job_id(self) -> str:
        from slurmjcd import record
        from slurmjcd.errors import ProtocolError

        try:
            return str(record.decode_row(self.record)[1])
        except ProtocolError:
            return "?"


@click.group("quarantine")
def quarantine() -> None:
    """Look at records that were refused, send them again, or drop them. For root or the daemon's own user."""


@contextmanager
def _spool(config_path: Path | None, *, write: bool = False) -> Iterator[tuple[sqlite3.Connection, Any]]:
    from slurmjcd.config import configfile
    from slurmjcd.errors import SlurmjcdError
    from slurmjcd.spool import ledger

    try:
        config = configfile.load(config_path, os.environ)
        with ledger.opened(config.spool_path, write=write) as database:
            yield database, config
    except SlurmjcdError as exc:
        raise Failure(str(exc).replace("\n", "; ")) from exc


def _entries(database: sqlite3.Connection, numbers: tuple[int, ...] = ()) -> list[Entry]:
    rows = database.execute("SELECT seq, spool, at, reason, record FROM quarantine ORDER BY spool, seq")
    found = [Entry(*row) for row in rows]
    if not numbers:
        return found
    missing = set(numbers) - {entry.seq for entry in found}
    if missing:
        raise Failure(f"no record {min(missing)} is in quarantine: see slurmjc quarantine list", MISSING)
    return [entry for entry in found if entry.seq in numbers]


@quarantine.command("list")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def list_(config_path: Path | None, as_json: bool) -> None:
    """List what is in quarantine."""
    from slurmjcd.client.table import plain
    from slurmjcd.client.times import rfc3339

    with _spool(config_path) as (database, _):
        entries = _entries(database)
    if as_json:
        click.echo(
            json.dumps(
                {"quarantine": [
                    {"seq": entry.seq, "spool": entry.spool, "at": entry.at, "job_id": entry.job_id,
                     "bytes": len(entry.record), "reason": entry.reason}
                    for entry in entries
                ]}
            )
        )  # fmt: skip
        return
    for entry in entries:
        click.echo(f"{entry.seq:>10}  {rfc3339(entry.at)}  job {entry.job_id:<10}  {plain(entry.reason)}")


@quarantine.command("show")
@_CONFIG
@click.argument("seq", type=int)
def show(config_path: Path | None, seq: int) -> None:
    """Show the bytes of record SEQ and what can be read of them."""
    from slurmjcd import record
    from slurmjcd.client.table import plain
    from slurmjcd.errors import ProtocolError

    with _spool(config_path) as (database, _):
        (entry, *_) = _entries(database, (seq,))
    click.echo(f"reason  {plain(entry.reason)}\nspool   {entry.spool}\nbytes   {len(entry.record)}")
    try:
        for name, value in record.decode(entry.record).items():
            click.echo(f"{name:<18}  {plain(str(value))}")
    except ProtocolError as exc:
        click.echo(f"decoded {exc}")
    click.echo(entry.record.hex())


def _chosen(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments of commands that act on entries."""
    for decorate in (
        _CONFIG,
        click.option("--all", "everything", is_flag=True, help="Every record in quarantine."),
        click.argument("seqs", type=int, nargs=-1, metavar="[SEQ]..."),
    ):
        function = decorate(function)
    return function


def _check_choice(seqs: tuple[int, ...], everything: bool) -> None:
    if bool(seqs) == everything:
        raise click.UsageError("name the records by their SEQ, or give --all")


@quarantine.command("retry")
@_chosen
def retry(config_path: Path | None, seqs: tuple[int, ...], everything: bool) -> None:
    """Hand records to the daemon again, as after an upgrade of the module; then they leave the quarantine."""
    from slurmjcd.client.connection import Connection
    from slurmjcd.spool.ledger import RETRY_SOURCE

    _check_choice(seqs, everything)
    with _spool(config_path, write=True) as (database, config):
        entries = _entries(database, seqs)
        for entry in entries:
            if entry.damaged:
                raise Failure(f"record {entry.seq} is a damaged batch, its bytes can't be sent again: drop it")
        if not entries:
            click.echo("nothing is in quarantine")
            return
        connection = Connection(str(config.ingest_socket), 10.0)
        source = f"{RETRY_SOURCE}{uuid.uuid4()}".encode()
        for number, entry in enumerate(entries, 1):
            connection.call(b"SLURMJC.PUT", b"SPOOL", source, b"%d" % number, b"RECORDS", entry.record)
            # it is in the spool again; a kill before this only has it sent twice
            database.execute("DELETE FROM quarantine WHERE spool = ? AND seq = ?", (entry.spool, entry.seq))
    click.echo(f"{len(entries)} sent again; what is refused once more comes back: see slurmjc quarantine list")


@quarantine.command("drop")
@_chosen
def drop(config_path: Path | None, seqs: tuple[int, ...], everything: bool) -> None:
    """Delete records from the quarantine for good; slurmjc audit goes on counting them."""
    from slurmjcd.spool.ledger import quarantined_records

    _check_choice(seqs, everything)
    with _spool(config_path, write=True) as (database, _):
        entries = _entries(database, seqs)
        records = sum(quarantined_records(entry.reason) for entry in entries)
        database.execute("BEGIN IMMEDIATE")
        database.executemany(
            "DELETE FROM quarantine WHERE spool = ? AND seq = ?", [(entry.spool, entry.seq) for entry in entries]
        )
        database.execute(
            "INSERT INTO meta VALUES ('discarded', ?) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
            (records,),
        )
        database.execute("COMMIT")
    click.echo(f"{records} dropped")
