# SPDX-License-Identifier: MIT
"""A MariaDB of its own for jobcomp/mysql."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.harness.process import Process

DATABASE: Final = "slurm_jobcomp_db"


def missing() -> str | None:
    """Why there can't be one here; None when there can."""
    if not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        return "mariadb-server is not installed"
    return None


class MariaDB:
    """A server in a directory, reached by its socket only, with the settings it comes with; the database is empty."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "mysqld.sock"
        self._data = directory / "data"
        program = shutil.which("mariadbd") or "mariadbd"
        self.process = Process(
            [program, "--no-defaults", f"--datadir={self._data}", "--user=root", f"--socket={self.socket}",
             "--skip-networking", "--innodb-buffer-pool-size=1G"],
            log=directory / "mariadbd.log",
        )  # fmt: skip

    @property
    def env(self) -> dict[str, str]:
        """What tells Slurm's plugin where it listens."""
        return {"MYSQL_UNIX_PORT": str(self.socket)}

    def start(self) -> None:
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self._data}", "--user=root", "--skip-test-db",
             "--auth-root-authentication-method=normal"],
            capture_output=True, check=True,
        )  # fmt: skip
        self.process.start()
        self.process.wait_ready(self._answers, timeout_s=60)
        self.sql(f"create database {DATABASE}")

    def _answers(self) -> bool:
        ping = ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "ping"]
        return subprocess.run(ping, capture_output=True, check=False).returncode == 0

    def sql(self, text: str, database: str = "") -> str:
        """Run it; returns the rows, without a head."""
        command = ["mariadb", "--no-defaults", "--user=root", f"--socket={self.socket}", "-N", "-e", text]
        done = subprocess.run(
            [*command, *([database] if database else [])], capture_output=True, text=True, check=True
        )  # fmt: skip
        return done.stdout
