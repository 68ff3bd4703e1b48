# SPDX-License-Identifier: MIT
"""An HTTP server for this host only: one request and one answer a connection, and bounds on all of it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from slurmjcd.access.listener import Listener
from slurmjcd.backoff import Quiet
from slurmjcd.errors import ConfigError

log = logging.getLogger(__name__)

_LINE_MAX: Final = 4096
_HEADERS_MAX: Final = 64
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_SHOWN: Final = 100  # of a parser's complaint


class LoopbackHttp:
    """Parses requests, has them answered, closes.

    Args:
        name: of the endpoint, in the log.
        answer: gives the answer to any request.
        connections: at a time; who comes then is told 503.
        life_s: when a connection is cut, whatever it does.
        expected: whether a connection is of somebody who has business here; others have a quarter of the connections.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[web.BaseRequest], Awaitable[web.Response]],
        *,
        connections: int,
        life_s: float,
        expected: Callable[[socket.socket], bool] = lambda sock: True,
    ) -> None:
        self._name, self._handler = name, answer
        self._connections, self._life_s = connections, life_s
        self._expected = expected
        self._strangers: list[socket.socket] = []
        self._runner: web.ServerRunner | None = None
        self._listener: Listener | None = None

    def runner(self) -> web.ServerRunner:
        """What parses requests and answers them, without a socket.

        No web.Application: a few paths need no router, and it answers Expect headers before anybody can look.
        """
        logger = logging.Logger(f"{__name__}.{self._name}")  # of its own, so that its filter goes with it
        logger.parent = log
        logger.addFilter(_BadRequests(self._name))
        server = web.Server(
            self._answer, logger=logger, access_log=None, lingering_time=0,
            max_line_size=_LINE_MAX, max_field_size=_LINE_MAX, max_headers=_HEADERS_MAX,
        )  # fmt: skip
        return web.ServerRunner(server, handle_signals=False, shutdown_timeout=1)

    async def start(self, sock: socket.socket) -> None:
        self._runner = self.runner()
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # since setup

        def admit(_peer: object, opening: int) -> bytes | None:
            return None if len(server.connections) + opening < self._connections else _BUSY

        self._listener = Listener(self._name, sock, server, admit=admit, door=self._door, life_s=self._life_s)

    def _door(self, sock: socket.socket) -> bytes | None:
        """What to tell a stranger who is one too many."""
        if self._expected(sock):
            return None
        self._strangers = [stranger for stranger in self._strangers if stranger.fileno() >= 0]  # the others are gone
        if len(self._strangers) >= self._connections // 4:
            return _BUSY
        self._strangers.append(sock)
        return None

    def stop(self) -> None:
        """Accept nobody any more; who is connected is still answered."""
        if self._listener is not None:
            self._listener.close()

    async def close(self) -> None:
        self.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        response = await self._handler(request)
        response.force_close()
        return response


class _BadRequests(logging.Filter):
    """Makes one line a minute of what aiohttp has a traceback for each time: anybody on this host may send bytes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._quiet = Quiet()

    def filter(self, record: logging.LogRecord) -> bool:
        exc = record.exc_info[1] if record.exc_info else None
        if not isinstance(exc, HttpProcessingError):
            return True
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
        record.msg = "%s: bytes that are no HTTP request: %s"
        record.args = (self._name, exc.message[:_SHOWN])
        return self._quiet.allows("request")


def tcp_socket(listen: str, setting: str) -> socket.socket:
    """A listening socket for host:port; `setting` is where that was configured.

    Raises:
        ConfigError: it can't be had.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(64)
    except OSError as exc:
        sock.close()
        raise ConfigError(f"{setting}: {listen} can't be bound: {exc.strerror}: choose another port") from exc
    sock.setblocking(False)
    return sock
