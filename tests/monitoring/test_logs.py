# SPDX-License-Identifier: MIT
"""docs/logs.md has every line that is logged at warning or above, and none that isn't."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import pytest

from slurmjcd.health import advice
from tests.harness import ROOT, Daemon, RedisServer, wait_until
from tests.monitoring.loglines import Line, daemon_lines, module_lines, plugin_lines

PAGE: Final = (ROOT / "docs" / "logs.md").read_text()
_ROW: Final = re.compile(r"^\| `([^`]+)` \| (warning|error|critical|fatal) \| (.+) \| (.+) \|$", re.MULTILINE)
_TABLE_ROW: Final = re.compile(r"^\| `.*$", re.MULTILINE)


def sections(*titles: str) -> str:
    """The text below those headings of second order that begin so."""
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return "\n".join(part for part in parts if part.startswith(titles))


def written(text: str) -> list[Line]:
    return [(level, line) for line, level, *_ in _ROW.findall(text)]


@pytest.mark.parametrize(
    ("title", "lines"),
    [("slurmjcd:", daemon_lines), ("The plugin", plugin_lines), ("The module", module_lines)],
)
def test_the_page_has_each_line_and_no_other(title: str, lines: Callable[[], set[Line]]) -> None:
    text = sections(title)
    there = written(text)
    assert len(there) == len(set(there)) == len(_TABLE_ROW.findall(text))  # each row is one that was read
    assert set(there) == lines()


def test_the_page_has_all_that_is_known_of_redis_words() -> None:
    said = sections("What Redis says")
    assert [sign for sign, _ in advice._REDIS if f"`{sign}`" not in said] == []


def test_links_lead_somewhere() -> None:
    pages = {"": PAGE, "metrics.md": (ROOT / "docs" / "metrics.md").read_text()}
    for page, anchor in set(re.findall(r"\]\(([\w.]*)#([\w-]+)\)", PAGE)):
        headings = re.findall(r"^#+ (.+)$", pages[page], re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


def test_a_line_that_is_logged_is_found_on_the_page(
    make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    redis = make_redis(options={"maxmemory-policy": "allkeys-lru"})
    daemon = make_daemon(redis_address=redis.address)
    redis.kill()
    wait_until(lambda: "records wait in the spool" in daemon.process.log_text(), what="the shipper's line")
    daemon.stop()
    lines = re.findall(r"^\S+ \S+ (?:WARNING|ERROR) (.+)$", daemon.process.log_text(), re.MULTILINE)
    known = {text: ".+".join(map(re.escape, text.split("…"))) for _, text in written(PAGE)}
    found = {max((text for text in known if re.fullmatch(known[text], line)), key=len) for line in lines}
    assert found == {
        "shipper: …; … records wait in the spool",
        "shipper: maxmemory-policy of Redis is …, so it may drop whole days: set noeviction",
    }
