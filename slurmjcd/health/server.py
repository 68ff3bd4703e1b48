# SPDX-License-Identifier: MIT
"""The HTTP server on loopback or a Unix socket: /healthz (the loop lives), /readyz (each part), /metrics, the page."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slurmjcd import __version__
from slurmjcd.health.metrics import Metrics
from slurmjcd.loopbackhttp import LoopbackHttp

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
_LOCAL_HOST: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\]|::1|)(:\d*)?", re.IGNORECASE | re.ASCII)

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
        self.http = LoopbackHttp("health", self._answer, connections=_CONNECTIONS, life_s=_LIFE_S)

    async def start(self, sock: socket.socket) -> None:
        await self.http.start(sock)

    async def close(self) -> None:
        await self.http.close()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        """The answer to any request, with our headers."""
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
        return response

    async def _healthz(self, request: web.BaseRequest) -> web.Response:
        return web.json_response({"alive": True, "version": __version__})

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        state = await self._readiness()
        return web.json_response(state, status=200 if state["ready"] else 503)

    async def _metrics_page(self, request: web.BaseRequest) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
