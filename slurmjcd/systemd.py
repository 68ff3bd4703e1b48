# SPDX-License-Identifier: MIT
"""What systemd and the daemon tell each other: readiness, status, watchdog, sockets. Without systemd: nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Final

log = logging.getLogger(__name__)

_FIRST_FD: Final = 3


def take_listen_fds(env: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """The listening sockets systemd passed, by FileDescriptorName. The variables go: children must not see them."""
    pid, count = env.pop("LISTEN_PID", ""), env.pop("LISTEN_FDS", "")
    names = env.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    sockets = {}
    for index in range(int(count)):
        descriptor = _FIRST_FD + index
        os.set_inheritable(descriptor, False)
        name = names[index] if index < len(names) else "unknown"
        sockets[name] = socket.socket(fileno=descriptor)
    return sockets


class Notifier:
    """Sends sd_notify messages and keeps the watchdog fed."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        self._address = env.pop("NOTIFY_SOCKET", "")
        usec, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.watchdog_s = int(usec) / 1_000_000 if usec.isdigit() and mine else 0.0

    def send(self, **fields: str | int) -> None:
        """Send NAME=value lines; trouble is not worth more than a debug line."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode("utf-8", "replace"), address)
        except OSError as exc:
            log.debug("sd_notify: %s", exc)

    def ready(self, status: str) -> None:
        self.send(READY=1, STATUS=status)

    def status(self, text: str) -> None:
        self.send(STATUS=text)

    def reloading(self) -> None:
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self) -> None:
        self.send(STOPPING=1, STATUS="stopping")

    async def feed_watchdog(self, status: Callable[[], str]) -> None:
        """Tell systemd that the loop runs, three times in its interval, with a fresh status line."""
        interval_s = self.watchdog_s / 3 if self.watchdog_s else 10.0
        while True:
            self.send(WATCHDOG=1, STATUS=status())
            await asyncio.sleep(interval_s)
