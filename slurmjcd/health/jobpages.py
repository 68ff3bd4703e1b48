# SPDX-License-Identifier: MIT
"""Search and reports for the status page, behind a token: /api/token, /api/jobs and /api/report.

Whoever has the token sees all jobs, as an operator does, and each question is logged. It comes in the Authorization
header only, so no address, history or log of a proxy has it, and a page of another site can't send it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click
from aiohttp import web

from slurmjcd import __version__
from slurmjcd.access.lookups import Lookups
from slurmjcd.backoff import Quiet
from slurmjcd.client import jsonform, report
from slurmjcd.client.flags import SELECTING
from slurmjcd.client.jobs import latest
from slurmjcd.client.selection import Selection, select
from slurmjcd.config.checks import read_secret, secret_path
from slurmjcd.criteria import Criteria
from slurmjcd.errors import ConfigError, ProtocolError, Refused, StoreError
from slurmjcd.query import fanout
from slurmjcd.query.sources import Source, shard_sources
from slurmjcd.record import decode

if TYPE_CHECKING:
    from slurmjcd.config.settings import Config
    from slurmjcd.daemon import Daemon
    from slurmjcd.health.server import Page

log = logging.getLogger(__name__)

_TOKEN: Final = re.compile(r"[\x21-\x7e]{20,256}", re.ASCII)
_ROWS: Final = 100
_ROWS_MAX: Final = 500
_SCAN_MAX: Final = 50_000  # runs that are read to find the newest
_PAGE_ROWS: Final = 2000
_ANSWER_S: Final = 8.0  # less than a connection lasts
_AT_A_TIME: Final = 2
_SHOWN_BYTES: Final = 200  # of a question in the log
_LONG_S: Final = 8 * 86_400  # of windows that are longer, days are counted before hours
_SPANS_S: Final = {"day": 86_400, "hour": 3600}
# sacct's flags that select, as slurmjc names them; the rest of a question
_SELECTING: Final = frozenset(
    names[1 if len(names) > 1 else 0].removeprefix("--").replace("-", "_") for names, _ in SELECTING
) - {"allusers", "associations"}
_JOBS: Final = frozenset({"limit", "duplicates"})
_REPORT: Final = frozenset({"limit", "by"})


class _Wrong(Exception):
    """A question that can't be answered: what to tell who asked."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def page_token(config: Config) -> str | None:
    """The token of health.token_file, or of systemd's credential `page-token`; None: there is none.

    Raises:
        ConfigError: it can't be read, or is none that a header can carry, or one that could be guessed.
    """
    path = secret_path(config.health.token_file, "page-token")
    if path is None:
        return None
    token = read_secret("health.token_file", path)
    if not _TOKEN.fullmatch(token):
        make = f"head -c 24 /dev/urandom | base64 > {path}"
        raise ConfigError(f"health.token_file: {path} must hold 20 to 256 characters of ASCII, no blanks: {make}")
    return token


