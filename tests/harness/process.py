# SPDX-License-Identifier: MIT
"""One server process: started, watched, stopped by its process id."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.harness.waiting import scaled, wait_until


class Process:
    """A program in the foreground with its output in a log file.

    It runs in a session of its own, so that ^C reaches only us and we stop things in order, and gets SIGTERM
    from the kernel should we die ourselves.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.argv = ["setpriv", "--pdeathsig", "TERM"]
        if user is not None:
            self.argv += ["--reuid", user, "--regid", user, "--clear-groups"]
        self.argv += ["--", *map(str, argv)]
        self.name = Path(argv[0]).name
        self.log = log
        self.env = {**os.environ, **(env or {})}
        # a core file, should there be one, goes where everything else of the run is
        self.cwd = cwd or log.parent
        self._ended_by_us = False
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal, None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._ended_by_us = False
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )

    def wait_ready(self, ready: Callable[[], object], *, timeout_s: float = 20.0) -> None:
        """Wait for the condition, and fail at once, with the log's end, when the process ends first."""

        def check() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended with status {self.returncode}:\n{self.log_tail()}")
            return bool(ready())

        wait_until(
            check,
            what=lambda: f"{self.name} to be ready; its log ends:\n{self.log_tail()}",
            timeout_s=timeout_s,
        )

    def send(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._popen is not None:
            self._ended_by_us = True
            self._popen.kill()
            self._popen.wait()

    def stop(self, timeout_s: float = 15.0) -> int | None:
        """SIGTERM, then SIGKILL when that takes too long; returns the exit status, None if it never ran.

        Raises:
            RuntimeError: it had ended before, and nobody asked it to: a crash is never overlooked.
        """
        if self._popen is None:
            return None
        if self._popen.poll() is None:
            self._ended_by_us = True
            self._popen.send_signal(signal.SIGCONT)
            self._popen.terminate()
        elif not self._ended_by_us:
            self._ended_by_us = True
            raise RuntimeError(f"{self.name} had ended with status {self._popen.returncode}:\n{self.log_tail()}")
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 15.0) -> int:
        """Wait for its end, with SIGKILL when that takes too long; returns the exit status."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        self._ended_by_us = True
        try:
            return self._popen.wait(scaled(timeout_s))
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.wait()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])
