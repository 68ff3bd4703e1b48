# SPDX-License-Identifier: MIT
"""What a browser makes of the status page: `make test-page`, which installs one. `make test` has no browser."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.harness import wait_until
from tests.harness.paths import ROOT
from tests.harness.waiting import scaled

collect_ignore_glob = [] if os.environ.get("SLURMJCD_PAGE") else ["test_*.py"]

TOKEN: Final = "a-token/that+nobody=knows"
PICTURES: Final = ROOT / "build" / "page"
CHROMIUM: Final = "/usr/bin/chromium"  # Debian's
ARGUMENTS: Final = ["--no-sandbox"]  # its sandbox needs what root and containers don't have
# what a browser says of a request that was meant to fail
_EXPECTED: Final = re.compile(r"Failed to load resource: .*(400|401|CONNECTION_REFUSED)")

# from when to when in the half minute Redis is away, and how large the spool may get
STATES: Final[dict[str, tuple[tuple[float, float], int]]] = {
    "healthy": ((13.0, 16.5), 2**32),
    "redis-down": ((26.0, 99.0), 2**32),
    "spool-filling": ((11.0, 99.0), 2_500_000),
}


def settings_with_token(directory: Path, **spool: int) -> dict[str, dict[str, Any]]:
    path = directory / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return {"health": {"token_file": str(path)}, "spool": spool} if spool else {"health": {"token_file": str(path)}}


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One site for each of STATES, with an hour behind it. Tests only look at them."""
    from tests.page.site import running_site  # noqa: PLC0415

    with ExitStack() as stack:
        made = {}
        for name, (_, most) in STATES.items():
            settings = settings_with_token(tmp_path_factory.mktemp(name), max_bytes=most, replay_s=0)
            made[name] = stack.enter_context(running_site(settings, hour=True))

        async def live() -> None:
            await asyncio.gather(*(site.live(away_s=STATES[name][0]) for name, site in made.items()))

        asyncio.run(live())
        wait_until(made["healthy"].well, what="a healthy site")
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open an address in a browser of its own; what that complains of fails the test."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def open_page(url: str, *, scheme: str = "light", width: int = 1280) -> Any:
            context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(scaled(10) * 1000)
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            page.goto(url)
            page.locator("#plots").wait_for(state="visible")
            return page

        yield open_page
    assert not [text for text in complaints if not _EXPECTED.search(text)]


def unlock(page: Any) -> None:
    """As somebody with the token does."""
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Unlock").click()
    page.get_by_role("heading", name="Search").wait_for()
