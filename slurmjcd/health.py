# SPDX-License-Identifier: MIT
"""/healthz (the loop lives), /readyz (each part, as JSON) and /metrics, on loopback or a Unix socket. No job data."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slurmjcd import __version__
from slurmjcd.errors import ConfigError
from slurmjcd.listener import Listener
from slurmjcd.metrics import Metrics

log = logging.getLogger(__name__)

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CONNECTIONS: Final = 32
_LIFE_S: Final = 10.0  # of a connection: one request, one answer
_LINE_MAX: Final = 4096
_HEADERS_MAX: Final = 64
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1", ""})

Readiness = Callable[[], Awaitable[dict[str, Any]]]


class HealthServer:
    """The HTTP server. `readiness` gives {"ready": bool, "status": …, "components": {…}}."""

    def __init__(self, metrics: Metrics, readiness: Readiness, refresh: Callable[[], None]) -> None:
        self._metrics, self._readiness, self._refresh = metrics, readiness, refresh
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None

    async def start(self, sock: socket.socket) -> None:
        app = web.Application(client_max_size=1024, middlewares=[_guard])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_page)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, lingering_time=0, shutdown_timeout=1,
            max_line_size=_LINE_MAX, max_field_size=_LINE_MAX, max_headers=_HEADERS_MAX,
        )  # fmt: skip
        await self._runner.setup()
        server = self._runner.server
        assert server is not None

        def admit(_peer: object, opening: int) -> bytes | None:
            return None if len(server.connections) + opening < _CONNECTIONS else _BUSY

        self._listener = Listener("health", sock, server, admit=admit, life_s=_LIFE_S)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True, "version": __version__})

    async def _readyz(self, request: web.Request) -> web.Response:
        state = await self._readiness()
        return web.json_response(state, status=200 if state["ready"] else 503)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Only our own names for this host (a browser that was lured here sends another), and headers on each answer."""
    host = request.headers.get("Host", "").rsplit(":", 1)[0] if "]" not in request.headers.get("Host", "") else "[::1]"
    if host.lower() not in _LOCAL_HOSTS:
        return web.Response(status=421, text="slurmjcd answers to localhost only\n", headers=_HEADERS)
    try:
        response = await handler(request)
    except web.HTTPException as exc:
        return web.Response(status=exc.status, text=f"{exc.status} {exc.reason}\n", headers=_HEADERS)
    response.headers.update(_HEADERS)
    response.force_close()
    return response


def tcp_socket(listen: str) -> socket.socket:
    """A listening socket for host:port.

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
        raise ConfigError(f"health.listen: {listen} can't be bound: {exc.strerror}: choose another port") from exc
    sock.setblocking(False)
    return sock
