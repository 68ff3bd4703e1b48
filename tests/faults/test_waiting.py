# SPDX-License-Identifier: MIT
"""slurmjc wait and watch while the daemon and Redis come and go."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness import wait_until
from tests.slurmjcd.client.ending import ending


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next lines of its output."""
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def test_a_job_that_ends_while_the_daemon_is_away(rundir: Path) -> None:
    with ending(rundir) as site:
        waiting = site.wait("7")
        site.daemon.kill()
        site.end({"job_id": 6}, {"job_id": 7, "exit_code": 4 << 8, "state": 5})
        assert waiting.poll() is None
        site.daemon.start()
        assert waiting.wait(timeout=30) == 4
        waiting = site.wait("8")
        site.daemon.stop()
        site.daemon.start()
        wait_until(lambda: site.waiting() == 1, what="it to wait again")
        site.end({"job_id": 8})
        assert waiting.wait(timeout=30) == 0


def test_a_daemon_that_stays_away_is_given_up(rundir: Path) -> None:
    with ending(rundir) as site:
        waiting = site.wait("7", "--retry", "0.1")
        site.daemon.stop()
        assert waiting.wait(timeout=30) == 3


def test_redis_comes_back(rundir: Path) -> None:
    with ending(rundir, options={"appendonly": "yes", "appendfsync": "always"}) as site:
        waiting = site.wait("7")
        site.redis.kill()
        site.redis.start()
        site.end({"job_id": 7})
        assert waiting.wait(timeout=30) == 0


def test_more_ended_than_the_stream_keeps(rundir: Path) -> None:
    """What its place in the stream can't tell it is asked of the store."""
    with ending(rundir) as site:
        site.end({"job_id": 1})
        waiting = site.wait("7")
        site.daemon.kill()
        site.end({"job_id": 7, "exit_code": 6 << 8, "state": 5})
        site.end(*({"job_id": number} for number in range(10, 40)), keep=10)
        site.daemon.start()
        assert waiting.wait(timeout=30) == 6


def test_it_goes_on_over_a_restart_without_hole_or_double(rundir: Path) -> None:
    with ending(rundir) as site:
        watching = site.begin("watch", "-nP", "-o", "jobid")
        seen = []
        for number in range(1, 10):
            site.end({"job_id": 10 * number})
            seen += lines(watching, 1)
            if number % 4 == 0:
                site.daemon.kill()
                site.end({"job_id": 10 * number + 1})
                site.daemon.start()
                seen += lines(watching, 1)
        assert seen == ["10", "20", "30", "40", "41", "50", "60", "70", "80", "81", "90"]


def test_what_the_stream_no_longer_has_is_said(rundir: Path) -> None:
    with ending(rundir) as site:
        site.end({"job_id": 1})
        watching = site.begin("watch", "-nP", "-o", "jobid")
        site.daemon.kill()
        site.end(*({"job_id": number} for number in range(10, 40)), keep=2)
        site.daemon.start()
        assert lines(watching, 2) == ["38", "39"]
        assert watching.stderr is not None
        said = iter(watching.stderr.readline, "")
        assert any("some are missing here" in line for line in said)
