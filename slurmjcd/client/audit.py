# SPDX-License-Identifier: MIT
"""`slurmjc audit`: attempted = stored + quarantined + dropped, from the rings' counters, the spool and Redis."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import click

from slurmjcd.client.failure import ERROR, Failure


@click.command("audit")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def audit(config_path: Path | None, as_json: bool) -> None:
    """Account for every record: where is what slurmctld handed over? Exit status 1 when the sum is wrong."""
    from slurmjcd.config import configfile
    from slurmjcd.errors import SlurmjcdError
    from slurmjcd.spool import ledger
    from slurmjcd.store.store import Store
    from slurmjcd.store.wholeinfo import whole_info

    try:
        config = configfile.load(config_path, os.environ)
        info = asyncio.run(whole_info(Store(config)))
        # Redis first: what it gains meanwhile is in the spool's books too
        books = ledger.read(config.spool_path)
    except SlurmjcdError as exc:
        raise Failure(str(exc).replace("\n", "; ")) from exc

    watermark = info.watermarks.get(books.spool_id, 0)
    rows = {
        "attempted": books.attempted,
        "stored": books.stored(watermark),
        "waiting": books.waiting(watermark),
        "on_the_way": books.on_the_way,
        "quarantined": books.quarantined,
        "discarded": books.discarded,
        "dropped": books.dropped,
        "lost": books.lost,
    }
    found = sum(rows.values()) - books.attempted
    rows |= {"unaccounted": books.attempted - found, "jobs_in_redis": int(info.fields.get("jobs", 0))}
    if as_json:
        click.echo(json.dumps(rows))
    else:
        click.echo("\n".join(_lines(rows)))
    if rows["unaccounted"] or books.missing():
        raise Failure(f"{abs(rows['unaccounted']) or abs(books.missing())} records are not accounted for", ERROR)


_MEANING = {
    "attempted": "calls of the record hook",
    "stored": "in Redis (a run that was reported again is stored once)",
    "waiting": "in the spool, not in Redis yet",
    "on_the_way": "in a ring or spill file",
    "quarantined": "refused for what they hold: slurmjc quarantine list",
    "discarded": "dropped out of quarantine by hand",
    "dropped": "no room in the ring, or its bytes were damaged",
    "lost": "with a damaged spool, or forgotten by Redis after the replay window",
    "unaccounted": "must be 0",
    "jobs_in_redis": "what there is now: less than stored after retention, TRIM and repeated reports",
}


def _lines(rows: dict[str, int]) -> list[str]:
    width = max(len(str(value)) for value in rows.values())
    return [f"{name:<14}{value:>{width}}  {_MEANING[name]}" for name, value in rows.items()]
