# SPDX-License-Identifier: MIT
"""bench/hook's driver, told call by call what to do."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

from tests.harness.paths import CMAKE_BUILD, PLUGIN

if TYPE_CHECKING:
    from tests.cplugin.conftest import Site


class Driver:
    """One process that has the plugin loaded as slurmctld would; its log is in `log()`."""

    def __init__(self, site: Site, *, params: str = "ring_mib=1", first: int = 0, oracle: bool = True) -> None:
        self.log_path = site.log
        self._ring_dir = site.ring_dir
        argv = [
            CMAKE_BUILD / "bench" / "driver", "--commands", "--plugin", f"redis={PLUGIN}",
            "--loc", f"redis={site.sockets}", "--params", f"redis=ring_dir={site.ring_dir},{params}",
            "--state", site.state, "--first", str(first), "--jobs", "100000",
        ]  # fmt: skip
        if oracle:
            argv += ["--log", site.promises]
        with site.log.open("ab") as log:
            self._popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def ring_is_low(self) -> bool:
        """True when the ring is less than half full."""
        return self.ring_used() < 0.5

    def ring_used(self) -> float:
        """Which part of the ring is full, by the newer slot of each end (see cplugin/ring_layout.h)."""
        (path,) = self._ring_dir.glob("*.ring")
        header = path.read_bytes()[:4096]
        heads = [struct.unpack_from("<QQ", header, at) for at in (512, 552)]
        tails = [struct.unpack_from("<QQ", header, at) for at in (1024, 1096)]
        return (max(heads)[1] - max(tails)[1]) / (path.stat().st_size - 4096)

    def _ask(self, command: str) -> str:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(command + "\n")
        self._popen.stdin.flush()
        answer = self._popen.stdout.readline().strip()
        assert answer, self.log()
        return answer

    def call(self, n: int) -> tuple[int, int]:
        """Calls the hook n times; calls and failures so far."""
        calls, failed = map(int, self._ask(f"call {n}").split())
        return calls, failed

    def set_location(self, text: str) -> None:
        assert self._ask(f"location {text}") == "ok"

    def fini(self) -> None:
        assert self._ask("fini") == "ok"

    def init(self) -> None:
        assert self._ask("init") == "ok"

    def kill(self) -> None:
        """SIGKILL, and nothing is left of the process."""
        self._popen.kill()
        self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()

    def log(self) -> str:
        """What the plugin had to say."""
        return self.log_path.read_text(errors="replace")
