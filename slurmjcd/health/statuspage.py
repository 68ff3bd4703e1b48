# SPDX-License-Identifier: MIT
"""The status page at / and what it is made of. Drawn here, so it shows the state without scripts, too; everything
that comes from elsewhere is escaped. No job data: that is jobpages.py, behind a token."""

from __future__ import annotations

import re
import socket
import string
import time
from collections.abc import Callable, Iterable
from html import escape
from importlib.resources import files
from typing import Any, Final

from aiohttp import web

from slurmjcd import __version__
from slurmjcd.health.observer import Observer
from slurmjcd.health.server import Page
from slurmjcd.health.stages import Fact, Stage, overall
from slurmjcd.health.troubles import Trouble
from slurmjcd.sizes import size, span

SCHEMA: Final = "slurmjcd.status/1"
_SHOWN: Final = 12  # troubles
_PAGE_HEADERS: Final = {
    # nothing from elsewhere, nothing inline, and scripts can't make markup out of text
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
}
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_CODE: Final = re.compile(r"`([^`]*)`")


class StatusPage:
    """The pages by their paths."""

    def __init__(self, observer: Observer, search_is_on: Callable[[], bool] = lambda: False) -> None:
        self._observer, self._search_is_on = observer, search_is_on
        folder = files("slurmjcd.health") / "page"
        self._template = string.Template((folder / "index.html").read_text("utf-8"))
        self._search = {
            on: (folder / f"search-{'on' if on else 'off'}.html").read_text("utf-8") for on in (True, False)
        }
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if _kind(file.name) in _TYPES}
        self.pages: dict[str, Page] = {"/": self._index, "/api/status": self._status, "/api/history": self._history}
        self.pages |= {f"/page/{name}": self._file for name in self._files}

    async def _index(self, request: web.BaseRequest) -> web.Response:
        observer, now = self._observer, time.time()
        observer.look()
        stages = observer.stages.now()
        level, text = overall(stages)
        body = self._template.substitute(
            title=escape(f"{text} · slurmjcd"),
            version=escape(__version__),
            host=escape(socket.gethostname()),
            time=_moment(now, now=None),
            level=level,
            overall=escape(text),
            stages="\n".join(map(_stage_row, stages)),
            search=self._search[self._search_is_on()],
            troubles=_trouble_list(observer.troubles.latest()[:_SHOWN], now=now, since=observer.started),
        )
        return web.Response(text=body, content_type="text/html", headers=_PAGE_HEADERS)

    async def _file(self, request: web.BaseRequest) -> web.Response:
        name = request.path.rpartition("/")[2]
        return web.Response(body=self._files[name], content_type=_TYPES[_kind(name)], charset="utf-8")

    async def _status(self, request: web.BaseRequest) -> web.Response:
        """What the page shows, for programs: schema slurmjcd.status/1, add-only; times are epoch seconds."""
        observer = self._observer
        observer.look()
        stages = observer.stages.now()
        level, text = overall(stages)
        document = {
            "schema": SCHEMA,
            "version": __version__,
            "time": time.time(),
            "level": level,
            "text": text,
            "stages": [_stage_object(stage) for stage in stages],
            "troubles": [
                {"start": trouble.start, "end": trouble.end} | _stage_object(trouble.stage, facts=False)
                for trouble in observer.troubles.latest()
            ],
        }
        return web.json_response(document)

    async def _history(self, request: web.BaseRequest) -> web.Response:
        """The rows to plot; `?after=<number>` leaves out those before that one."""
        after = request.query.get("after", "0")
        first = int(after) if after.isdecimal() else 0
        return web.json_response(self._observer.history.document(first))


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _stage_object(stage: Stage, *, facts: bool = True) -> dict[str, Any]:
    out: dict[str, Any] = {
        "key": stage.key, "name": stage.name, "level": stage.level, "text": stage.text, "kind": stage.kind or None,
        "advice": stage.advice or None,
    }  # fmt: skip
    if facts:
        out["facts"] = [{"label": fact.label, "value": fact.value, "unit": fact.unit} for fact in stage.facts]
    return out


def _stage_row(stage: Stage) -> str:
    advice = f'<p class="advice"><b>What to do:</b> {marked(stage.advice)}</p>' if stage.advice else ""
    facts = "".join(map(_fact_cell, stage.facts)) or '<td role="cell" colspan="3"></td>'
    # roles, because a table that is laid out otherwise on a phone is none any more to a screen reader
    return (
        f'<tr role="row"><th role="rowheader" scope="row">{escape(stage.name)}</th><td role="cell">{_sign(stage)}</td>'
        f'<td role="cell" class="says"><p>{escape(stage.text)}</p>{advice}</td>{facts}</tr>'
    )


def _sign(stage: Stage) -> str:
    return f'<span class="state {stage.level}"><span class="sign" aria-hidden="true"></span>{stage.word}</span>'


def _fact_cell(fact: Fact) -> str:
    return f'<td role="cell" class="fact"><b>{escape(_shown(fact))}</b> <span>{escape(fact.label)}</span></td>'


def _shown(fact: Fact) -> str:
    if fact.value is None:
        return "\N{EN DASH}"
    if isinstance(fact.value, str):
        return fact.value
    if fact.unit == "bytes":
        return size(fact.value)
    return span(fact.value) if fact.unit == "seconds" else f"{fact.value:,.0f}"


def _trouble_list(troubles: Iterable[Trouble], *, now: float, since: float) -> str:
    items = [_trouble_item(trouble, now) for trouble in troubles]
    if not items:
        return f'<p class="quiet">None since this daemon started, {_moment(since, now=now)}.</p>'
    return f'<ol class="troubles">{"".join(items)}</ol>'


def _trouble_item(trouble: Trouble, now: float) -> str:
    stage, end = trouble.stage, trouble.end
    lasted = span((now if end is None else end) - trouble.start)
    over = f"over after {lasted}" if end is not None else f"for {lasted} now"
    advice = f'<p class="advice">{marked(stage.advice)}</p>' if stage.advice else ""
    return (
        f'<li class="{"over" if end is not None else "lasts"}"><p class="when">{_moment(trouble.start, now=now)}'
        f' <span class="quiet">{over}</span></p>'
        f"<p>{_sign(stage)}</p><div><p><b>{escape(stage.name)}</b> {escape(stage.text)}</p>{advice}</div></li>"
    )


def _moment(epoch: float, *, now: float | None) -> str:
    """A time of this host; with `now`, without the date where that is today's."""
    there = time.localtime(epoch)
    today = now is not None and time.localtime(now)[:3] == there[:3]
    shown = time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S" if now is not None else "%H:%M:%S %Z", there)
    return f'<time datetime="{time.strftime("%Y-%m-%dT%H:%M:%S%z", there)}">{shown}</time>'


def marked(text: str) -> str:
    """Escaped, with what stands in backquotes as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))
