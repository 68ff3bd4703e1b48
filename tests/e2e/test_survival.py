# SPDX-License-Identifier: MIT
"""Whatever dies, each record is there in the end, once."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Daemon, RedisServer, wait_until
from tests.harness.hook_driver import HookDriver, stored_count, stored_sums
from tests.harness.stack import Stack

RECORDS, FIRST = 10_000, 4000
HANGS_S = 90  # no machine is so slow

pytestmark = pytest.mark.timeout(400)


def end_a_job_that_the_daemon_does_not_hear_of(stack: Stack) -> int:
    """The record is in the plugin's ring, and nowhere else."""
    stack.daemon.stop()
    job_id = stack.cluster.sbatch("exit 7")
    stack.cluster.wait_ended([job_id])
    assert stack.stored() == 0
    return job_id


def assert_kept_once(stack: Stack, job_id: int) -> None:
    stack.wait_stored(1)
    (run,) = stack.runs(job_id)
    assert (run["exit_code"], run["name"], run["nodes"]) == (7 << 8, "wrap", "n1")
    assert stack.stored() == 1


def test_slurmctld_is_killed_right_after_a_job_ended(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    job_id = end_a_job_that_the_daemon_does_not_hear_of(stack)
    stack.cluster.slurmctld.kill()
    stack.daemon.start()
    stack.cluster.start_controller()
    assert_kept_once(stack, job_id)


def test_slurmctld_is_reconfigured_right_after_a_job_ended(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    job_id = end_a_job_that_the_daemon_does_not_hear_of(stack)
    stack.cluster.run("scontrol", "reconfigure")
    stack.cluster.slurmctld.wait_ready(stack.cluster.controller_answers)
    stack.daemon.start()
    assert_kept_once(stack, job_id)
    # and the hook still works
    second = stack.cluster.sbatch("true")
    stack.cluster.wait_ended([second])
    stack.wait_stored(2)


def test_slurmctld_stops_and_starts_while_the_daemon_is_away(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    job_id = end_a_job_that_the_daemon_does_not_hear_of(stack)
    assert stack.cluster.slurmctld.stop() == 0
    stack.cluster.start_controller()
    stack.daemon.start()
    assert_kept_once(stack, job_id)
    # the spill file is empty now, and the way goes on through the ring
    second = stack.cluster.sbatch("true")
    stack.cluster.wait_ended([second])
    stack.wait_stored(2)


class Load:
    """RECORDS calls of the hook in two parts: the second part's begin when the first part's are stored.

    So a test knows what Redis has at a moment, however fast or slow the machine is.
    """

    def __init__(self, rundir: Path, redis: RedisServer, daemon: Daemon) -> None:
        self._rundir, self._redis, self._daemon = rundir, redis, daemon
        self._drivers: list[HookDriver] = []

    def __enter__(self) -> Load:
        self._start(FIRST, 0)
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self._drivers:
            driver.process.kill()

    def _start(self, calls: int, first: int) -> None:
        words = (f"--calls={calls}", f"--first={first}", "--rounds=1", f"--jobs={RECORDS}", "--rate=5000")
        driver = HookDriver(self._rundir / f"hook{first}", self._daemon.run_dir, *words, "--linger=600")
        driver.process.start()
        self._drivers.append(driver)

    def go_on(self) -> None:
        """The first part is stored; now comes the second one."""
        self.stored(FIRST)
        self._start(RECORDS - FIRST, FIRST)

    def _calls(self) -> int:
        return sum(driver.calls() for driver in self._drivers)

    def promised(self, count: int) -> None:
        """Wait for so many calls."""
        wait_until(
            lambda: self._calls() >= count,
            what=lambda: f"{count} calls of the hook, {self._calls()} were made",
            timeout_s=HANGS_S,
        )

    def stored(self, count: int) -> None:
        """Wait until Redis has so many records."""
        wait_until(
            lambda: self._redis.answers() and stored_count(self._redis) >= count,
            what=lambda: f"{count} records in Redis; /readyz: {self._daemon.get('/readyz')}",
            timeout_s=HANGS_S,
        )

    def check(self) -> None:
        """Every record that was promised is stored, once, and nothing else is."""
        self.promised(RECORDS)
        self.stored(RECORDS)
        promised = sum((driver.promised() for driver in self._drivers), Counter())
        assert promised.total() == RECORDS
        assert stored_sums(self._redis) == promised


def test_the_daemon_is_killed_while_records_come_in(
    rundir: Path, make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)
    with Load(rundir, redis, daemon) as load:
        for count in (1000, FIRST, 7000):
            if count == FIRST:
                load.go_on()
            load.promised(count)
            daemon.kill()
            daemon.start(ready=False)
        load.check()


@pytest.mark.parametrize("persistence", ["aof", "rdb"])
def test_redis_is_killed_while_records_come_in(
    rundir: Path,
    make_redis: Callable[..., RedisServer],
    make_daemon: Callable[..., Daemon],
    persistence: str,
) -> None:
    """With snapshots alone it comes back with the first part, and gets the second part again."""
    redis = make_redis(options={"appendonly": "yes"} if persistence == "aof" else {})
    daemon = make_daemon(redis_address=redis.address)
    with Load(rundir, redis, daemon) as load:
        load.stored(FIRST)
        if persistence == "rdb":
            redis.client().save()
        load.go_on()
        load.stored(FIRST + 1000)
        daemon.process.send(signal.SIGSTOP)  # so that nothing is sent again before it is counted
        redis.kill()
        redis.start()
        back_to = stored_count(redis)
        daemon.process.send(signal.SIGCONT)
        load.check()
    if persistence == "rdb":
        assert back_to == FIRST, "nothing was lost, so nothing had to be sent again"


def test_redis_is_emptied_and_gets_everything_again(
    rundir: Path, make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)
    with Load(rundir, redis, daemon) as load:
        load.go_on()
        load.promised(RECORDS)
        load.stored(RECORDS)
        redis.client().flushall()
        redis.kill()
        redis.start()
        load.check()
