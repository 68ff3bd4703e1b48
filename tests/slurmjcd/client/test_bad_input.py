# SPDX-License-Identifier: MIT
"""Every option of every slurmjc command misused, and every command where terminal, locale, zone or stdout are bad.

One clear error with the right exit code, never a traceback, nothing on stdout. An option that is new has to be entered
here: with what is wrong for it, or as one for which every text is right.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from slurmjcd.client.main import cli
from tests.harness.paths import program
from tests.slurmjcd.client.site import Site, serving
from tests.slurmjcd.client.terminal import Terminal

NOW = int(time.time())
NOWHERE = "/nowhere/query.sock"
TIMES = ("tomorow", "2026-13-01", "25:00", "now-3fortnights", "-1", "12/40", "'", "99999999999999999999")
CONFIGS = ("/nowhere/slurmjcd.toml", "/dev/null/x", "/")
# parameter → wrong values; by name, or as command.name where commands differ
WRONG: dict[str, tuple[str, ...]] = {
    "config_path": CONFIGS,
    "starttime": TIMES,
    "endtime": TIMES,
    "jobs": ("abc", "1-", "12_[3", "1..5", "-5"),
    "top.jobs": ("x", "-1", "201"),
    "user": ("17,no-such-user",),
    "group": ("17,no-such-group",),
    "state": ("DONE", "F,NO_SUCH", "77"),
    "nnodes": ("x", "3-1", "-2", "1-2-3"),
    "ncpus": ("x", "9-8", "1.5"),
    "timelimit_min": ("soon", "1:2:3:4"),
    "timelimit_max": ("5",),  # without a minimum
    "qos": ("normal,7",),
    "reason": ("Weather",),
    "associations": ("5",),
    "format": ("nocolumn", "jobid%x", "%5"),
    "form": ("xml", ""),
    "delimiter": ("",),
    "report.top": ("0", "-3", "x"),
    "interval": ("0", "x", "1e9", "nan"),
    "days": ("-1", "x", "1.5"),
    "wait.timeout": ("-1", "x", "nan"),
    "retry_s": ("-1", "x"),
    "most": ("-1", "x"),
    "unknown_id": ("-2", "x"),
    "wait_s": ("-1", "x"),
    "shards": ("0", "257", "-1", "x"),
    "reshard.user": (),  # Redis says whether there is one
    "verify.timezone": (),  # the daemon is asked first; in test_verify.py
    "timezone": ("No/Such", "../etc/passwd"),
}
# every text is right, or names a file that is only opened once there is something to write; tested with the command
FREE = {
    "accounts", "partition", "nodelist", "wckeys", "clusters", "cluster", "constraints", "name", "output", "against",
    "password_file", "refused_path", "refused",
}  # fmt: skip
ARGUMENTS = {
    "show": ["1"],
    "reshard": ["--drop-old"],
    "why": ["1"],
    "wait": ["1"],
    "import": ["/dev/null"],
    "verify": ["--against", "/dev/null"],
}
BAD_ARGUMENTS = [
    ("show",), ("show", "x"), ("show", "1", "2"), ("show", "0"), ("show", "99999999999"), ("show", "1_x"),
    ("why",), ("why", "x"), ("why", "-5"), ("why", "1", "2"),
    ("wait",), ("wait", "x"), ("wait", "1", "x"),
    ("report", "color"), ("report", "user", "state", "day"), ("report", "--csv", "--json"),
    ("jobs", "surplus"), ("jobs", "--json", "--ndjson"), ("jobs", "--strict"), ("jobs", "--delimiter", ";"),
    ("jobs", "-S", "now", "-E", "now-1hour"), ("stats", "surplus"), ("top", "surplus"), ("doctor", "surplus"),
    ("audit", "surplus"), ("import",), ("import", "a", "b"), ("watch", "surplus"), ("export", "surplus"),
    ("reshard",), ("reshard", "surplus"), ("reshard", "--to"),
    ("quarantine", "surplus"), ("quarantine", "list", "surplus"), ("quarantine", "show"),
    ("nocommand",), ("--no-such",), ("--timeout", "0", "stats"), ("--timeout", "x", "stats"), ("--timeout",),
    ("--timeout", "nan", "stats"),
]  # fmt: skip


def commands() -> Iterator[tuple[str, click.Command]]:
    """All of them, those below quarantine as 'quarantine list'."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                found = command.get_command(context, below)
                assert found is not None
                yield f"{name} {below}", found
        else:
            yield name, command


def options() -> Iterator[tuple[str, click.Option]]:
    for name, command in commands():
        for option in command.params:
            if isinstance(option, click.Option) and option.name != "help":
                yield name, option


def wrong_values(command: str, option: click.Option) -> tuple[str, ...] | None:
    return WRONG.get(f"{command}.{option.name}", WRONG.get(str(option.name)))


def slurmjc(*words: str) -> Result:
    return CliRunner().invoke(cli, ["--socket", NOWHERE, *words], prog_name="slurmjc")


def refused(done: Result, *codes: int) -> str:
    """The one error, with one of these exit codes."""
    crashed = done.exception is not None and not isinstance(done.exception, SystemExit)
    assert not crashed, done.exc_info
    assert done.exit_code in codes, (done.exit_code, done.output)
    assert "Traceback" not in done.output
    errors = [line for line in done.stderr.splitlines() if re.match(r"(Error|slurmjc): ", line)]
    assert len(errors) == 1, done.output
    assert len(errors[0]) > len("slurmjc: xxx")
    assert done.stdout == ""
    return errors[0]


def test_every_option_is_in_the_table() -> None:
    missing = {
        f"{command}.{option.name}"
        for command, option in options()
        if not option.is_flag and wrong_values(command, option) is None and option.name not in FREE
    }
    assert missing == set()


