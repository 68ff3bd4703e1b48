# SPDX-License-Identifier: MIT
"""The status page as a browser gets it, from a daemon that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path

import pytest

from slurmjcd.health.statuspage import marked
from tests.harness import Daemon, RedisServer, run_dir, wait_until

MakeDaemon = Callable[..., Daemon]
MakeRedis = Callable[..., RedisServer]
FILES = Path(__file__).parents[3] / "slurmjcd" / "health" / "page"
# what no answer may lack
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Reader(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One for all tests that only read."""
    with run_dir() as directory, ExitStack() as stack:
        redis = RedisServer(directory / "redis")
        stack.callback(redis.stop)
        redis.start()
        daemon = Daemon(directory / "jc", redis_address=redis.address)
        stack.callback(daemon.stop)
        daemon.start()
        yield daemon


def stages(daemon: Daemon) -> dict[str, str]:
    document = json.loads(daemon.get("/api/status")[1])
    assert document["schema"] == "slurmjcd.status/1"
    return {stage["key"]: stage["level"] for stage in document["stages"]}


def test_the_page_and_its_files(daemon: Daemon) -> None:
    status, headers, body = daemon.request("/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert HEADERS.items() <= dict(headers).items()
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    # the state is in the page itself
    for name in ("Ring", "Spool", "Shipper", "Redis", "Queries"):
        assert f'scope="row">{name}</th>' in body
    assert "$" not in body, "a placeholder was left"
    reader = Reader(body)
    assert not [tag for tag, attrs in reader.tags if any(name.startswith("on") or name == "style" for name in attrs)]
    assert all(attrs.get("src") for tag, attrs in reader.tags if tag == "script"), "an inline script"
    linked = [attrs.get("src") or attrs.get("href") or "" for tag, attrs in reader.tags if tag in ("script", "link")]
    assert linked
    linked += ["/page/plot.js"]
    for path in linked:
        status, headers, _ = daemon.request(path)
        assert status == 200, path
        assert HEADERS.items() <= dict(headers).items()
        assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert {path.name for path in FILES.iterdir()} >= {path.rpartition("/")[2] for path in linked}


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/../daemon.py", "/page/%2e%2e/daemon.py", "/api"])
def test_nothing_else_is_served(daemon: Daemon, path: str) -> None:
    assert daemon.request(path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/api/status"])
def test_only_get_and_head(daemon: Daemon, path: str) -> None:
    assert daemon.request(path, method="HEAD")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert daemon.request(path, method=method)[0] == 405
    assert daemon.request(path, {"Host": "evil.example"})[0] == 421


@pytest.mark.parametrize(
    "query", ["", "?after=0", "?after=-1", "?after=x", "?after=" + "9" * 400, "?after=%00", "?x=1"]
)
def test_the_history_takes_any_number(daemon: Daemon, query: str) -> None:
    status, _, body = daemon.request(f"/api/history{query}")
    assert status == 200
    document = json.loads(body)
    assert document["schema"] == "slurmjcd.history/1"
    assert all(len(row) == len(document["columns"]) for row in document["rows"])


def test_redis_that_goes_away_and_comes_back_is_told(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    redis = make_redis()
    daemon = make_daemon(redis_address=redis.address)
    wait_until(lambda: stages(daemon)["redis"] == "ok", what="Redis")
    redis.stop()
    wait_until(lambda: stages(daemon)["redis"] == "error", what="the end of Redis")
    assert stages(daemon) == {
        "ring": "idle",
        "spool": "ok",
        "shipper": "warning",
        "redis": "error",
        "queries": "warning",
    }
    body = daemon.get("/")[1]
    assert "Redis is away: records wait, questions fail" in body
    assert "<code>systemctl status redis-server</code>" in body
    redis.start()
    wait_until(lambda: stages(daemon)["redis"] == "ok", what="Redis again")
    body = daemon.get("/")[1]
    assert "All stages work" in body
    assert re.search(r"over after [\d.]+ s", body)
    (trouble,) = json.loads(daemon.get("/api/status")[1])["troubles"]
    assert trouble["kind"] == "away"
    assert trouble["end"] > trouble["start"]


def test_a_daemon_that_only_answers_says_how_its_redis_is(make_redis: MakeRedis, make_daemon: MakeDaemon) -> None:
    settings = {"daemon": {"roles": ["query"]}}
    daemon = make_daemon(redis_address=make_redis().address, settings=settings)
    wait_until(lambda: stages(daemon) == {"redis": "ok", "queries": "ok"}, what="an answer of Redis")


def test_what_a_server_says_is_escaped() -> None:
    assert marked("try `a<b`, not <script>") == "try <code>a&lt;b</code>, not &lt;script&gt;"
