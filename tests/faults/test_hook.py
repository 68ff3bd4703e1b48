# SPDX-License-Identifier: MIT
"""The thread of slurmctld that calls the hook makes no system call but a wake-up, whatever is broken."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.world import World
from tests.harness import wait_until

CALLS = 4000
# the driver's own, between calls: the log of promises, its clock and its pause
DRIVERS_OWN = {"clock_nanosleep", "restart_syscall", "clock_gettime"}


def healthy(world: World) -> None:
    """Nothing is broken."""


def daemon_absent(world: World) -> None:
    world.daemon.stop()


def daemon_stopped(world: World) -> None:
    world.daemon.process.send(signal.SIGSTOP)


def redis_stopped(world: World) -> None:
    world.redis.process.send(signal.SIGSTOP)


@pytest.mark.parametrize(
    "fault",
    [healthy, daemon_absent, pytest.param(daemon_stopped, marks=pytest.mark.faults_fast), redis_stopped],
)
@pytest.mark.parametrize("params", ["ring_mib=8", "ring_mib=1,spill_mib=0"], ids=["room", "full"])
def test_the_calling_thread_makes_no_system_call_but_a_wake_up(
    make_world: Callable[..., World], rundir: Path, fault: Callable[[World], None], params: str
) -> None:
    """strace sees every system call of that thread between the first call's promise and the last one's."""
    world = make_world(params=params)
    fault(world)
    trace = rundir / "trace"
    # -D: our child is the driver, which is what we kill; strace ends with it
    wrap = ("strace", "-D", "-ff", "-y", "-qq", "-s", "40", "-o", str(trace))
    process = world.driver.start(CALLS, rate=2000, wrap=wrap)
    world.driver.wait_reported(process)
    world.driver.stop()
    found = calls_between_promises(rundir)
    assert found.pop("promise") > 1000, "strace saw no calls"
    found.pop("wake", None)
    assert not found, f"the hook's thread made system calls: {found}"


def calls_between_promises(directory: Path) -> Counter[str]:
    """System calls of the thread that writes promises, from its first promise to its last one."""
    for path in directory.glob("trace.*"):
        lines = path.read_text(errors="replace").splitlines()
        marks = [number for number, line in enumerate(lines) if line.startswith("write(") and "/promised." in line]
        if marks:
            break
    else:
        raise AssertionError("no thread wrote promises")
    found: Counter[str] = Counter()
    for line in lines[marks[0] : marks[-1] + 1]:
        name = line.split("(")[0]
        if name == "write" and "/promised." in line:
            found["promise"] += 1
        elif name == "write" and re.match(r"write\(\d+<anon_inode:\[eventfd\]>", line):
            found["wake"] += 1
        elif name not in DRIVERS_OWN and not line.startswith(("---", "+++")):
            found[line[:80]] += 1
    return found


@pytest.mark.faults_fast
def test_init_succeeds_and_is_quick_while_the_daemon_is_stopped_or_its_directory_missing(
    make_world: Callable[..., World], rundir: Path
) -> None:
    """init and set_location answer for slurmctld's start: they must never fail."""
    world = make_world()
    world.daemon.process.send(signal.SIGSTOP)
    process = world.driver.start(10)
    wait_until(lambda: world.driver.calls == 10, what="calls with a stopped daemon", timeout_s=5)
    process.kill()
    world.driver.loc = rundir / "missing"
    process = world.driver.start(10)
    wait_until(lambda: world.driver.calls == 20, what="calls without a directory", timeout_s=5)
    process.kill()
    world.driver.loc = world.daemon.run_dir
    world.check()
