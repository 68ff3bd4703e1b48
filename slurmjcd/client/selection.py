# SPDX-License-Identifier: MIT
"""From sacct's flags to the criteria of MATCH."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Any, Final

import click

from slurmjcd.client import clusters
from slurmjcd.client.times import parse_minutes, parse_time, rfc3339
from slurmjcd.slurm.states import state_number

Criteria = list[tuple[str, str]]
_JOB: Final = re.compile(r"(\d{1,10})(?:-\d{1,10}|\+\d{1,10}|_\d{1,10}|_\[[\d, -]+\])?", re.ASCII)
_JOB_MAX: Final = 2**32 - 1
_DAY_S: Final = 86400
_JOBS: Final = 5000  # job ids in one criterion; several mean "or"
_NO_LIMIT: Final = 2**32 - 2  # from here on, as the store sees UNLIMITED


@dataclass(slots=True)
class Selection:
    """Which jobs: criteria, and the window they stand for (start 0: from the beginning; end None: until now).

    `chosen` says that somebody asked for this window.
    """

    criteria: Criteria = field(default_factory=list)
    start: int = 0
    end: int | None = None
    chosen: bool = True


def select(options: dict[str, Any]) -> Selection:
    """The selection that the command line asks for.

    Raises:
        click.UsageError: a flag's value makes no sense, or only slurmdbd could answer it.
    """
    if options["associations"] is not None:
        raise click.UsageError("only slurmdbd has associations: -A, -u, -W and -r select without it")
    selection = Selection()
    add = selection.criteria
    _window(options, selection)
    words = [job_word(word) for word in _words(options["jobs"])]
    add.extend(("job", ",".join(words[at : at + _JOBS])) for at in range(0, len(words), _JOBS))
    _people(options, add)
    for option, criterion in (
        ("accounts", "account"), ("partition", "partition"), ("wckeys", "wckey"),
        ("name", "name"), ("constraints", "constraint"),
    ):  # fmt: skip
        add.extend((criterion, word) for word in _words(options[option]))
    add.extend(("cluster", word) for word in clusters.chosen(options["clusters"]))
    add.extend(_qos(_words(options["qos"])))
    if options["nodelist"]:
        add.append(("node", options["nodelist"]))
    if options["reason"]:
        add.append(("reason", _reasons(options["reason"])))
    if options["state"]:
        add.append(("state", ",".join(str(_state(word)) for word in _words(options["state"]))))
    for option, criterion in (("nnodes", "nodes_count"), ("ncpus", "cpus_count")):
        if options[option]:
            add.append((criterion, _range(option, options[option])))
    if options["timelimit_min"] or options["timelimit_max"]:
        add.append(("time_limit", _limits(options["timelimit_min"], options["timelimit_max"])))
    return selection


def _words(text: str | None) -> list[str]:
    """The parts of a comma list; commas inside brackets don't split."""
    words, word, depth = [], "", 0
    for char in text or "":
        depth += (char == "[") - (char == "]")
        if char == "," and depth <= 0:
            words.append(word)
            word = ""
        else:
            word += char
    return [word.strip() for word in [*words, word] if word.strip()]


def job_word(word: str) -> str:
    """The word, when it names jobs; said here, before anybody is asked, as it is a wrong use.

    Raises:
        click.UsageError: it names none.
    """
    match = _JOB.fullmatch(word)
    if match is None or not 0 < int(match[1]) <= _JOB_MAX:
        raise _no_job(word)
    return word


def _no_job(text: str) -> click.UsageError:
    return click.UsageError(f"'{text}' is no job: 100, 100-109, 100_5, 100_[1-3,7] or 100+1")


def job_list(text: str) -> str:
    """The text, when it names one job or several.

    Raises:
        click.UsageError: as job_word.
    """
    words = _words(text)
    if not words or ",".join(words) != text.replace(" ", ""):
        raise _no_job(text)
    for word in words:
        job_word(word)
    return text


def _window(options: dict[str, Any], selection: Selection) -> None:
    now = int(time.time())
    try:
        if options["starttime"]:
            selection.start = parse_time(options["starttime"], now)
        elif not options["jobs"]:
            selection.start = now - _DAY_S
            selection.chosen = False
        if options["endtime"]:
            selection.end = parse_time(options["endtime"], now)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if selection.end is not None and selection.end < selection.start:
        raise click.UsageError("--endtime is before --starttime, so no job can match")
    if selection.start:
        selection.criteria.append(("start", str(max(0, selection.start))))
    if selection.end is not None:
        selection.criteria.append(("end", str(selection.end)))


def _people(options: dict[str, Any], add: Criteria) -> None:
    users, groups = _words(options["user"]), _words(options["group"])
    if users:
        add.extend(_ids(users, "uid", "user"))
    elif not options["allusers"] and not options["jobs"] and os.geteuid() != 0:
        add.append(("uid", str(os.geteuid())))
    if groups:
        add.extend(_ids(groups, "gid", "group"))


def _ids(words: list[str], number: str, name: str) -> Criteria:
    """Numbers where this machine knows them, as sacct does; other names are compared with the records'."""
    known = {word: found for word in words if (found := _lookup(word, number)) is not None}
    if len(known) == len(words):
        return [(number, ",".join(str(known[word]) for word in words))]
    if any(word.isdigit() for word in words):
        missing = next(word for word in words if word not in known)
        raise click.UsageError(f"there is no {name} '{missing}' on this machine: give its {number}, or names only")
    return [(name, word) for word in words]


def _lookup(word: str, number: str) -> int | None:
    if word.isdigit():
        return int(word)
    try:
        if number == "uid":
            import pwd

            return pwd.getpwnam(word).pw_uid
        import grp

        return grp.getgrnam(word).gr_gid
    except KeyError:
        return None


def _state(word: str) -> int:
    try:
        return state_number(word)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def _range(option: str, text: str) -> str:
    low, dash, high = text.partition("-")
    if not low.isdigit() or (dash and high and not high.isdigit()) or (high and int(high) < int(low)):
        raise click.UsageError(f"--{option} takes a number or min-max, not '{text}'")
    return text


def _reasons(text: str) -> str:
    from slurmjcd.client.reasons import reason_number

    try:
        return ",".join(str(reason_number(word)) for word in _words(text))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def _limits(least: str | None, most: str | None) -> str:
    """As sacct has it: a minimum alone is meant exactly, a maximum needs a minimum."""
    if least is None:
        raise click.UsageError("--timelimit-max needs --timelimit-min")
    try:
        low, high = parse_minutes(least), parse_minutes(most) if most else 0
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if low is None:
        return f"{_NO_LIMIT}-"
    if high is None:
        return f"{low}-"
    if most and high < low:
        raise click.UsageError(f"--timelimit-max ({most}) is less than --timelimit-min ({least})")
    return f"{low}-{high}" if most else str(low)


def _qos(words: list[str]) -> Criteria:
    """Names or ids: two criteria, of which a job would have to meet both."""
    names = {"qos_id" if word.isdigit() else "qos" for word in words}
    if len(names) > 1:
        raise click.UsageError("--qos takes names or ids, not both")
    return [(name, word) for name in names for word in words]


def say_window(selection: Selection) -> None:
    """On stderr, so that nobody takes a day's jobs for all there are. -j alone has no window."""
    if not selection.start and selection.end is None:
        return
    since = rfc3339(selection.start) if selection.start else "the beginning"
    until = rfc3339(selection.end) if selection.end is not None else "now"
    default = "" if selection.chosen else " (-S and -E change that)"
    click.echo(f"slurmjc: jobs that ended from {since} and were eligible before {until}{default}", err=True)
