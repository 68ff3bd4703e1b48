# SPDX-License-Identifier: MIT
"""sacct's flags that select jobs, for every command that takes them."""

from __future__ import annotations

import math
from typing import Any, Final

import click


class Seconds(click.FloatRange):
    """A number of seconds in a range; NaN, which is in none and yet outside of none, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"'{value}' is no number of seconds.", param, ctx)
        return seconds


Option = tuple[tuple[str, ...], dict[str, Any]]

FLAG: Final = {"is_flag": True}
SELECTING: Final[list[Option]] = [
    (("-j", "--jobs"), {"metavar": "LIST", "help": "Job ids: 100, 100_5, 100_[1-3], 100+1."}),
    (("-u", "--user", "--uid"), {"metavar": "LIST", "help": "Users, by name or uid."}),
    (("-a", "--allusers"), FLAG | {"help": "Everyone's jobs, as far as you may see them."}),
    (("-g", "--group", "--gid"), {"metavar": "LIST", "help": "Groups, by name or gid."}),
    (("-A", "--accounts"), {"metavar": "LIST", "help": "Accounts."}),
    (("-r", "--partition"), {"metavar": "LIST", "help": "Partitions."}),
    (("-s", "--state"), {"metavar": "LIST", "help": "States, long or short: FAILED,TO."}),
    (("-S", "--starttime"), {"metavar": "TIME", "help": "Ended at or after; default 24 hours ago, none with -j."}),
    (("-E", "--endtime"), {"metavar": "TIME", "help": "Eligible before."}),
    (("-N", "--nodelist"), {"metavar": "NODES", "help": "Ran on one of these nodes: n[1-3,7]."}),
    (("-i", "--nnodes"), {"metavar": "MIN[-MAX]", "help": "Number of nodes."}),
    (("-I", "--ncpus"), {"metavar": "MIN[-MAX]", "help": "Number of CPUs."}),
    (("-k", "--timelimit-min"), {"metavar": "TIME", "help": "Time limit: this one, or with -K at least this."}),
    (("-K", "--timelimit-max"), {"metavar": "TIME", "help": "Time limit, at most; needs -k."}),
    (("-q", "--qos"), {"metavar": "LIST", "help": "QOS, by name or id."}),
    (("-W", "--wckeys"), {"metavar": "LIST", "help": "Wckeys."}),
    (("-R", "--reason"), {"metavar": "LIST", "help": "What they waited for: Priority,Resources."}),
    (("-x", "--associations"), {"metavar": "LIST", "help": "Refused: only slurmdbd has associations."}),
    (("-M", "--clusters", "--cluster"), {"metavar": "LIST", "help": "Clusters; default: all."}),
    (("-C", "--constraints"), {"metavar": "LIST", "help": "Features asked for."}),
    (("--name",), {"metavar": "LIST", "help": "Job names."}),
]


def _joined(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> str | None:
    return ",".join(given) if given else None


def add_options(command: Any, options: list[Option]) -> Any:
    """Put flags on a click command. A list may be given in several, as with sacct."""
    for names, attributes in reversed(options):
        several: dict[str, Any] = {"multiple": True, "callback": _joined} if attributes.get("metavar") == "LIST" else {}
        command = click.option(*names, **attributes, **several)(command)
    return command
