# SPDX-License-Identifier: MIT
"""An interrupted demo leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT, wait_until


def processes_that_name(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running(number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "scripts/demo.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert demo.stdout is not None
    first = next(line for line in demo.stdout if "below" in line)
    directory = Path(first.split()[-1])
    assert next(line for line in demo.stdout if "submitting" in line)
    assert len(processes_that_name(str(directory))) >= 6
    os.killpg(demo.pid, number)
    demo.communicate(timeout=60)
    if number == signal.SIGKILL:
        # it can't tidy up, but the kernel tells what it had started to stop
        wait_until(lambda: not processes_that_name(str(directory)), what="all processes to end")
        subprocess.run(["rm", "-rf", directory, Path("/dev/shm") / directory.name], check=True)
    else:
        assert demo.returncode == 130
        assert processes_that_name(str(directory)) == []
        assert not directory.exists()
        assert not (Path("/dev/shm") / directory.name).exists()
