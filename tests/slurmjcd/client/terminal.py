# SPDX-License-Identifier: MIT
"""A program on a terminal of its own: what it draws, as a person would see it, and keys for it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyte

from tests.harness import scaled


class Terminal:
    """`screen()` are its lines. Leave it by `close()`, or as a context manager."""

    def __init__(self, argv: Sequence[str], *, columns: int = 80, lines: int = 24, env: Mapping[str, str] = {}) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = bytearray()  # all that came
        self._ours, self._theirs = pty.openpty()
        self._set_size(columns, lines)
        self.settings: list[Any] = termios.tcgetattr(self._theirs)
        plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            argv, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
            env={**plain, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC", **env},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # ^C of this terminal is for it
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """As when somebody pulls at the window."""
        self._screen.resize(lines, columns)
        self._set_size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def read(self, seconds: float = 0.05) -> None:
        """Draw what has come."""
        until = time.monotonic() + seconds
        while select.select([self._ours], [], [], max(0.0, until - time.monotonic()))[0]:
            data = os.read(self._ours, 65536)
            self.raw += data
            self._stream.feed(data)

    def screen(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    def text(self) -> str:
        return "\n".join(self.screen()).rstrip()

    def shows(self, text: str) -> str:
        """The screen, as soon as the text is on it."""
        until = time.monotonic() + scaled(20)
        while text not in self.text():
            assert time.monotonic() < until, f"no '{text}' on:\n{self.text()}"
            self.read()
        return self.text()

    def colours(self) -> set[str]:
        """Those on the screen."""
        cells = (cell for row in self._screen.buffer.values() for cell in row.values())
        return {cell.fg for cell in cells if cell.data.strip()} - {"default"}

    def wait(self) -> int:
        """The exit status; what came until then is drawn."""
        until = time.monotonic() + scaled(20)
        while self.process.poll() is None:
            assert time.monotonic() < until, f"it does not end:\n{self.text()}"
            self.read()
        self.read()
        return self.process.returncode

    def suspends_on(self) -> bytes:
        """The key that suspends now; NUL: none."""
        return bytes(termios.tcgetattr(self._theirs)[6][termios.VSUSP])

    def left_as_it_was(self) -> bool:
        """Whether modes are what they were, the cursor is seen, and the other screen was left."""
        entered, left = self.raw.rfind(b"\x1b[?1049h"), self.raw.rfind(b"\x1b[?1049l")
        hidden, seen = self.raw.rfind(b"\x1b[?25l"), self.raw.rfind(b"\x1b[?25h")
        return termios.tcgetattr(self._theirs) == self.settings and left >= entered and seen >= hidden
