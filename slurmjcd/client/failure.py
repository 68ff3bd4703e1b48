# SPDX-License-Identifier: MIT
"""How slurmjc ends when it can't do what was asked: exit codes and who gets which."""

from __future__ import annotations

from typing import Final

import click

ERROR: Final = 1
USAGE: Final = 2  # click's own
UNREACHABLE: Final = 3
DENIED: Final = 4
MISSING: Final = 5
TIMED_OUT: Final = 124  # as timeout(1)

_BY_CODE: Final = {"UNAVAILABLE": UNREACHABLE, "NOPERM": DENIED, "LIMIT": ERROR, "NOPROTO": ERROR}


class Failure(click.ClickException):
    """One line on stderr and an exit code."""

    def __init__(self, message: str, exit_code: int = ERROR, *, reply: str = "") -> None:
        super().__init__(message)
        self.reply = reply  # the code of the daemon's error reply, such as LIMIT
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: object = None) -> None:
        click.echo(f"slurmjc: {self.message}", err=True)


def from_reply(text: str) -> Failure:
    """The failure that an error reply of the daemon means."""
    code, _, message = text.partition(" ")
    return Failure(message or code, _BY_CODE.get(code, ERROR), reply=code)
