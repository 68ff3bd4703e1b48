# SPDX-License-Identifier: MIT
"""Debian's other completion plugins over the reference jobs: jobcomp/filetxt, and jobcomp/mysql over a MariaDB."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import mariadb
from bench.mariadb import DATABASE, MariaDB
from bench.sacct_site import Site
from bench.store import WRITE_JOBS
from tests.harness.slurm_conf import slurm_plugin_dir

NAMES: Final = ("filetxt", "mysql")


def missing(name: str) -> str | None:
    """Why this peer can't be measured here; None when it can."""
    if not (slurm_plugin_dir() / f"jobcomp_{name}.so").exists():
        return f"jobcomp_{name}.so is not installed"
    return mariadb.missing() if name == "mysql" else None


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
        site = _site(name, directory, DATABASE, **server.env)
        site.sacct()  # makes the table
        _load(server, directory, jobs)
        yield site
    finally:
        server.process.stop()


def _site(name: str, directory: Path, location: str, **env: str) -> Site:
    """Noting when the rows were handed over costs nothing, so the same run gives both figures."""
    plugin = slurm_plugin_dir() / f"jobcomp_{name}.so"
    return Site(directory / "slurm", plugin, f"jobcomp/{name}", location, floor=True, env=env)


def _load(server: MariaDB, directory: Path, jobs: int) -> None:
    """The reference jobs into the table that the plugin has made."""
    rows = directory / "jobcomp.tsv"
    with rows.open("wb") as out:
        subprocess.run([str(WRITE_JOBS), str(jobs), "mysql"], stdout=out, check=True)
    server.sql(f"load data infile '{rows}' into table jobcomp_table", DATABASE)
    rows.unlink()
