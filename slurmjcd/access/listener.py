# SPDX-License-Identifier: MIT
"""Accepts connections within a budget: of the loop's time, of descriptors, and of whoever decides who may come in.

The loop's own accept takes whatever comes and makes a transport of it, a hundred at a time; and where no descriptor is
left it closes everybody. Here a connection that is refused never becomes more than a descriptor and a line of text,
and a crowd at one socket can't take the loop's time, or the descriptors, that another socket needs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from collections.abc import Callable
from typing import Final

from slurmjcd.access.policy import Peer, credentials
from slurmjcd.backoff import Quiet

log = logging.getLogger(__name__)

_BURST: Final = 32  # connections in one round of the loop
_ELSE_SHARE: Final = 1  # for each second at the door, so many for everything else
_PAUSE_MIN_S: Final = 0.001
_NO_ROOM_PAUSE_S: Final = 0.2
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Admit = Callable[[Peer | None, int], bytes | None]
Door = Callable[[socket.socket], bytes | None]


class Listener:
    """Accepts on one socket.

    Args:
        factory: makes the protocol of a connection that was let in.
        admit: given who came (None when the kernel doesn't say, as on TCP) and how many were let in that the protocol
            has not heard of yet; returns what to tell somebody who is not let in, None to let them in.
        door: the same, given the connection; asked first.
        life_s: when a connection is cut, whatever it does; None for never.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        admit: Admit = lambda peer, opening: None,
        door: Door = lambda sock: None,
        life_s: float | None = None,
    ) -> None:
        self._name, self._socket, self._factory, self._admit = name, sock, factory, admit
        self._door = door
        self._life_s = life_s
        self._loop = asyncio.get_running_loop()
        self._quiet = Quiet()
        self._opening: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._closed = False
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._on_ready)

    def close(self) -> None:
        """Accept nobody any more; connections that were let in stay."""
        if self._closed:
            return
        self._closed = True
        if self._paused is not None:
            self._paused.cancel()
        else:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _on_ready(self) -> None:
        started, pause_s = time.perf_counter(), 0.0
        for _ in range(_BURST):
            try:
                sock, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as exc:
                if exc.errno not in _NO_ROOM:
                    raise
                pause_s = _NO_ROOM_PAUSE_S
                if self._quiet.allows("room"):
                    log.warning("%s: no room for another connection (%s), waiting", self._name, exc.strerror)
                break
            self._take(sock)
        took_s = time.perf_counter() - started
        self._pause(max(pause_s, _PAUSE_MIN_S, took_s * _ELSE_SHARE))

    def _take(self, sock: socket.socket) -> None:
        """Let it in, or tell it why not."""
        peer = credentials(sock) if sock.family == socket.AF_UNIX else None
        refusal = self._door(sock) or self._admit(peer, len(self._opening))
        if refusal is None:
            task = self._loop.create_task(self._open(sock))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            return
        sock.setblocking(False)
        try:
            sock.send(refusal)
        except OSError:
            pass  # it is gone already
        sock.close()

    async def _open(self, sock: socket.socket) -> None:
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._factory, sock)
        except OSError as exc:
            sock.close()
            log.debug("%s: a connection could not be opened: %s", self._name, exc)
            return
        if self._life_s is not None:
            self._loop.call_later(self._life_s, transport.abort)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._paused = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        self._loop.add_reader(self._socket.fileno(), self._on_ready)


def descriptors() -> int:
    """How many descriptors this process may have; the soft limit is raised as far as that goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as exc:
            log.debug("the limit of descriptors stays at %d: %s", soft, exc)
    return soft if soft != resource.RLIM_INFINITY else 2**31
