# SPDX-License-Identifier: MIT
"""munged with a key and a socket of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tests.harness.process import Process


class Munge:
    """Authentication between Slurm's programs; `socket` goes into AuthInfo."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.socket = directory / "munge.sock"
        key = directory / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.process = Process(
            [
                "/usr/sbin/munged",
                "--foreground",
                f"--key-file={key}",
                f"--socket={self.socket}",
                f"--pid-file={directory / 'munged.pid'}",
                f"--log-file={directory / 'munged.syslog'}",
                f"--seed-file={directory / 'munge.seed'}",
                "--num-threads=4",
            ],
            log=directory / "munged.log",
        )

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(self.socket.exists)

    def stop(self) -> None:
        self.process.stop()
