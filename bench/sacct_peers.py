# SPDX-License-Identifier: MIT
"""Debian's other completion plugins over the reference jobs: jobcomp/filetxt, and jobcomp/mysql over a MariaDB."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.sacct_site import Site
from bench.store import WRITE_JOBS
from tests.harness.process import Process
from tests.harness.slurm_conf import slurm_plugin_dir

NAMES: Final = ("filetxt", "mysql")
_DATABASE: Final = "slurm_jobcomp_db"


def missing(name: str) -> str | None:
    """Why this peer can't be measured here; None when it can."""
    if not (slurm_plugin_dir() / f"jobcomp_{name}.so").exists():
        return f"jobcomp_{name}.so is not installed"
    if name == "mysql" and not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        return "mariadb-server is not installed"
    return None


@contextmanager
def running(name: str, directory: Path, jobs: int) -> Iterator[Site]:
    """The peer with the reference jobs in it, for as long as the context lasts."""
    directory.mkdir()
    if name == "filetxt":
        with (directory / "jobcomp.txt").open("wb") as out:
            subprocess.run([str(WRITE_JOBS), str(jobs), "filetxt"], stdout=out, check=True)
        yield _site(name, directory, str(directory / "jobcomp.txt"))
        return
    server = MariaDB(directory)
    server.start()
    try:
        site = _site(name, directory, _DATABASE, MYSQL_UNIX_PORT=str(server.socket))
        server.sql(f"create database {_DATABASE}")
        site.sacct()  # makes the table
        server.load(jobs)
        yield site
    finally:
        server.process.stop()


def _site(name: str, directory: Path, location: str, **env: str) -> Site:
    """Noting when the rows were handed over costs nothing, so the same run gives both figures."""
    plugin = slurm_plugin_dir() / f"jobcomp_{name}.so"
    return Site(directory / "slurm", plugin, f"jobcomp/{name}", location, floor=True, env=env)


class MariaDB:
    """A server of its own in a directory, reached by its socket only, with the settings it comes with."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "mysqld.sock"
        self._data = directory / "data"
        self._rows = directory / "jobcomp.tsv"
        program = shutil.which("mariadbd") or "mariadbd"
        self.process = Process(
            [program, "--no-defaults", f"--datadir={self._data}", "--user=root", f"--socket={self.socket}",
             "--skip-networking", "--innodb-buffer-pool-size=1G"],
            log=directory / "mariadbd.log",
        )  # fmt: skip

    def start(self) -> None:
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self._data}", "--user=root", "--skip-test-db",
             "--auth-root-authentication-method=normal"],
            capture_output=True, check=True,
        )  # fmt: skip
        self.process.start()
        self.process.wait_ready(self._answers, timeout_s=60)

    def _answers(self) -> bool:
        ping = ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "ping"]
        return subprocess.run(ping, capture_output=True, check=False).returncode == 0

    def sql(self, text: str, database: str = "") -> None:
        command = ["mariadb", "--no-defaults", "--user=root", f"--socket={self.socket}", "-e", text]
        subprocess.run([*command, *([database] if database else [])], capture_output=True, check=True)

    def load(self, jobs: int) -> None:
        """The reference jobs into the table that the plugin has made."""
        with self._rows.open("wb") as out:
            subprocess.run([str(WRITE_JOBS), str(jobs), "mysql"], stdout=out, check=True)
        self.sql(f"load data infile '{self._rows}' into table jobcomp_table", _DATABASE)
        self._rows.unlink()
