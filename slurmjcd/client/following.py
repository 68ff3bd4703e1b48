# SPDX-License-Identifier: MIT
"""Jobs as they are stored: one request that the daemon answers when there is something, then the next.

The daemon may restart in between: what was stored meanwhile comes when it is back.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from slurmjcd.backoff import Backoff
from slurmjcd.client.connection import Connection
from slurmjcd.client.failure import UNREACHABLE, Failure

_ASK_S: Final = 600.0  # one request waits so long at most
_MOST: Final = b"500"  # jobs in one answer

Criteria = list[tuple[str, str]]


class Follower:
    """`start()`, then `next()` again and again. `lost`: jobs may have been missed, since the stream is capped.

    Args:
        patience_s: how long the daemon may be away.
        for_reader: end as soon as nobody reads stdout any more.
    """

    def __init__(
        self, connect: Callable[[], Connection], criteria: Criteria, *, patience_s: float, for_reader: bool = False
    ) -> None:
        self._connect, self._patience_s = connect, patience_s
        self._words = [word.encode("utf-8", "surrogateescape") for pair in criteria for word in pair]
        self._for_reader = for_reader
        self._cursor = b"$"
        self._connection: Connection | None = None
        self._started = False
        self._early: list[bytes] = []  # jobs that ended while it started
        self.lost = False

    def start(self, deadline: float | None = None) -> None:
        """Connect; what is stored from here on will be told.

        Raises:
            Failure: the daemon can't be reached, or refuses.
        """
        self._early = self._retrying(lambda: self._ask(0.0), deadline)
        self._started = True

    def next(self, deadline: float | None) -> list[bytes]:
        """The records of the next jobs; none when the deadline (time.monotonic) has come, or some were lost."""
        if self._early:
            early, self._early = self._early, []
            return early
        while True:
            rest = _ASK_S if deadline is None else min(_ASK_S, deadline - time.monotonic())
            if rest <= 0:
                return []
            found = self._retrying(lambda rest=rest: self._ask(rest), deadline)  # type: ignore[misc]
            if found or self.lost:
                return found

    def stored(self, criteria: Criteria, deadline: float | None) -> list[bytes]:
        """The records that match now."""
        return self._retrying(lambda: list(self.connection.records(criteria)), deadline)

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _ask(self, wait_s: float) -> list[bytes]:
        connection = self.connection
        connection.ask(b"SLURMJC.WATCH", self._cursor, _MOST, b"%d" % max(0, round(wait_s * 1000)), *self._words)
        self._wait(connection)
        reply: list[Any] = connection.answer()
        self._cursor, lost, records = reply[0], reply[1], reply[2:]
        self.lost |= bool(lost)
        return records

    def _wait(self, connection: Connection) -> None:
        """Until an answer begins; the process ends as if it had written, when nobody reads what it writes."""
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if self._for_reader:
            poll.register(sys.stdout, 0)
        while connection.fileno() not in (ready := dict(poll.poll())):
            if ready.get(sys.stdout.fileno(), 0) & (select.POLLERR | select.POLLHUP):
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGPIPE)

    def _retrying(self, ask: Callable[[], list[bytes]], deadline: float | None) -> list[bytes]:
        """Ask; over the daemon's restarts and while too many ask, ask again."""
        backoff, began = Backoff(first_s=0.05, longest_s=2.0), time.monotonic()
        while True:
            try:
                return ask()
            except Failure as exc:
                gone = exc.exit_code == UNREACHABLE and self._started
                if not gone and exc.reply != "LIMIT":
                    raise
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                now, wait_s = time.monotonic(), backoff.next_s()
                if now + wait_s - began > self._patience_s:
                    raise
                if deadline is not None and now + wait_s > deadline:
                    return []
                if gone and now - began > 1.0:
                    self._say(exc)
                time.sleep(wait_s)

    _said = False

    def _say(self, exc: Failure) -> None:
        if not self._said:
            click.echo(f"slurmjc: {exc.message}; trying for {self._patience_s:g} s", err=True)
        self._said = True
