# SPDX-License-Identifier: MIT
"""An import of history whose days are in files already: each run once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.harness import RedisServer
from tests.harness.paths import ENGINE, program
from tests.slurmjcd.cold.conftest import Store, write_files
from tests.slurmjcd.importing.test_filetxt import line

COUNT = 400


def summary(server: RedisServer, directory: Path, *words: str) -> dict[str, Any]:
    conf = directory / "slurmjcd.toml"
    conf.write_text(
        f'[daemon]\nstate_dir = "{directory}"\n[redis]\naddress = "unix:{server.socket}"\nbatch_records = 150\n'
        f'[cold]\ndir = "{directory / "files"}"\nengine = "{ENGINE}"\n'
    )
    command = [program("slurmjc"), "import", "--config", conf, "--timezone", "UTC", "--cluster", "c1", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=directory)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if value and name != "schema"}


def test_a_run_in_a_file_is_not_imported_again(store: Store, server: RedisServer, tmp_path: Path) -> None:
    """Reported with another submit time, as slurmdbd has it after a resize: to the store it would be another run."""
    files = tmp_path / "files"
    files.mkdir()
    log = "".join(line(JobId=str(number)) + "\n" for number in range(1, COUNT + 1))
    (tmp_path / "first").write_text(log)
    (files / ".slurmjcd").write_text("mark\n")
    assert summary(server, tmp_path, "first") == {"read": COUNT, "stored": COUNT}
    there = [record | {"submit": record["submit"] - 7} for record in store.find() if record["job_id"] % 4]
    write_files(files, there)
    store.client.flushall()
    (tmp_path / "again").write_text(log + "\n")
    assert summary(server, tmp_path, "again") == {
        "read": COUNT, "stored": COUNT - len(there), "already_there": len(there)
    }  # fmt: skip
    assert store.ids() == [number for number in range(1, COUNT + 1) if number % 4 == 0]