class JobPages:
    """The pages by their paths; without a token each says that it is off."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._shards = shard_sources(daemon.store, lambda: daemon.config.query)
        self._digest: bytes | None = None
        self._lookups = Lookups()
        self._room = asyncio.Semaphore(_AT_A_TIME)
        self._quiet = Quiet()
        self.pages: dict[str, Page] = {
            "/api/token": self._token, "/api/jobs": self._search, "/api/report": self._report,
        }  # fmt: skip

    @property
    def on(self) -> bool:
        return self._digest is not None

    def set_token(self, token: str | None) -> None:
        """The token from now on; None: off."""
        self._digest = _digest(token) if token is not None else None

    # ---- pages ---------------------------------------------------------------------------------------------------

    async def _token(self, request: web.BaseRequest) -> web.Response:
        """Whether this is the token."""
        return self._refusal(request) or web.json_response({"token": True})

    async def _search(self, request: web.BaseRequest) -> web.Response:
        """The newest jobs that match, newest first: schema slurmjc.jobs/1, without `extra`."""
        return await self._answered(request, self._jobs)

    async def _report(self, request: web.BaseRequest) -> web.Response:
        """Groups of jobs: schema slurmjc.report/1."""
        return await self._answered(request, self._groups)

    async def _answered(self, request: web.BaseRequest, ask: Any) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        asked = request.path_qs.encode("utf-8", "replace")[:_SHOWN_BYTES].decode("utf-8", "replace")
        log.info("page: a token's holder sees jobs of all users: %s", asked)
        try:
            async with asyncio.timeout(_ANSWER_S), self._room:
                document = await ask(request)
        except _Wrong as exc:
            return _error(exc.status, str(exc))
        except (click.UsageError, Refused) as exc:
            return _error(400, exc.message if isinstance(exc, click.UsageError) else str(exc))
        except (StoreError, TimeoutError) as exc:
            return _error(503, str(exc) or f"no answer within {_ANSWER_S:g} s, narrow the question")
        text = json.dumps(document).encode("utf-8", "replace")
        return web.Response(body=text, content_type="application/json", charset="utf-8")

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        """What to tell somebody without the token; None to somebody who has it."""
        if self._digest is None:
            return _error(403, "search and reports are off: health.token_file names no token")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = _digest(token.strip()) if scheme.lower() == "bearer" else b""
        if hmac.compare_digest(given, self._digest):
            return None
        if scheme and self._quiet.allows("token"):
            log.warning("page: somebody came with a wrong token")
        response = _error(401, "the wrong token" if scheme else "send the token as 'Authorization: Bearer <token>'")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    # ---- answers -------------------------------------------------------------------------------------------------

    async def _jobs(self, request: web.BaseRequest) -> dict[str, Any]:
        options, selection, limit = await self._understood(request, _JOBS)
        runs, begin = await self._newest_from(selection, limit)
        found = await self._last_runs(_with_start(selection, begin), limit)
        try:
            jobs = [decode(record) for record in found]
        except ProtocolError as exc:
            raise StoreError(f"Redis holds what is no record: {exc}") from exc
        if options.get("duplicates") != "1":
            jobs = latest(jobs)
        return {
            "schema": jsonform.SCHEMA,
            "meta": {
                "window": _window(selection), "server": f"slurmjcd/{__version__}", "sees": "all",
                "truncated": runs > len(found), "runs": runs,
            },
            "jobs": [_without_extra(jsonform.job_object(job)) for job in reversed(jobs)],
        }  # fmt: skip

    async def _groups(self, request: web.BaseRequest) -> dict[str, Any]:
        options, selection, limit = await self._understood(request, _REPORT)
        fields = tuple(options.get("by", "user").lower().split(","))
        if not set(fields) <= set(report.FIELDS) or len(fields) > 2:
            raise _Wrong(400, f"by takes one or two of {', '.join(report.FIELDS)}")
        groups = await self._counted(fields, selection)
        report.in_order(fields, groups)
        kept = report.most(groups, limit)
        return report.document(fields, kept, selection, sees="all", left_out=len(groups) - len(kept))

    async def _understood(
        self, request: web.BaseRequest, others: frozenset[str]
    ) -> tuple[dict[str, str], Selection, int]:
        """What is asked: options, which jobs, and how many rows."""
        why = self._daemon.shipper.why_incomplete() if self._daemon.shipper is not None else None
        if why is not None:
            raise _Wrong(503, why)
        options: dict[str, str] = {}
        for name, value in request.query.items():
            if name not in _SELECTING | others:
                known = ", ".join(sorted(_SELECTING | others))
                raise _Wrong(400, f"unknown option '{name[:40]}', expected {known}")
            if value:
                options[name] = f"{options[name]},{value}" if name in options else value
        limit = options.get("limit", str(_ROWS))
        if not limit.isdecimal() or not 0 < int(limit) <= _ROWS_MAX:
            raise _Wrong(400, f"limit takes a number from 1 to {_ROWS_MAX}")
        given = {name: options.get(name) for name in _SELECTING}
        # users are looked up, which may take as long as a directory server likes
        selection = await self._lookups.run(select, {**given, "allusers": True, "associations": None})
        return options, selection, int(limit)

    async def _newest_from(self, selection: Selection, limit: int) -> tuple[int, int]:
        """How many runs match, and since when the newest `limit` of them ended, to the day or hour.

        Rows come oldest first; so Redis counts them before they are read.
        """
        runs, begin = 0, selection.start
        window_s = (selection.end or time.time()) - begin
        for unit in ("day", "hour") if window_s > _LONG_S else ("hour",):
            groups = await self._counted((unit,), _with_start(selection, begin))
            runs = runs or sum(group.jobs for group in groups)
            newest = sorted((group for group in groups if group.key[0] is not None), key=lambda group: -_epoch(group))
            so_far = 0
            for group in newest:
                so_far += group.jobs
                if so_far >= limit:
                    begin = max(begin, _epoch(group))
                    break
            if so_far <= _SCAN_MAX:
                return runs, begin
        raise _Wrong(400, f"more than {_SCAN_MAX:,} jobs ended within one hour: narrow the question")

    async def _counted(self, fields: tuple[str, ...], selection: Selection) -> list[report.Group]:
        asked = _criteria(selection)
        rows = await fanout.groups(self._sources(asked), [field.encode() for field in fields], asked)
        try:
            return report.groups(fields, rows)
        except (TypeError, ValueError) as exc:
            raise StoreError(f"Redis sent what is no answer to SLURMJC.AGG: {exc}") from exc

    async def _last_runs(self, selection: Selection, limit: int) -> list[bytes]:
        """The records of the last `limit` runs, oldest first."""
        kept: deque[bytes] = deque(maxlen=limit)
        forget = self._daemon.query.forget if self._daemon.query is not None else None
        asked = _criteria(selection)
        opened = await fanout.match(self._sources(asked), asked, forget)
        try:
            async for page in fanout.records(opened, _PAGE_ROWS):
                kept.extend(page)
        except BaseException:
            if opened is not None and forget is not None:
                forget(opened)
            raise
        if sum(map(len, kept)) > self._daemon.config.query.answer_bytes:
            raise _Wrong(400, "the records are too large for one answer: set a smaller limit")
        return list(kept)

    def _sources(self, asked: Criteria) -> Sequence[Source]:
        """All that may hold such jobs; a daemon without query.sock knows the shards."""
        daemon = self._daemon
        return daemon.query.sources_for(asked) if daemon.query is not None else self._shards


def _digest(token: str) -> bytes:
    """Of equal length for all tokens, so that a comparison tells nothing of theirs."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _criteria(selection: Selection) -> Criteria:
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in selection.criteria]


def _with_start(selection: Selection, start: int) -> Selection:
    """The same question about what ended since then."""
    others = [(name, value) for name, value in selection.criteria if name != "start"]
    return Selection([*others, ("start", str(max(0, start)))], start, selection.end, selection.chosen)


def _window(selection: Selection) -> dict[str, int | None]:
    return {"start": selection.start or None, "end": selection.end}


def _epoch(group: report.Group) -> int:
    return int(group.key[0] or 0)


def _without_extra(job: dict[str, Any]) -> dict[str, Any]:
    """Scripts and comments may be long, and nobody reads them in a list."""
    job["extra"] = {}
    return job
