# SPDX-License-Identifier: MIT
"""`slurmjc top`: a live screen of the daemon's stages and of the jobs that ended last."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from slurmjcd.client.failure import Failure
from slurmjcd.client.flags import Seconds

if TYPE_CHECKING:
    from rich.console import Console

    from slurmjcd.client.topdata import Snapshot

_PLAIN_WIDTH: Final = 80
_JOBS_MAX: Final = 200
_QUITS: Final = b"qQ\x03\x04"
_VDISABLE: Final = b"\0"


@click.command("top")
@click.option("--interval", default=2.0, type=Seconds(0.2, 3600), metavar="SECONDS", help="Default 2.")
@click.option("-n", "--jobs", default=20, type=click.IntRange(0, _JOBS_MAX), metavar="N",
              help="Jobs shown by --once; default 20. A live screen shows what fits.")  # fmt: skip
@click.option("--once", is_flag=True, help="Print one screen and end.")
@click.pass_obj
def top(connect: Any, interval: float, jobs: int, once: bool) -> None:
    """Show how records come in, wait and go to Redis, what is wrong, and which jobs ended last; q or ^C ends it.

    In a pipe it prints a line every interval, of name=value. Jobs are those that you may see.
    """
    from slurmjcd.client import topdata, topscreen

    if once:
        shot = topdata.look(connect, jobs)
        width = _console().width if sys.stdout.isatty() else _PLAIN_WIDTH
        _print(topscreen.draw(shot, width, 0, encoding=sys.stdout.encoding, keys=False))
    elif not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        _follow(connect, interval)
    else:
        _live(connect, interval)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False, soft_wrap=False)


def _print(text: Any) -> None:
    """With colours on a terminal, without trailing blanks anywhere."""
    if sys.stdout.isatty():
        _console().print(text, no_wrap=True, crop=True)
    else:
        click.echo("\n".join(line.rstrip() for line in text.plain.split("\n")))


def _follow(connect: Any, interval: float) -> None:
    from slurmjcd.client import topdata, topscreen

    for shot in _looks(lambda: topdata.look(connect, 0)):
        click.echo(topscreen.one_line(shot))
        sys.stdout.flush()
        time.sleep(interval)


def _looks(look: Callable[[], Snapshot]) -> Iterator[Snapshot]:
    """One after the other for ever; when the daemon is away, what was seen last with the reason.

    Raises:
        Failure: it is away at the beginning.
    """
    last = look()
    while True:
        yield last
        try:
            last = look()
        except Failure as exc:
            last.error, last.at_s = exc.message, time.time()


# ---- on a terminal ---------------------------------------------------------------------------------------------------


def _live(connect: Any, interval: float) -> None:
    from rich.live import Live

    from slurmjcd.client import topdata, topscreen

    console = _console()
    looks = _looks(lambda: topdata.look(connect, min(_JOBS_MAX, console.height)))
    shot = next(looks)  # what fails here has no screen to restore

    def drawn() -> Any:
        return topscreen.draw(shot, console.width, console.height, encoding=console.encoding)

    with _keys() as wait, Live(drawn(), console=console, screen=True, auto_refresh=False) as live:
        due_s = time.monotonic() + interval
        while True:
            woken = wait(max(0.0, due_s - time.monotonic()))
            if woken == "quit":
                return
            if time.monotonic() >= due_s:
                shot, due_s = next(looks), time.monotonic() + interval
            live.update(drawn(), refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Keys without Enter, and a function that waits for one, for another size of the terminal, or so many seconds.

    ^C, SIGTERM and SIGHUP are as good as q, so the terminal is always left as it was. ^Z is taken away: it would leave
    the shell with our screen.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)
    handlers = {number: signal.signal(number, lambda *_: None) for number in caught}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    typed = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    before = termios.tcgetattr(typed) if typed is not None else None
    watched = [reader] if typed is None else [reader, typed]

    def wait(seconds: float) -> str:
        ready, _, _ = select.select(watched, [], [], seconds)
        if reader in ready:
            numbers = os.read(reader, 512)
            return "resized" if set(numbers) <= {signal.SIGWINCH} else "quit"
        if typed in ready and typed is not None:
            keys = os.read(typed, 512)
            if not keys:
                watched.remove(typed)  # it was closed, which is no wish to end
            return "quit" if set(keys) & set(_QUITS) else "key"
        return "due"

    try:
        if typed is not None and before is not None:
            termios.tcsetattr(typed, termios.TCSADRAIN, _cbreak(before))
        yield wait
    finally:
        if typed is not None and before is not None:
            termios.tcsetattr(typed, termios.TCSADRAIN, before)
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _cbreak(attributes: list[Any]) -> list[Any]:
    """These settings of a terminal, without echo, lines and ^Z."""
    changed = [*attributes[:6], list(attributes[6])]
    changed[3] &= ~(termios.ECHO | termios.ICANON)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    changed[6][termios.VSUSP] = _VDISABLE
    return changed
