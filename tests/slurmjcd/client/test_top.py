# SPDX-License-Identifier: MIT
"""slurmjc top on a terminal and in a pipe, against a real daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from slurmjcd.client.connection import Connection
from slurmjcd.client.topdata import look
from tests.harness import Daemon, wait_until
from tests.harness.paths import program
from tests.slurmjcd.client.site import Site, serving
from tests.slurmjcd.client.terminal import Terminal
from tests.slurmjcd.jobs import job

NOW = int(time.time())
STATES = (3, 5, 3, 4, 11, 3, 6, 3)
JOBS = [
    {
        "job_id": 4100 + n, "end": NOW - 20 * n - 60, "state": STATES[n % 8], "exit_code": 256 if n % 8 == 1 else 0,
        "user": ("ada", "grace", "linus")[n % 3], "partition": ("batch", "gpu")[n % 2], "nodes": f"n[{n}-{n + 3}]",
        "name": ("train", "a name\x1b[31m with escapes", "søk-αβγ", "x" * 60)[n % 4],
    }
    for n in range(40)
]  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(JOBS) as site:
        yield site


def top(site: Site, *args: str, **kwargs: object) -> Terminal:
    argv = [program("slurmjc"), "--socket", str(site.daemon.query_socket), "top", "--interval", "0.3", *args]
    return Terminal(argv, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize(("columns", "lines"), [(120, 40), (80, 24), (40, 24), (20, 10), (5, 3)])
def test_a_screen_of_any_size(site: Site, columns: int, lines: int) -> None:
    with top(site, columns=columns, lines=lines) as terminal:
        text = terminal.shows("q q" if columns < 7 else "q quits")
        assert "slur" in text
        assert max(map(len, terminal.screen())) <= columns
        if columns >= 40:
            assert "All stages work" in text
            assert re.search(r"^\d\d:\d\d:\d\d 4100 +COMPLETED", text, re.MULTILINE)
            assert not terminal.screen()[-2].startswith("\x1b")
        terminal.type(b"q")
        assert terminal.wait() == 0
        assert terminal.left_as_it_was()


@pytest.mark.parametrize("how", ["q", "Q", "^C", "^D", "SIGTERM", "SIGHUP", "SIGINT"])
def test_every_way_out_leaves_the_terminal_as_it_was(site: Site, how: str) -> None:
    with top(site) as terminal:
        terminal.shows("q quits")
        if how.startswith("SIG"):
            terminal.process.send_signal(getattr(signal, how))
        else:
            terminal.type({"^C": b"\x03", "^D": b"\x04"}.get(how, how.encode()))
        assert terminal.wait() == 0
        assert terminal.left_as_it_was()
        assert b"Traceback" not in terminal.raw


def test_other_keys_and_suspending_do_nothing(site: Site) -> None:
    with top(site) as terminal:
        terminal.shows("q quits")
        terminal.type(b"x\x1b[A\x1a\r ")
        terminal.read(0.5)
        assert terminal.process.poll() is None
        assert terminal.suspends_on() == b"\0"  # without a shell above it ^Z could not be seen to work
        terminal.type(b"q")
        assert terminal.wait() == 0


def test_it_follows_the_size_of_the_terminal(site: Site) -> None:
    with top(site, "--interval", "60", columns=100, lines=30) as terminal:
        assert "Nodes" in terminal.shows("q quits")
        terminal.resize(40, 20)
        wait_until(lambda: terminal.read() or "Nodes" not in terminal.text(), what="a smaller screen")
        text = terminal.shows("q quits")
        assert len(text.splitlines()) == 20
        assert re.search(r"^\d\d:\d\d:\d\d 4100 +COMPLETED", text, re.MULTILINE)
        terminal.resize(120, 40)
        terminal.shows("Nodes")


def test_new_jobs_and_a_redis_that_goes_away_are_seen(site: Site) -> None:
    with serving(JOBS[:3]) as other, top(other, columns=100, lines=40) as terminal:
        terminal.shows("4102")
        with other.redis.client() as client:
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", job(77001, end=int(time.time())))
        terminal.shows("77001")
        other.redis.stop()
        text = terminal.shows("ERROR")
        assert "Redis    ERROR" in text
        other.daemon.stop()
        terminal.shows("slurmjcd can't be reached")
        other.redis.start()
        other.daemon.start()
        terminal.shows("All stages work")
        terminal.type(b"q")
        assert terminal.wait() == 0


def test_names_of_jobs_do_nothing_to_the_terminal(site: Site) -> None:
    with top(site, columns=120, lines=40) as terminal:
        assert r"a name\x1b[31m with escapes" in terminal.shows(r"\x1b[31m")
        assert b"\x1b[31m with" not in terminal.raw


def test_colours_only_where_they_are_wanted(site: Site) -> None:
    with top(site) as terminal:
        terminal.shows("FAILED")
        assert {"green", "red"} <= terminal.colours()
    with top(site, env={"NO_COLOR": "1"}) as terminal:
        assert "FAILED" in terminal.shows("q quits")
        assert terminal.colours() == set()


def test_without_unicode_there_is_none(site: Site) -> None:
    with top(site, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}) as terminal:
        terminal.shows("q quits")
        assert terminal.raw.isascii()
        terminal.type(b"q")
        assert terminal.wait() == 0


def test_a_daemon_that_is_away_at_the_beginning_is_an_error(rundir: object) -> None:
    with Terminal([program("slurmjc"), "--socket", f"{rundir}/none.sock", "top"], columns=200) as terminal:
        assert terminal.wait() == 3
        assert terminal.text().startswith("slurmjc: slurmjcd can't be reached at")
        assert terminal.left_as_it_was()
        assert b"1049" not in terminal.raw


def test_once_is_one_screen_of_plain_lines(site: Site) -> None:
    done = site.run("top", "--once", "-n", "5")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not re.search(r"\x1b|\s$|q quits", done.stdout.rstrip("\n"))
    assert [line.split()[1] for line in lines[-5:]] == ["4100", "4101", "4102", "4103", "4104"]


def test_in_a_pipe_it_is_a_line_each_time(site: Site) -> None:
    argv = [program("slurmjc"), "--socket", str(site.daemon.query_socket), "top", "--interval", "0.2"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.stdout.close()  # who reads goes away
        assert process.wait(20) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == ""
    for line in lines:
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\S+ level=ok received_per_s=\S+ stored_per_s=\S+ answered_per_s=\S+ "
            r"waiting=0 oldest_s=\S+ ring=\w+ spool=ok shipper=\w+ redis=ok queries=ok\n",
            line,
        ), line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_jobs_are_those_that_the_caller_may_see(site: Site) -> None:
    settings = {"access": {"private_data": True}}
    other = Daemon(site.daemon.directory.parent / "private", redis_address=site.redis.address, settings=settings)
    other.start()
    try:
        assert len(look(lambda: Connection(str(other.query_socket), 10), 10).jobs) == 10
        os.seteuid(1001)
        try:
            shot = look(lambda: Connection(str(other.query_socket), 10), 10)
        finally:
            os.seteuid(0)
    finally:
        other.stop()
    assert (shot.sees, shot.jobs) == ("own", [])
    assert "troubles" not in shot.status
