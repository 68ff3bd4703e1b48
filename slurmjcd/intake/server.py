# SPDX-License-Identifier: MIT
"""The HTTP endpoint for Slurm's own jobcomp/elasticsearch: `POST /intake/<cluster>[/<token>]`, one job each.

That plugin keeps a job until it is answered with 200 or 201 and brings it again every 30 s, so whatever is refused
here is not lost. It opens a connection for each job and has no time limit. Who may post: root and SlurmUser, as the
kernel says whose socket it is; with a token configured they must know that as well. JobCompLoc is readable by
everyone who can read slurm.conf, so a token alone would be no secret.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import socket
import time
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from slurmjcd.backoff import Quiet
from slurmjcd.config.checks import read_secret
from slurmjcd.errors import ConfigError, ProtocolError
from slurmjcd.ingest.committer import Committer
from slurmjcd.intake import tcppeer
from slurmjcd.intake.document import Document, read
from slurmjcd.intake.resizes import Resizes
from slurmjcd.loopbackhttp import LoopbackHttp

log = logging.getLogger(__name__)

SOURCE: Final = "intake"  # under which the spool counts what comes this way
_PATH: Final = re.compile(r"/intake/([A-Za-z0-9_.-]{1,64})(?:/([A-Za-z0-9_.~-]{1,256}))?", re.ASCII)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.~-]{1,256}", re.ASCII)
_CONNECTIONS: Final = 16
_LIFE_S: Final = 60.0  # of a connection: one job, one answer
_BODY_S: Final = 10.0  # until a body must have come whole
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Refused(Exception):
    """An answer that is not 201, with its status; the text is for whoever reads slurmctld's log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class IntakeServer:
    """Takes documents, has them committed to the spool as records, and answers only then.

    Args:
        allowed_uids: who may post.
        token: what the address must end with; None: nothing.
        body_bytes: one document, at most.
        resizes: what is remembered of jobs that were resized.
    """

    def __init__(
        self,
        committer: Committer,
        *,
        allowed_uids: frozenset[int],
        token: str | None,
        body_bytes: int,
        resizes: Resizes,
    ) -> None:
        self._committer, self._allowed_uids, self._token = committer, allowed_uids, token
        self._resizes = resizes
        self._body_bytes = body_bytes
        self._quiet = Quiet()
        self._stopping = False
        self._http = LoopbackHttp(
            "intake", self._answer, connections=_CONNECTIONS, life_s=_LIFE_S, expected=self._may_post
        )

    async def start(self, sock: socket.socket) -> None:
        """Serve that listening socket.

        Raises:
            ConfigError: nobody could be let in.
        """
        if not tcppeer.is_told():
            raise ConfigError(
                "intake.listen: the kernel doesn't say whose a TCP socket is, so nobody could be let in: "
                "load its module (modprobe tcp_diag), or set intake.listen = ''"
            )
        await self._http.start(sock)

    def stop(self) -> None:
        """Take nothing new; what waits for its commit is still answered."""
        self._stopping = True
        self._http.stop()

    async def close(self) -> None:
        self.stop()
        await self._http.close()

    def _may_post(self, sock: socket.socket) -> bool:
        """Whether it is theirs who may; they are asked again once they have said what they want."""
        try:
            return tcppeer.peer_uid(sock.getsockname(), sock.getpeername()) in self._allowed_uids
        except OSError:
            return False  # it is gone

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        """The answer to any request."""
        outcomes = self._committer.metrics.intake_documents
        try:
            document = await self._take(request)
        except Refused as refused:
            outcomes.labels("later" if refused.status == 503 else "refused").inc()
            response = _error(refused)
        else:
            outcomes.labels("taken" if document.record else "ignored").inc()
            result = {"result": "created" if document.record else "noop", "_id": str(document.job_id)}
            response = web.json_response(result, status=201)
        return response

    async def _take(self, request: web.BaseRequest) -> Document:
        cluster = self._authorized(request)
        body = await self._body(request)
        try:
            document = read(body, cluster, self._resizes, now=int(time.time()))
        except ProtocolError as exc:
            self._warn("document", "a document of cluster %s is refused: %s", cluster, exc)
            raise Refused(400, str(exc)) from exc
        if document.record is not None:
            self._resizes.save()
            await self._commit(document.record)
        return document

    def _authorized(self, request: web.BaseRequest) -> str:
        """The cluster's name.

        Raises:
            Refused: the address is none of ours, or whoever asks may not post.
        """
        found = _PATH.fullmatch(request.path)
        uid = _uid_of(request)
        if uid not in self._allowed_uids:
            self._warn(f"uid {uid}", "refused a document of uid %s", "unknown" if uid is None else uid)
            raise Refused(403, "only root and SlurmUser of this host may post jobs")
        if found is None:
            raise Refused(404, "jobs are posted to /intake/<cluster>: set JobCompLoc so")
        if request.method != "POST":
            raise Refused(405, "jobs are posted")
        if self._token is not None and not hmac.compare_digest(self._token, found[2] or ""):
            self._warn("token", "refused a document with a wrong token")
            raise Refused(403, "the token in the address is wrong: JobCompLoc must end with /intake/<cluster>/<token>")
        return found[1].lower()  # as slurmctld has it, whatever slurm.conf says

    async def _body(self, request: web.BaseRequest) -> bytes:
        if request.content_length is None or request.content_length > self._body_bytes:
            size = "of unknown size" if request.content_length is None else f"of {request.content_length} bytes"
            self._warn("size", "a document %s is refused, intake.body_bytes is %d", size, self._body_bytes)
            raise Refused(413, f"a document may have {self._body_bytes} bytes, this one is {size}")
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(_CONTINUE)
        try:
            async with asyncio.timeout(_BODY_S):
                return await request.content.readexactly(request.content_length)
        except (TimeoutError, asyncio.IncompleteReadError, HttpProcessingError, web.RequestPayloadError) as exc:
            raise Refused(408, "the document did not come whole") from exc

    async def _commit(self, record: bytes) -> None:
        """Put one record into the spool.

        Raises:
            Refused: it is not there; the plugin brings it again.
        """
        if self._stopping:
            raise Refused(503, "slurmjcd is stopping")
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(reply: bytes) -> None:
            if not answered.done():  # whoever waited may be gone
                answered.set_result(reply)

        self._committer.put_next(SOURCE, [record], answer)
        reply = await answered
        if reply.startswith(b"-"):
            raise Refused(503, reply[1:].decode().strip())

    def _warn(self, kind: str, text: str, *args: object) -> None:
        """One line a minute of each kind: anybody on this host may post."""
        if self._quiet.allows(kind):
            log.warning(f"intake: {text}", *args)


def read_token(path: Path) -> str:
    """The token in that file.

    Raises:
        ConfigError: it can't be read, or can't stand in an address.
    """
    token = read_secret("intake.token_file", path)
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"intake.token_file: {path} must hold 1 to 256 of A-Z a-z 0-9 _ . ~ - and nothing else")
    return token


def _uid_of(request: web.BaseRequest) -> int | None:
    """Whose socket is at the other end; None when that can't be known."""
    transport = request.transport
    if transport is None:
        return None
    return tcppeer.peer_uid(transport.get_extra_info("sockname"), transport.get_extra_info("peername"))


def _error(refused: Refused) -> web.Response:
    """As Elasticsearch puts it."""
    return web.json_response(
        {"error": {"type": "refused", "reason": str(refused)}, "status": refused.status}, status=refused.status
    )