CASES = [
    (command, option.opts[-1] if option.opts[-1].startswith("--") else option.opts[0], value)
    for command, option in options()
    if not option.is_flag
    for value in wrong_values(command, option) or ()
]


@pytest.mark.parametrize(("command", "flag", "value"), CASES)
def test_a_wrong_value(command: str, flag: str, value: str) -> None:
    words = [*command.split(), f"{flag}={value}" if flag.startswith("--") else f"{flag}{value}"]
    if flag in ("--config",):
        if command == "doctor":
            done = slurmjc(*words)
            assert (done.exit_code, type(done.exception)) == (1, SystemExit)
            assert done.output.startswith("ERROR    configuration  ")
            return
        refused(slurmjc(*words, *_arguments(command)), 1)
        return
    if flag == "--delimiter":
        words.append("-P")
    # a zone is looked up together with the source, which may be wrong as well
    refused(slurmjc(*words, *_arguments(command)), *((1, 2) if flag == "--timezone" else (2,)))


def _arguments(command: str) -> list[str]:
    return ARGUMENTS.get(
        command, ["1"] if command in ("quarantine show", "quarantine drop", "quarantine retry") else []
    )


@pytest.mark.parametrize("command", [name for name, _ in commands()])
def test_options_without_what_they_need(command: str) -> None:
    assert "No such option" in refused(slurmjc(*command.split(), "--no-such-option"), 2)
    for name, option in options():
        if name != command:
            continue
        flag = max(option.opts, key=len)
        if option.is_flag:
            error = refused(slurmjc(*command.split(), f"{flag}=1"), 2)
            assert "does not take a value" in error
        else:
            assert "requires an argument" in refused(slurmjc(*command.split(), flag), 2)


@pytest.mark.parametrize("words", BAD_ARGUMENTS, ids=" ".join)
def test_wrong_arguments(words: tuple[str, ...]) -> None:
    refused(slurmjc(*words), 2)


@pytest.mark.parametrize(
    "words",
    [("jobs",), ("show", "1"), ("why", "1"), ("report",), ("stats",), ("top",), ("top", "--once"), ("export",)],
    ids=" ".join,
)  # fmt: skip
def test_a_daemon_that_is_not_there(words: tuple[str, ...]) -> None:
    assert NOWHERE in refused(slurmjc(*words), 3)


# ---- where it runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    jobs = [{"job_id": 1, "end": NOW - 60, "name": "søk\n\x1b[31m", "user": "ådå"}]
    with serving(jobs) as site:
        yield site


def line_of(site: Site) -> list[list[str]]:
    config = ["--config", str(site.daemon.conf)]
    return [
        ["jobs"], ["show", "1"], ["why", "1"], ["report"], ["stats"], ["top", "--once"], ["export"], ["audit", *config],
        ["doctor", *config], ["quarantine", "list", *config], ["wait", "--no-squeue", "1"],
    ]  # fmt: skip


PLACES = {
    "LC_ALL=C, an odd zone": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "No/Such:Zone,,99"},
    "an odd locale, no terminal type": {
        "LC_ALL": "xx_XX.no-such", "LANG": "\udcff", "TERM": "no-such", "NO_COLOR": "1", "COLUMNS": "0",
    },
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_every_command_works_there(site: Site, place: str) -> None:
    for words in line_of(site):
        done = site.run(*words, **PLACES[place])
        # what the site lacks, such as an append-only file, is a finding
        assert done.returncode == (1 if words[0] == "doctor" else 0), (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout
        assert done.stdout or words[0] == "quarantine", words


@pytest.mark.parametrize(("redirect", "why"), [(">&-", "stdout is closed"), (">/dev/full", "No space left on device")])
def test_a_stdout_that_takes_nothing_is_an_error(site: Site, redirect: str, why: str) -> None:
    lines = [words for words in line_of(site) if words[0] != "quarantine"]  # nothing is in it
    for words in [*lines, ["jobs", "--json"], ["stats", "--json"]]:
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirect}', "sh", program("slurmjc"), *words],
            env={**os.environ, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        told = [line for line in done.stderr.splitlines() if not line.startswith("slurmjc: jobs that ended from")]
        assert (done.returncode, told) == (1, [f"slurmjc: {why}"]), words


def test_doctor_on_terminals(site: Site) -> None:
    argv = [program("slurmjc"), "doctor", "--config", str(site.daemon.conf)]
    for columns, env in ((120, {}), (40, {"NO_COLOR": "1"})):
        with Terminal(argv, columns=columns, lines=120, env=env) as terminal:
            assert terminal.wait() == 1
            text = terminal.text()
            assert (
                "  fix: appendonly yes in redis.conf; " if columns == 40 else f"{'':<24}fix: appendonly yes"
            ) in text
            assert ("red" in terminal.colours()) == (not env)
            assert ("ERROR    persistence\n" in text) == (columns == 40)


def test_no_input_and_no_stderr_do_no_harm(site: Site) -> None:
    for words in line_of(site):
        done = subprocess.run(
            ["sh", "-c", '"$@" <&- 2>&-', "sh", program("slurmjc"), *words],
            env={**os.environ, "SLURMJC_SOCKET": str(site.daemon.query_socket)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == (1 if words[0] == "doctor" else 0), words
        assert done.stdout or words[0] == "quarantine", words


@pytest.mark.parametrize("words", [["report"], ["stats"], ["top", "--once"], ["why", "1"]], ids=" ".join)
def test_a_terminal_of_40_columns(site: Site, words: list[str]) -> None:
    argv = [program("slurmjc"), "--socket", str(site.daemon.query_socket), *words]
    with Terminal(argv, columns=40, lines=60, env={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
        assert terminal.text()
        assert terminal.colours() == set()
        assert b"Traceback" not in terminal.raw
