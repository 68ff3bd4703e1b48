# SPDX-License-Identifier: MIT
"""The HTTP server on loopback or a Unix socket: /healthz (the loop lives), /readyz (each part), /metrics, the page."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slurmjcd import __version__
from slurmjcd.backoff import Quiet
from slurmjcd.errors import ConfigError
from slurmjcd.listener import Listener
from slurmjcd.metrics import Metrics

log = logging.getLogger(__name__)

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CONNECTIONS: Final = 32
_LIFE_S: Final = 10.0  # of a connection: one request, one answer
_LINE_MAX: Final = 4096
_HEADERS_MAX: Final = 64
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LOCAL_HOST: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\]|::1|)(:\d*)?", re.IGNORECASE | re.ASCII)
_SHOWN: Final = 100  # of a parser's complaint

Readiness = Callable[[], Awaitable[dict[str, Any]]]
Page = Callable[[web.BaseRequest], Awaitable[web.Response]]


class HealthServer:
    """The HTTP server.

    Args:
        readiness: gives {"ready": bool, "status": …, "components": {…}}.
        pages: further ones, by path; a Content-Security-Policy of their own stays.
    """

    def __init__(
        self,
        metrics: Metrics,
        readiness: Readiness,
        refresh: Callable[[], None],
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        self._metrics, self._readiness, self._refresh = metrics, readiness, refresh
        own = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics_page}
        self._pages: dict[str, Page] = {**(pages or {}), **own}
        self._runner: web.ServerRunner | None = None
        self._listener: Listener | None = None

    def runner(self) -> web.ServerRunner:
        """What parses requests and answers them, without a socket.

        No web.Application: three paths need no router, and it answers Expect headers before anybody can look.
        """
        logger = logging.Logger(f"{__name__}.http")  # of its own, so that its filter goes with it
        logger.parent = log
        logger.addFilter(QuietBadRequests("health"))
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
            return None if len(server.connections) + opening < _CONNECTIONS else _BUSY

        self._listener = Listener("health", sock, server, admit=admit, life_s=_LIFE_S)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        """The answer to any request, with our headers and as the connection's last."""
        handler = self._pages.get(request.path)
        if not _LOCAL_HOST.fullmatch(request.headers.get("Host", "")):
            # a browser that was lured here sends another name
            response = web.Response(status=421, text="slurmjcd answers to localhost only\n")
        elif handler is None:
            response = web.Response(status=404, text="404 Not Found\n")
        elif request.method not in ("GET", "HEAD"):
            response = web.Response(status=405, text="405 Method Not Allowed\n", headers={"Allow": "GET, HEAD"})
        else:
            response = await handler(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.force_close()
        return response

    async def _healthz(self, request: web.BaseRequest) -> web.Response:
        return web.json_response({"alive": True, "version": __version__})

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        state = await self._readiness()
        return web.json_response(state, status=200 if state["ready"] else 503)

    async def _metrics_page(self, request: web.BaseRequest) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class QuietBadRequests(logging.Filter):
    """Makes one line a minute of what aiohttp has a traceback for each time: anybody on this host may send bytes."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._quiet = Quiet()

    def filter(self, record: logging.LogRecord) -> bool:
        exc = record.exc_info[1] if record.exc_info else None
        if not isinstance(exc, HttpProcessingError):
            return True
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
        record.msg = "%s: bytes that are no HTTP request: %s"
        record.args = (self._endpoint, exc.message[:_SHOWN])
        return self._quiet.allows("request")


def tcp_socket(listen: str, setting: str = "health.listen") -> socket.socket:
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
