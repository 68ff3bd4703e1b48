# SPDX-License-Identifier: MIT
"""`slurmjc reshard`: all jobs into another number of shards, beside the daemon, and the old ones dropped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from slurmjcd.client.failure import UNREACHABLE, USAGE, Failure
from slurmjcd.client.flags import Seconds

if TYPE_CHECKING:
    from slurmjcd.config.settings import Config
    from slurmjcd.resharding.run import Summary

_TERMINATED: Final = 143


@click.command("reshard")
@click.option("--to", "shards", type=click.IntRange(1, 256), metavar="N", help="How many shards there shall be.")
@click.option("--drop-old", is_flag=True, help="Take out the shards that moves have left, after this one or alone.")
@click.option("--user", metavar="NAME", help="Redis user, with the rights of an administrator; default redis.user.")
@click.option(
    "--password-file", type=click.Path(path_type=Path), metavar="FILE", help="Their password, in a file of mode 0600."
)
@click.option(
    "--wait", "wait_s", default=60.0, metavar="SECONDS", type=Seconds(0, 86400),
    help="How long to wait for a server that doesn't answer; default 60.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The daemon's configuration; default /etc/slurmjcd/slurmjcd.toml.",
)  # fmt: skip
def reshard(shards: int | None, *, drop_old: bool, wait_s: float, as_json: bool, **words: Any) -> None:
    """Move all jobs into N shards. For root, beside the running daemon.

    Jobs are copied day by day while slurmjcd goes on; then it holds for some seconds, and wants redis.shards = N. Until
    --drop-old jobs are in memory twice.

    Stopped at any moment, the same command goes on where it was; with the old number, it is given up.
    """
    from slurmjcd.errors import SlurmjcdError, StoreError

    if shards is None and not drop_old:
        raise Failure("say how many shards there shall be, as in --to 6, or --drop-old", USAGE)
    again = "nothing is lost or double: the same command goes on from here"
    try:
        config = _config(words)
        done = asyncio.run(_run(config, shards, drop_old=drop_old, wait_s=wait_s))
    except asyncio.CancelledError:
        click.echo(f"slurmjc: stopped; {again}", err=True)
        sys.exit(_TERMINATED)
    except StoreError as exc:
        raise Failure(_explained(str(exc), again), UNREACHABLE) from exc
    except SlurmjcdError as exc:
        raise Failure(str(exc).replace("\n", "; ")) from exc
    except OSError as exc:
        raise Failure(f"{exc.filename or 'reshard'}: {exc.strerror or exc}") from exc
    _report(done, as_json=as_json)


def _config(words: dict[str, Any]) -> Config:
    from slurmjcd.config import configfile

    config = configfile.load(words["config_path"], os.environ)
    if words["user"] is None and words["password_file"] is None:
        return config
    login = {"user": words["user"] or "", "password_file": words["password_file"], "reader_user": ""}
    return config.model_copy(update={"redis": config.redis.model_copy(update=login)})


def _explained(text: str, again: str) -> str:
    if "NOPERM" in text:
        return (
            f"{text}: the daemon's user may not do all that a move needs (GET, SET, UNLINK and slurmjc.trim, with all "
            "keys of the prefix): name one who may with --user and --password-file"
        )
    return f"{text}; {again}"


async def _run(config: Config, shards: int | None, *, drop_old: bool, wait_s: float) -> dict[str, Any]:
    """Do it, and tell what was done as the names of the JSON object."""
    from slurmjcd.resharding.patience import Patience
    from slurmjcd.resharding.session import session
    from slurmjcd.resharding.sides import prefix_of

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    done: dict[str, Any] = {}
    what = f"--to {shards}" if shards is not None else "--drop-old"
    async with session(config, what, Patience(wait_s, _tell)) as now:
        if shards is not None:
            with contextlib.ExitStack() as bars:
                done |= _moved(await now.move(shards, _ticker(bars)))
            prefix = prefix_of(config.redis, shards)
            settings = {"shards": shards, **({"prefix": prefix} if prefix != config.redis.prefix else {})}
            done["settings"] = settings if done["from"] != done["to"] else {}
        if drop_old:
            dropped, jobs = await now.drop()
            done |= {"dropped": dropped, "dropped_jobs": jobs}
    return done


def _ticker(bars: contextlib.ExitStack) -> Callable[[int], Callable[[int], None]]:
    """Begins a progress bar in the place of the last one."""
    from slurmjcd.client.progress import Progress

    def begin(total: int) -> Callable[[int], None]:
        bars.close()
        return bars.enter_context(Progress("moving jobs", total)).add

    return begin


def _tell(text: str) -> None:
    click.echo(f"slurmjc: {text}", err=True)


def _moved(summary: Summary) -> dict[str, Any]:
    return {
        "from": summary.from_shards,
        "to": summary.to_shards,
        "jobs": summary.jobs,
        "days": summary.days,
        "copied": summary.copied,
        "held_s": round(summary.held_s, 3),
        "seconds": round(summary.seconds, 3),
    }


def _report(done: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"schema": "slurmjc.reshard/1", **done}))
        return
    if "to" in done and done["from"] == done["to"]:
        click.echo(f"given up: slurmjcd goes on with {_number(done['to'], 'shard')}")
        click.echo("drop what was copied: slurmjc reshard --drop-old")
    elif "to" in done:
        click.echo(f"{done['jobs']} jobs of {_number(done['days'], 'day')} are in {_number(done['to'], 'shard')} now")
        click.echo(f"{done['copied']} records copied in {done['seconds']:.1f} s, held for {done['held_s']:.1f} s")
        for name, value in done["settings"].items():
            click.echo(f"set redis.{name} = {json.dumps(value)} in slurmjcd.toml on every host and restart slurmjcd")
        if "dropped" not in done:
            click.echo("then drop the old ones: slurmjc reshard --drop-old")
    if "dropped" in done:
        what = ", ".join(_number(number, "shard") for number in done["dropped"])
        click.echo(f"dropped {done['dropped_jobs']} jobs in {what}" if what else "there is nothing to drop")


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
