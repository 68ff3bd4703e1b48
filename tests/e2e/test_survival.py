# SPDX-License-Identifier: MIT
"""Whatever dies, each record is there in the end, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Daemon, RedisServer, wait_until
from tests.harness.hook_driver import HookDriver, stored_sums
from tests.harness.stack import Stack

RECORDS = 10_000


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


def promised(driver: HookDriver, count: int) -> None:
    """Wait for so many calls of the hook."""
    wait_until(
        lambda: driver.promised().total() >= count,
        what=lambda: f"{count} calls of the hook, {driver.promised().total()} were made",
    )


def drive(rundir: Path, redis: RedisServer, daemon: Daemon, disturb: Callable[[HookDriver], None]) -> None:
    """Send RECORDS through the plugin, disturb meanwhile, and compare what was promised with what is stored."""
    driver = HookDriver(rundir / "hook", daemon.run_dir, f"--calls={RECORDS}", "--rate=2500", "--linger=60")
    driver.process.start()

    try:
        disturb(driver)
        promised(driver, RECORDS)
        wait_until(
            lambda: redis.answers() and stored_sums(redis).total() >= RECORDS,
            what=lambda: f"{RECORDS} records in Redis; /readyz: {daemon.get('/readyz')}",
            timeout_s=60,
        )
    finally:
        driver.process.kill()
    assert driver.promised().total() == RECORDS
    assert stored_sums(redis) == driver.promised()


def test_the_daemon_is_killed_while_records_come_in(
    rundir: Path, make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)

    def disturb(driver: HookDriver) -> None:
        for count in (1000, 4000, 7000):
            promised(driver, count)
            daemon.kill()
            daemon.start(ready=False)

    drive(rundir, redis, daemon, disturb)


@pytest.mark.parametrize("persistence", ["aof", "rdb"])
def test_redis_is_killed_while_records_come_in(
    rundir: Path,
    make_redis: Callable[..., RedisServer],
    make_daemon: Callable[..., Daemon],
    persistence: str,
) -> None:
    redis = make_redis(options={"appendonly": "yes"} if persistence == "aof" else {})
    daemon = make_daemon(redis_address=redis.address)

    def disturb(driver: HookDriver) -> None:
        promised(driver, 2000)
        if persistence == "rdb":
            os.kill(driver.process.pid, signal.SIGSTOP)  # so that there is something left to lose
            redis.client().save()
            saved = stored_sums(redis).total()
            os.kill(driver.process.pid, signal.SIGCONT)
            wait_until(lambda: stored_sums(redis).total() > saved, what="records that aren't saved")
        promised(driver, 6000)
        before = stored_sums(redis).total()
        redis.kill()
        redis.start()
        if persistence == "rdb":
            assert stored_sums(redis).total() < before, "nothing was lost, so nothing had to be sent again"

    drive(rundir, redis, daemon, disturb)


def test_redis_is_emptied_and_gets_everything_again(
    rundir: Path, make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)

    def disturb(driver: HookDriver) -> None:
        promised(driver, RECORDS)
        wait_until(lambda: stored_sums(redis).total() == RECORDS, what="all records in Redis")
        redis.client().flushall()
        redis.kill()
        redis.start()

    drive(rundir, redis, daemon, disturb)
