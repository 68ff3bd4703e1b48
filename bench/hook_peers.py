# SPDX-License-Identifier: MIT
"""The completion plugins that Debian has, each as cheap as it can be set up, in a driver of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import mariadb
from bench.pipeline import Caller
from tests.harness.ports import free_ports
from tests.harness.slurm_conf import slurm_plugin_dir

NAMES: Final = ("none", "lua", "filetxt", "script", "elasticsearch", "mysql")

_LUA: Final = "function slurm_jobcomp_log_record(rec)\n    return slurm.SUCCESS\nend\n"
_SCRIPT: Final = "#!/bin/sh\nexit 0\n"


def missing(name: str, plugins: Path | None = None) -> str | None:
    """Why this peer can't be measured here; None when it can.

    Args:
        plugins: the directory to look in, instead of the installed Slurm's.
    """
    if not _plugin(name, plugins).exists():
        return "not installed"
    return mariadb.missing() if name == "mysql" else None


def _plugin(name: str, plugins: Path | None = None) -> Path:
    return (plugins or slurm_plugin_dir()) / f"jobcomp_{name}.so"


@contextmanager
def running(name: str, directory: Path, *options: str, jobs: int) -> Iterator[Caller]:
    """The peer in a driver that takes commands, for as long as the context lasts.

    It ends without `fini`: jobcomp/script would first start a process for each job that waits.
    """
    directory.mkdir()
    server = mariadb.MariaDB(directory) if name == "mysql" else None
    try:
        if server is not None:
            server.start()
        location = _location(name, directory)
        env = server.env if server is not None else {}
        caller = Caller(directory, name, _plugin(name), location, "--no-fini", *options, jobs=jobs, env=env)
        try:
            yield caller
        finally:
            caller.process.kill()
            caller.stop()
    finally:
        if server is not None:
            server.process.stop()


def _location(name: str, directory: Path) -> str:
    """JobCompLoc, and the files that it names."""
    match name:
        case "lua":
            (directory / "jobcomp.lua").write_text(_LUA)
        case "filetxt":
            return str(directory / "jobcomp.txt")
        case "script":
            script = directory / "script"
            script.write_text(_SCRIPT)
            script.chmod(0o755)
            return str(script)
        case "elasticsearch":
            return f"http://127.0.0.1:{free_ports(1)[0]}/slurm/_doc"  # nobody listens there
        case "mysql":
            return mariadb.DATABASE
    return ""
